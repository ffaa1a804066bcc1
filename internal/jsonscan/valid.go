package jsonscan

// maxDepth is how deep arrays and objects may lie in each other, as in encoding/json.
const maxDepth = 10_000

// Valid reports whether b is one JSON value with white space around it, by the
// same rules as json.Valid. It allocates nothing: json.Valid takes its state
// from a pool, which is empty at times.
func Valid(b []byte) bool {
	var objects [(maxDepth + 63) / 64]uint64 // bit d says that what is open at depth d is an object
	depth := 0
	i := Space(b, 0)
	for {
		// A value begins at i.
		if i >= len(b) {
			return false
		}
		switch c := b[i]; {
		case c == '{' || c == '[':
			if depth == maxDepth {
				return false
			}
			bit := uint64(1) << (depth & 63)
			objects[depth>>6] &^= bit
			if c == '{' {
				objects[depth>>6] |= bit
			}
			depth++
			i = Space(b, i+1)
			if i < len(b) && b[i] == c+2 { // } and ] are two behind { and [
				depth--
				i++
				break
			}
			if c == '{' {
				if i = name(b, i); i < 0 {
					return false
				}
			}
			continue
		case c == '"':
			i = str(b, i)
		case c == 't':
			i = word(b, i, "true")
		case c == 'f':
			i = word(b, i, "false")
		case c == 'n':
			i = word(b, i, "null")
		default:
			i = number(b, i)
		}
		if i < 0 {
			return false
		}
		// A value ended before i.
		for {
			i = Space(b, i)
			if depth == 0 {
				return i == len(b)
			}
			if i >= len(b) {
				return false
			}
			object := objects[(depth-1)>>6]>>((depth-1)&63)&1 != 0
			if b[i] == ',' {
				i = Space(b, i+1)
				if object {
					if i = name(b, i); i < 0 {
						return false
					}
				}
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return false
			}
			depth--
			i++
		}
	}
}

// The functions below return the index behind what begins at i, and -1 where that is not valid.

// name passes the name of a member, the colon and the white space behind it.
func name(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	if i = str(b, i); i < 0 {
		return -1
	}
	if i = Space(b, i); i >= len(b) || b[i] != ':' {
		return -1
	}
	return Space(b, i+1)
}

func str(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return -1
		case c == '\\':
			if i++; i >= len(b) {
				return -1
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(b) || !isHex(b[i]) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func word(b []byte, i int, w string) int {
	if len(b)-i < len(w) || string(b[i:i+len(w)]) != w {
		return -1
	}
	return i + len(w)
}

func number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = digits(b, i); i < 0 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i
}

// digits passes one digit or more.
func digits(b []byte, i int) int {
	if i >= len(b) || !isDigit(b[i]) {
		return -1
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i
}
