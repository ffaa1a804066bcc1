package redis

import (
	"encoding/json"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func FuzzResults(f *testing.F) {
	f.Add([]byte(` {"time":"2024-05-01T10:00:01Z","a":[1,{"b":"}"}],"\u0061":null} `), "k", "i", "2024-05-01T10:00:01Z")
	f.Add([]byte(`{}`), "", "", "")
	f.Add([]byte("{\"a\":\"\xff\"}"), "k", "", "x")
	f.Fuzz(func(t *testing.T, value []byte, key, id, at string) {
		r := event.Record{Key: []byte(key), ID: []byte(id), Value: value, Headers: event.Headers(nil).AppendString(event.HeaderTime, at)}
		for _, keep := range []bool{false, true} {
			w := newWriting(&Sender{strings: keep})
			err := w.add(&r)
			var object map[string]any
			if err == nil && !keep && json.Unmarshal(value, &object) != nil {
				t.Fatalf("%q is no object and was taken", value)
			}
			if err != nil && (!errkind.Is(err, errkind.Invalid) || w.n != 0 || len(w.keys) != 0) {
				t.Fatalf("%v, %d taken", err, w.n)
			}
		}
	})
}

func TestVersionsSortAsTimesDo(t *testing.T) {
	last := version(instant{})
	for _, s := range []string{"1700-01-01T00:00:00Z", "1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z", "2024-05-01T10:00:01Z", "2024-05-01T10:00:01.000000001Z", "2261-12-31T00:00:00Z"} {
		var i instant
		i.parse([]byte(s))
		if v := version(i); !i.known || len(v) != 20 || v <= last {
			t.Errorf("%s: %s after %s", s, v, last)
		} else {
			last = v
		}
	}
	for _, s := range []string{"", "yesterday", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"} {
		var i instant
		if i.parse([]byte(s)); i.known {
			t.Errorf("%s is a time", s)
		}
	}
}
