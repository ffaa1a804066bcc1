package state_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/memory"
)

func openSpace(t testing.TB, s *state.Store, task, step string) *state.Space {
	t.Helper()
	p, err := s.Space(task, step)
	if err != nil {
		t.Fatalf("Space: %v", err)
	}
	return p
}

func newStore(t testing.TB, d state.Driver, c state.Config) *state.Store {
	t.Helper()
	s, err := state.New(d, c)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, p *state.Space, key, value string, expires int64) {
	t.Helper()
	b := p.NewBatch()
	b.Put([]byte(key), []byte(value), expires)
	if err := p.Apply(b); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

func contents(t testing.TB, p *state.Space) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := p.Scan(nil, func(k, v []byte) bool { all[string(k)] = string(v); return true }); err != nil {
		t.Fatalf("Scan: %v", err)
	}
	for k, v := range all {
		found := false
		if err := p.Load([][]byte{[]byte("\xff none"), []byte(k)}, func(i int, got []byte) { found = i == 1 && string(got) == v }); err != nil || !found {
			t.Errorf("key %q is scanned and not loaded: %v", k, err)
		}
	}
	return all
}

func TestSpacesDoNotSeeEachOther(t *testing.T) {
	s := newStore(t, memory.Open(), state.Config{})
	a, b, c := openSpace(t, s, "p/0", "x"), openSpace(t, s, "p/0", "y"), openSpace(t, s, "p/1", "x")
	for i, p := range []*state.Space{a, b, c} {
		put(t, p, "k", fmt.Sprint(i), 5)
		put(t, p, "\xff\xff\xff\xff", "last", 0)
		put(t, p, "", "first", 0)
	}
	if done, err := b.Expire(5, 100); !done || err != nil {
		t.Errorf("Expire: %v, %v", done, err)
	}
	if err := c.Drop(); err != nil {
		t.Fatal(err)
	}
	both := map[string]string{"\xff\xff\xff\xff": "last", "": "first"}
	if d := cmp.Diff(both, contents(t, b)); d != "" {
		t.Error(d)
	}
	both["k"] = "0"
	if d := cmp.Diff(both, contents(t, a)); d != "" {
		t.Error(d)
	}
	if err := c.Scan(nil, nil); !errkind.Is(err, errkind.Closed) {
		t.Errorf("a dropped space: %v", err)
	}
	if n := len(contents(t, openSpace(t, s, "p/1", "x"))); n != 0 {
		t.Errorf("a space opened again after Drop has %d keys", n)
	}
	if _, err := s.Space("p/0", "x"); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a space opened twice: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(both, contents(t, openSpace(t, s, "p/0", "x"))); d != "" {
		t.Errorf("closed and opened again: %s", d)
	}
	var names []string
	for _, p := range s.Spaces() {
		names = append(names, p.Task+" "+p.Step)
	}
	if d := cmp.Diff([]string{"p/0 x", "p/0 y", "p/1 x"}, names); d != "" {
		t.Error(d)
	}
}

func TestSpacesAreFoundAgainInAStoreThatWasMoved(t *testing.T) {
	from := memory.Open()
	s := newStore(t, from, state.Config{})
	put(t, openSpace(t, s, "gone", "x"), "k", "gone", 0)
	put(t, openSpace(t, s, "t", "x"), "k", "v", 0)
	f, err := from.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	to := memory.Open()
	if err := to.Thaw(t.Context(), []string{f.Files()[0].Name}, f.Open); err != nil {
		t.Fatal(err)
	}
	if err := f.Release(true); err != nil {
		t.Fatal(err)
	}
	s = newStore(t, to, state.Config{})
	put(t, openSpace(t, s, "new", "x"), "k", "new", 0)
	if d := cmp.Diff(map[string]string{"k": "v"}, contents(t, openSpace(t, s, "t", "x"))); d != "" {
		t.Error(d)
	}
}

func TestExpireGoesRoundASpaceInSteps(t *testing.T) {
	s := newStore(t, memory.Open(), state.Config{})
	p := openSpace(t, s, "t", "x")
	for i := range 100 {
		put(t, p, fmt.Sprintf("%03d", i), "v", int64(i+1))
	}
	for round := range 2 {
		calls := 0
		for done := false; !done; calls++ {
			var err error
			if done, err = p.Expire(50, 10); err != nil || calls > 20 {
				t.Fatal(calls, err)
			}
		}
		if n := len(contents(t, p)); n != 50 || calls < 5 {
			t.Errorf("round %d: %d keys are left after %d calls", round, n, calls)
		}
	}
}

func TestTheStoresLimitsHold(t *testing.T) {
	s := newStore(t, memory.Open(), state.Config{MaxKeyBytes: 8, MaxValueBytes: 1 << 20, MaxBytes: 20 << 20})
	p, other := openSpace(t, s, "t", "x"), openSpace(t, s, "t", "y")
	refused := func(what string, kind errkind.Kind, b *state.Batch) {
		t.Helper()
		if err := p.Apply(b); !errkind.Is(err, kind) {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
	}
	b := p.NewBatch()
	b.Put([]byte("123456789"), nil, 0)
	refused("a long key", errkind.Invalid, b)
	b.Reset()
	b.Put(nil, make([]byte, 1<<20+1), 0)
	refused("a large value", errkind.Invalid, b)
	refused("a batch of another space", errkind.Invalid, other.NewBatch())
	refused("a batch of none", errkind.Invalid, &state.Batch{})
	value := make([]byte, 1<<20)
	full := false
	for i := 0; i < 60 && !full; i++ {
		b.Reset()
		b.Put(fmt.Append(nil, i), value, 0)
		err := p.Apply(b)
		if full = errkind.Is(err, errkind.Exhausted); err != nil && !full {
			t.Fatal(err)
		}
	}
	if !full {
		t.Fatal("a store of 20 MiB took 60")
	}
	b.Reset()
	for i := range 60 {
		b.Delete(fmt.Append(nil, i))
	}
	if err := p.Apply(b); err != nil {
		t.Errorf("deleting from a full store: %v", err)
	}
	put(t, p, "k", "v", 0)
	if c := p.Counters(); c.Changed.Load() < 60 || c.AppliedBytes.Load() < 20<<20 {
		t.Errorf("counters %d, %d", c.Changed.Load(), c.AppliedBytes.Load())
	}
	st, err := p.Stats()
	if err != nil || st.Keys != 1 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := newStore(t, memory.Open(), state.Config{})
	p := openSpace(t, s, "t", "x")
	b := p.NewBatch()
	b.Put([]byte("k"), nil, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Space("t", "y")
	_, serr := s.Stats()
	_, eerr := p.Expire(0, 1)
	for i, err := range []error{err, serr, eerr, p.Apply(b), p.Load(nil, nil), p.Scan(nil, nil), p.Drop()} {
		if !errkind.Is(err, errkind.Closed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheKeyBehindAPrefix(t *testing.T) {
	for _, tc := range [][2]string{{"a", "b"}, {"a\xff", "b"}, {"a\x00", "a\x01"}, {"\xff\xff", ""}, {"", ""}} {
		if got := state.AfterPrefix([]byte(tc[0])); !bytes.Equal(got, []byte(tc[1])) {
			t.Errorf("behind %q: %q, want %q", tc[0], got, tc[1])
		}
	}
}
