package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
)

var texts = []string{
	``, ` `, `0`, `-0`, `01`, `-`, `1.`, `.5`, `1.5e`, `1e+`, `1E-07`, `12.50`, `+1`, `1 2`, ` 1 `, `0x1`, `1e5.2`,
	`true`, `tru`, `truex`, `false`, `null`, `nul`, `"`, `"a`, `"a"`, `"a"b`, "\"\n\"", "\"\x7f\xff\"", `"\`, `"\"`, `"\\"`, `"\x"`, `"\/\b\f\n\r\t"`,
	`"\u12`, `"\u12fG"`, `"\uD8aF"`, `"\u12"`, `[`, `]`, `[]`, `[ ]`, `[,]`, `[1,]`, `[1 2]`, `[1,2]`, `[1}`, `[[]`, `[[],{}]`, `[{]}`,
	`{`, `}`, `{}`, `{ }`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{1:2}`, `{a:1}`, `{"a":1]`, `{"a" : [1, {"b":null}] , "a":"x"}`, "\ufeff1", "\v1",
}

func TestValidAgreesWithTheStandardLibrary(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	mixed := func(n int) string { return strings.Repeat(`[{"a":`, n) + "1" + strings.Repeat("}]", n) }
	for _, s := range append([]string{deep(64), deep(65), deep(9_999), deep(10_000), deep(10_001), mixed(200), mixed(5_000), mixed(5_001)}, texts...) {
		if got, want := Valid([]byte(s)), json.Valid([]byte(s)); got != want {
			t.Errorf("%.60q: %v, want %v", s, got, want)
		}
	}
}

func TestValidAllocatesNothing(t *testing.T) {
	b := []byte(`{"a":[1,-2.5e3,"x\n",{"b":[[[[[[[[null]]]]]]]]}]}`)
	if n := testing.AllocsPerRun(100, func() { Valid(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzValid(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := Valid(b), json.Valid(b); got != want {
			t.Fatalf("%q: %v, want %v", b, got, want)
		}
	})
}

var payment = []byte(`{"specversion":"1.0","id":"a-1","source":"/pos","type":"pay","time":"2018-04-01T00:00:31Z","traceparent":"x","data":{"amount":57.16}}`)

func BenchmarkValid(b *testing.B) {
	for b.Loop() {
		Valid(payment)
	}
}

func BenchmarkValidOfTheStandardLibrary(b *testing.B) {
	for b.Loop() {
		json.Valid(payment)
	}
}
