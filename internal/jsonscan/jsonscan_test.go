package jsonscan

import (
	"encoding/json"
	"testing"
)

func TestValueEndsWhereItsTextDoes(t *testing.T) {
	for _, v := range []string{
		`1`, `-1.5e+3`, `true`, `null`, `""`, `"a\"b"`, `"\\"`, `"}]"`, `[]`, `{}`, `[1, "]", {"a": [2]}]`, "{\n\t\"a\" : {\"b\":\"}\"}\r\n}",
	} {
		if !json.Valid([]byte(v)) {
			t.Fatalf("%s is not JSON", v)
		}
		for _, behind := range []string{"", ",1", "]", "}", " "} {
			if end := Value([]byte(v+behind), 0); end != len(v) {
				t.Errorf("%s in front of %q ends at %d, not %d", v, behind, end, len(v))
			}
		}
	}
	if i := Space([]byte(" \t\r\n x"), 0); i != 5 {
		t.Errorf("white space ends at %d", i)
	}
}
