package statetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/state"
)

// model is the plainest store there is.
type model map[string]modelEntry

type modelEntry struct {
	value   string
	expires int64
}

func (m model) keys(from, to string) []string {
	var keys []string
	for k := range m {
		if k >= from && (to == "" || k < to) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (m model) expire(from, to string, now int64, limit int) (next string) {
	for i, k := range m.keys(from, to) {
		if i == limit {
			return k
		}
		if e := m[k]; e.expires != 0 && e.expires <= now {
			delete(m, k)
		}
	}
	return ""
}

// history makes random changes and compares d with a map after each; it
// returns the map.
func history(t testing.TB, d state.Driver, seed uint64, steps int) model {
	t.Helper()
	m := model{}
	h := &historian{t: t, rng: rand.New(rand.NewPCG(seed, 2)), m: m}
	for i := range steps {
		h.step(d, i)
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, i)
		}
	}
	h.compare(d)
	return m
}

type historian struct {
	t   testing.TB
	rng *rand.Rand
	m   model
}

func (h *historian) key() string {
	k := fmt.Sprintf("%c%03d", 'a'+h.rng.IntN(4), h.rng.IntN(400))
	if h.rng.IntN(8) == 0 {
		k += strings.Repeat("\xff\x00"[h.rng.IntN(2):][:1], 1+h.rng.IntN(3))
	}
	return k
}

func (h *historian) span() (string, string) {
	a, b := h.key(), h.key()
	if h.rng.IntN(4) == 0 {
		b = a[:1] + "~"
	}
	return min(a, b), max(a, b)
}

func (h *historian) step(d state.Driver, i int) {
	t, rng := h.t, h.rng
	switch p := rng.IntN(100); {
	case p < 50:
		var b state.Batch
		for range 1 + rng.IntN(30) {
			k := h.key()
			switch q := rng.IntN(40); {
			case q < 28:
				e := modelEntry{value: strings.Repeat(fmt.Sprint(i, " "), rng.IntN(40)), expires: int64(rng.IntN(3) * rng.IntN(1000))}
				b.Put([]byte(k), []byte(e.value), e.expires)
				h.m[k] = e
			case q < 39:
				b.Delete([]byte(k))
				delete(h.m, k)
			default:
				from, to := h.span()
				to = min(to, from[:1]+from[1:3]+"~") // a few keys
				b.DeleteRange([]byte(from), []byte(to))
				for _, k := range h.m.keys(from, to) {
					if from < to {
						delete(h.m, k)
					}
				}
			}
		}
		if err := d.Apply(&b); err != nil {
			t.Errorf("Apply: %v", err)
		}
	case p < 80:
		keys := make([]string, 1+rng.IntN(50))
		for i := range keys {
			keys[i] = h.key()
		}
		for i, v := range load(t, d, keys...) {
			e, ok := h.m[keys[i]]
			if ok != (v != nil) || string(v) != e.value {
				t.Errorf("key %q: %q, want %q (%v)", keys[i], v, e.value, ok)
			}
		}
	case p < 90:
		from, to := h.span()
		h.compareRange(d, from, to)
	default:
		from, to := h.span()
		now, limit := int64(rng.IntN(1000)), rng.IntN(30)
		next, err := d.Expire([]byte(from), []byte(to), now, limit)
		if want := h.m.expire(from, to, now, limit); err != nil || string(next) != want {
			t.Errorf("Expire(%q, %q, %d, %d) = %q, %v, want %q", from, to, now, limit, next, err, want)
		}
	}
}

func (h *historian) compareRange(d state.Driver, from, to string) {
	want := h.m.keys(from, to)
	i := 0
	err := d.Scan([]byte(from), []byte(to), func(k, v []byte) bool {
		if i >= len(want) || string(k) != want[i] || string(v) != h.m[want[i]].value {
			h.t.Errorf("Scan(%q, %q): entry %d is %q = %q", from, to, i, k, v)
			return false
		}
		i++
		return true
	})
	if err != nil || i != len(want) {
		h.t.Errorf("Scan(%q, %q) gave %d entries of %d, %v", from, to, i, len(want), err)
	}
}

func (h *historian) compare(d state.Driver) { h.compareRange(d, "", "") }

// Compare makes the same random histories with a and b, and fails where they
// ever answer differently.
func Compare(t *testing.T, a, b state.Driver, seed uint64, steps int) {
	t.Helper()
	ha := &historian{t: t, rng: rand.New(rand.NewPCG(seed, 2)), m: model{}}
	hb := &historian{t: t, rng: rand.New(rand.NewPCG(seed, 2)), m: model{}}
	for i := range steps {
		ha.step(a, i)
		hb.step(b, i)
		if i%64 == 0 || i == steps-1 {
			if da, db := dump(t, a), dump(t, b); !bytes.Equal(da, db) || !maps.Equal(ha.m, hb.m) {
				t.Errorf("after %d steps the drivers differ", i+1)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, i)
		}
	}
}

func dump(t testing.TB, d state.Driver) []byte {
	t.Helper()
	var all []byte
	if err := d.Scan(nil, nil, func(k, v []byte) bool {
		all = fmt.Appendf(all, "%q = %q\n", k, v)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
