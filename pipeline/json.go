package pipeline

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendNumber writes v as a JSON number, the shortest that reads back as the
// same float of this many bits; NaN and infinities, which JSON lacks, are null.
func appendNumber(dst []byte, v float64, bits int) []byte {
	a := math.Abs(v)
	if a < 1<<53 && v == math.Trunc(v) {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	if bits == 64 && a < 1e9 {
		// Four decimals or fewer: of all decimals with up to 15 digits only one
		// reads back as v, so it is the shortest that does.
		if r := math.Round(a * 1e4); r/1e4 == a && r >= 1 {
			return appendDecimal(dst, uint64(r), v < 0)
		}
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	format := byte('f')
	if a < 1e-6 || a >= 1e21 {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, bits)
}

// appendDecimal writes n ten-thousandths, n not divisible by 10,000.
func appendDecimal(dst []byte, n uint64, negative bool) []byte {
	if negative {
		dst = append(dst, '-')
	}
	dst = strconv.AppendUint(dst, n/1e4, 10)
	f := n % 1e4
	d := [5]byte{'.', byte('0' + f/1000), byte('0' + f/100%10), byte('0' + f/10%10), byte('0' + f%10)}
	end := 5
	for d[end-1] == '0' {
		end--
	}
	return append(dst, d[:end]...)
}

func appendInt(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

const hexDigits = "0123456789abcdef"

// plain tells the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString writes s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+4, len(s))]))
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), `\ufffd`...)
				from = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// clock writes instants as RFC 3339 in UTC, remembering the day, which changes seldom.
type clock struct {
	day  int64 // Unix days
	text [11]byte
	ok   bool
}

func (c *clock) append(dst []byte, ns int64) []byte {
	sec, frac := ns/1e9, ns%1e9
	if frac < 0 {
		sec, frac = sec-1, frac+1e9
	}
	day, s := sec/86400, sec%86400
	if s < 0 {
		day, s = day-1, s+86400
	}
	if !c.ok || c.day != day {
		t := time.Unix(day*86400, 0).UTC()
		if y := t.Year(); y < 0 || y > 9999 {
			return t.AppendFormat(dst, time.RFC3339Nano)
		}
		copy(c.text[:], t.AppendFormat(nil, "2006-01-02T"))
		c.day, c.ok = day, true
	}
	dst = append(dst, c.text[:]...)
	dst = two(dst, s/3600)
	dst = append(dst, ':')
	dst = two(dst, s/60%60)
	dst = append(dst, ':')
	dst = two(dst, s%60)
	if frac > 0 {
		var b [9]byte
		for i := 8; i >= 0; i-- {
			b[i] = byte('0' + frac%10)
			frac /= 10
		}
		n := 9
		for b[n-1] == '0' {
			n--
		}
		dst = append(append(dst, '.'), b[:n]...)
	}
	return append(dst, 'Z')
}

func two(dst []byte, v int64) []byte { return append(dst, byte('0'+v/10), byte('0'+v%10)) }
