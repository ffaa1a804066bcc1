package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestTheSameSeedGivesTheSameTickets(t *testing.T) {
	var a, b, c bytes.Buffer
	for seed, w := range map[uint64]*bytes.Buffer{1: &a, 2: &c} {
		if err := write(w, 50, seed); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(&b, 50, 1); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) || bytes.Equal(a.Bytes(), c.Bytes()) {
		t.Errorf("%v", err)
	}
	texts := map[string]bool{}
	ids := map[string]bool{}
	d := json.NewDecoder(&a)
	for d.More() {
		var k ticket
		if err := d.Decode(&k); err != nil {
			t.Fatal(err)
		}
		texts[k.Subject+k.Body], ids[k.ID] = true, true
	}
	if len(ids) != 50 || len(texts) == 50 {
		t.Errorf("%d tickets with %d texts", len(ids), len(texts))
	}
}
