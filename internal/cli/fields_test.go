package cli

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestFieldsOfALine(t *testing.T) {
	for _, c := range []struct {
		in      string
		ok      bool
		id, key string
	}{
		{`{"id":1,"key":"a"}`, true, "1", "a"},
		{` { "x" : [1,{"id":9}] , "key" : "a\"b" , "id":"é" } `, true, "é", `a"b`},
		{`{"id":1,"id":2}`, true, "2", ""},
		{`{"i\u0064":7}`, true, "7", ""},
		{`{"id":null,"key":true}`, true, "", ""},
		{`{"id":"","key":{}}`, true, "", ""},
		{`{"id":-1.5e3}`, true, "-1.5e3", ""},
		{`{}`, true, "", ""},
		{`[1]`, false, "", ""},
		{`1`, false, "", ""},
		{`"id"`, false, "", ""},
		{`{"id":1`, false, "", ""},
		{``, false, "", ""},
		{"{\"id\":\"\xff\"}", false, "", ""},
		{`{"id":1} {"id":2}`, false, "", ""},
	} {
		values := make([][]byte, 2)
		ok := objectFields([]byte(c.in), []string{"id", "key"}, values)
		if ok != c.ok || string(scalarText(values[0])) != c.id || string(scalarText(values[1])) != c.key {
			t.Errorf("%s: got %v %s %s", c.in, ok, values[0], values[1])
		}
	}
}

// FuzzFields holds the scanner to the standard library.
func FuzzFields(f *testing.F) {
	f.Add(`{"id":1,"x":[{"id":"a"}],"id":"b"}`)
	f.Add(`{"a\\":"\"","id":-0}`)
	f.Fuzz(func(t *testing.T, in string) {
		values := make([][]byte, 1)
		ok := objectFields([]byte(in), []string{"id"}, values)
		var m map[string]json.RawMessage
		err := json.Unmarshal([]byte(in), &m)
		want := err == nil && m != nil && utf8.ValidString(in)
		if ok != want {
			t.Fatalf("%q: got %v, the standard library %v (%v)", in, ok, want, err)
		}
		if ok && string(values[0]) != string(m["id"]) {
			t.Fatalf("%q: got %s, the standard library has %s", in, values[0], m["id"])
		}
	})
}
