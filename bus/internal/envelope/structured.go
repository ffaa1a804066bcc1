package envelope

import (
	"bytes"
	"crypto/rand"
	"slices"

	"github.com/freshet-io/freshet/event"
)

// extension is the CloudEvents attribute that holds a packed record.
const extension = "freshetrecord"

// AppendStructured appends r as one CloudEvent in JSON. A record without ID gets
// a random one there, and none again in FromStructured.
func AppendStructured(dst []byte, r *event.Record) []byte {
	if event.ModeOf(r.Headers) == event.Structured {
		var e event.Envelope
		if e.Parse(r.Value) == nil {
			return append(dst, r.Value...)
		}
	}
	x := event.Record{ID: r.ID, Key: r.Key, Headers: r.Headers, Value: r.Value, Time: r.Time}
	if len(r.ID) == 0 {
		x.ID = []byte(rand.Text())
	}
	at := len(dst)
	dst = event.AppendStructured(dst, &x)
	got, err := event.FromStructured(dst[at:])
	if err == nil && len(r.ID) > 0 && bytes.Equal(got.ID, r.ID) && bytes.Equal(got.Key, r.Key) && bytes.Equal(got.Headers, r.Headers) {
		return dst
	}
	if err != nil || !bytes.Equal(got.ID, x.ID) || !bytes.Equal(got.Key, r.Key) {
		// Something in it is no CloudEvents attribute: only what surely is, then.
		x = event.Record{ID: []byte(rand.Text()), Value: r.Value, Time: r.Time}
		dst = event.AppendStructured(dst[:at], &x)
	}
	id := !bytes.Equal(x.ID, r.ID)
	key := !bytes.Equal(x.Key, r.Key)
	member := `"` + extension + `":"` + PackedText(pack(r, id, key)) + `",`
	return slices.Insert(dst, at+1, []byte(member)...)
}

// FromStructured reads what AppendStructured wrote, and any other CloudEvent in
// JSON; it reports false for everything else. The record may alias b.
func FromStructured(b []byte) (event.Record, bool) {
	if first := bytes.TrimLeft(b, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return event.Record{}, false
	}
	r, err := event.FromStructured(b)
	if err != nil {
		return event.Record{}, false
	}
	if v, ok := r.Headers.Get(headerPrefix + extension); ok {
		unpackText(string(v), &r)
	}
	if len(r.ID) == 0 {
		r.ID = nil
	}
	return r, true
}
