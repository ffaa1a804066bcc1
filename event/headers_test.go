package event

import "testing"

func TestHeadersRoundTrip(t *testing.T) {
	var h Headers
	h = h.AppendString("ce_type", "a").Append("x", nil).AppendString("ce_type", "b")
	if v, ok := h.Get("ce_type"); !ok || string(v) != "a" {
		t.Fatalf("Get returns the first value, got %q %v", v, ok)
	}
	if v, ok := h.Get("x"); !ok || len(v) != 0 {
		t.Fatalf("empty value: got %q %v", v, ok)
	}
	if _, ok := h.Get("y"); ok {
		t.Fatal("found a key that is not there")
	}
	n := 0
	for range h.All() {
		n++
	}
	if n != 3 || !h.Valid() {
		t.Fatalf("n=%d valid=%v", n, h.Valid())
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte(Headers(nil).AppendString("a", "b")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		h := Headers(b)
		h.Get("a")
		for k, v := range h.All() {
			_, _ = k, v
		}
		h.Valid()
	})
}
