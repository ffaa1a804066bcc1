package redis

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

// writing is one call of the script.
type writing struct {
	s      *Sender
	keys   []string
	at     map[string]int // of a key in keys, + 1
	n      int
	packed []byte
	fields []byte // of one hash
}

func newWriting(s *Sender) *writing {
	return &writing{s: s, at: map[string]int{}, packed: []byte{0xdd, 0, 0, 0, 0}}
}

func (w *writing) keep() string {
	if w.s.strings {
		return "string"
	}
	return "hash"
}

var errNoKey = errkind.New(errkind.Invalid, "the record has no key to keep it under")

// add takes one result more, or says why it will never be taken.
func (w *writing) add(r *event.Record) error {
	name := r.Key
	if w.s.byID {
		name = r.ID
	}
	if len(name) == 0 {
		return errNoKey
	}
	if len(r.Value) > maxValue {
		return errkind.Errorf(errkind.Invalid, "the value has %d bytes, at most %d are taken", len(r.Value), maxValue)
	}
	n, at, fields, err := w.read(r)
	if err != nil {
		return err
	}
	i := w.at[string(name)]
	if i == 0 {
		key := w.s.prefix + string(name)
		w.keys = append(w.keys, key)
		i = len(w.keys)
		w.at[string(name)] = i
	}
	w.packed = append(w.packed, 0x94) // an array of four
	w.packed = packInt(w.packed, i)
	w.packed = packString(w.packed, version(at))
	w.packed = packString(w.packed, r.ID)
	if w.s.strings {
		w.packed = packString(w.packed, r.Value)
	} else {
		w.packed = append(w.packed, 0xdd, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		w.packed = append(w.packed, fields...)
	}
	w.n++
	return nil
}

// bytes is the finished list of results.
func (w *writing) bytes() []byte {
	w.packed[1], w.packed[2], w.packed[3], w.packed[4] = byte(w.n>>24), byte(w.n>>16), byte(w.n>>8), byte(w.n)
	return w.packed
}

// read finds the time of a result and, for a hash, its fields, n strings packed.
func (w *writing) read(r *event.Record) (n int, at instant, fields []byte, err error) {
	w.fields = w.fields[:0]
	v := r.Value[jsonscan.Space(r.Value, 0):]
	object := len(v) > 0 && v[0] == '{' && utf8.Valid(v) && json.Valid(v)
	if !object && !w.s.strings {
		return 0, at, nil, errkind.New(errkind.Invalid, "the value is no JSON object")
	}
	if object {
		for i := jsonscan.Space(v, 1); v[i] != '}'; {
			nameEnd := jsonscan.Value(v, i)
			name := text(v[i:nameEnd])
			begin := jsonscan.Space(v, jsonscan.Space(v, nameEnd)+1)
			end := jsonscan.Value(v, begin)
			value := v[begin:end]
			if i = jsonscan.Space(v, end); v[i] == ',' {
				i = jsonscan.Space(v, i+1)
			}
			if string(name) == "time" && value[0] == '"' {
				at.parse(text(value))
			}
			if w.s.strings || string(value) == "null" {
				continue
			}
			if string(name) == versionField {
				return 0, at, nil, errkind.Errorf(errkind.Invalid, "the value has a member %s, which is the version's", versionField)
			}
			if value[0] == '"' {
				value = text(value)
			}
			w.fields = packString(packString(w.fields, name), value)
			n += 2
		}
	}
	if !at.known {
		if v, ok := r.Headers.Get(event.HeaderTime); ok {
			at.parse(v)
		}
	}
	if !at.known && r.Time > 0 {
		at = instant{known: true, nanos: r.Time}
	}
	return n, at, w.fields, nil
}

// versionField is the field of a hash that holds its version.
const versionField = "_version"

// text is the content of a JSON string.
func text(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return inner // not reached: the text is valid
	}
	return []byte(s)
}

// instant is the time of a result, where it has one.
type instant struct {
	known bool
	nanos int64
}

func (i *instant) parse(b []byte) {
	if t, err := time.Parse(time.RFC3339Nano, string(b)); err == nil && t.Year() >= 1678 && t.Year() < 2262 {
		*i = instant{known: true, nanos: t.UnixNano()}
	}
}

// version is a time as 20 digits that sort as times do; zeros where there is none.
func version(i instant) string {
	if !i.known {
		return fmt.Sprintf("%020d", 0)
	}
	b := strconv.AppendUint(make([]byte, 0, 20), uint64(i.nanos)+1<<63, 10)
	for len(b) < 20 {
		b = append([]byte{'0'}, b...)
	}
	return string(b)
}

// The functions below write MessagePack, which the script unpacks.

func packInt(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
}

func packString[T string | []byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(len(v)))
	return append(b, v...)
}
