package statetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// RunFreezer holds the driver that open returns, empty each time, to the
// contract of state.Freezer, through state.Snapshots.
func RunFreezer(t *testing.T, open func(t testing.TB) state.Freezer) {
	t.Run("a random history is the same after each move", func(t *testing.T) { moves(t, open) })
	t.Run("only what is new is written", func(t *testing.T) { onlyNew(t, open) })
	t.Run("a snapshot that dies leaves the one before or itself", func(t *testing.T) { dyingSnapshots(t, open) })
	t.Run("a frozen state does not change", func(t *testing.T) { frozenStays(t, open) })
	t.Run("damage is found", func(t *testing.T) { damagedSnapshot(t, open) })
	t.Run("there is none before the first", func(t *testing.T) {
		s := openSnapshots(t, NewObjects(), "a")
		if _, err := s.Restore(t.Context(), opened(t, open)); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("Restore: %v", err)
		}
	})
}

func opened(t testing.TB, open func(t testing.TB) state.Freezer) state.Freezer {
	d := open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

func openSnapshots(t testing.TB, o state.Objects, owner string) *state.Snapshots {
	t.Helper()
	s, err := state.OpenSnapshots(t.Context(), o, "p/s/0", owner)
	if err != nil {
		t.Fatalf("OpenSnapshots: %v", err)
	}
	return s
}

func moves(t *testing.T, open func(t testing.TB) state.Freezer) {
	o := NewObjects()
	d := opened(t, open)
	h := &historian{t: t, rng: rand.New(rand.NewPCG(7, 2)), m: model{}}
	s := openSnapshots(t, o, "first")
	for round := range 12 {
		for i := range 100 {
			h.step(d, i)
		}
		mark := fmt.Appendf(nil, "mark %d", round)
		if _, err := s.Take(t.Context(), d, mark); err != nil {
			t.Fatalf("Take: %v", err)
		}
		if round%2 == 0 {
			continue // the same store takes the next, too
		}
		// The task moves: what it does here from now on is lost.
		lost := state.Batch{}
		lost.Put([]byte("lost"), []byte("lost"), 0)
		if err := d.Apply(&lost); err != nil {
			t.Fatal(err)
		}
		old := s
		s = openSnapshots(t, o, fmt.Sprint("owner ", round))
		next := opened(t, open)
		got, err := s.Restore(t.Context(), next)
		if err != nil || !bytes.Equal(got, mark) {
			t.Fatalf("Restore: mark %q, %v", got, err)
		}
		if _, err := old.Take(t.Context(), d, nil); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("the old owner's Take: %v", err)
		}
		d = next
		h.compare(d)
		if t.Failed() {
			t.Fatalf("after move %d", round)
		}
	}
	if _, err := s.Restore(t.Context(), d); err == nil {
		t.Error("a store that is not empty was filled")
	}
}

func onlyNew(t *testing.T, open func(t testing.TB) state.Freezer) {
	d := opened(t, open)
	s := openSnapshots(t, NewObjects(), "a")
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 1000)
	fill := func(from, n int) {
		apply(t, d, func(b *state.Batch) {
			for i := range n {
				for j := range value {
					value[j] = byte(rng.Uint32())
				}
				b.Put(fmt.Appendf(nil, "%06d", from+i), value, 0)
			}
		})
	}
	fill(0, 5000)
	first, err := s.Take(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	fill(9000, 50)
	second, err := s.Take(t.Context(), d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.NewBytes != first.Bytes || first.Bytes < 5_000_000 || second.NewBytes > first.Bytes/10 || second.Bytes < first.Bytes {
		t.Errorf("first %+v, second, with a hundredth more, %+v", first, second)
	}
}

func frozenStays(t *testing.T, open func(t testing.TB) state.Freezer) {
	d := opened(t, open)
	apply(t, d, func(b *state.Batch) {
		b.Put([]byte("a"), []byte("old"), 3)
		b.Put([]byte("b"), []byte("old"), 0)
	})
	f, err := d.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Freeze(); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a second Freeze: %v", err)
	}
	apply(t, d, func(b *state.Batch) {
		b.Put([]byte("a"), []byte("new"), 0)
		b.Delete([]byte("b"))
		b.Put([]byte("c"), []byte("new"), 0)
	})
	var names []string
	for _, file := range f.Files() {
		names = append(names, file.Name)
	}
	other := opened(t, open)
	if err := other.Thaw(t.Context(), names, f.Open); err != nil {
		t.Fatal(err)
	}
	wantValues(t, other, "a", "old", "b", "old", "c", "-")
	wantValues(t, d, "a", "new", "b", "-", "c", "new")
	if err := f.Release(false); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Expire(nil, nil, 3, 10); err != nil {
		t.Fatal(err)
	}
	wantValues(t, other, "a", "-", "b", "old") // the expiry came with the entry
}

func dyingSnapshots(t *testing.T, open func(t testing.TB) state.Freezer) {
	for _, out := range []Outcome{Undone, Done} {
		for at, died := 1, true; died; at++ {
			o := NewObjects()
			d := opened(t, open)
			s := openSnapshots(t, o, "a")
			take := func(round int) error {
				apply(t, d, func(b *state.Batch) { b.Put([]byte("round"), fmt.Append(nil, round), 0) })
				_, err := s.Take(t.Context(), d, fmt.Append(nil, round))
				return err
			}
			if err := take(1); err != nil {
				t.Fatal(err)
			}
			o.StopAt(at, out)
			err2 := take(2)
			var err3 error
			if err2 == nil {
				err3 = take(3)
			}
			died = o.Dead()
			o.Revive()
			s = openSnapshots(t, o, "b")
			next := opened(t, open)
			mark, err := s.Restore(t.Context(), next)
			if err != nil {
				t.Fatalf("died at %d: Restore: %v", at, err)
			}
			wantValues(t, next, "round", string(mark))
			least := "1"
			if err2 == nil {
				least = "2"
			}
			if err2 == nil && err3 == nil {
				least = "3"
			}
			if string(mark) < least {
				t.Errorf("died at %d: round %s came back, %s was durable", at, mark, least)
			}
		}
	}
}

func damagedSnapshot(t *testing.T, open func(t testing.TB) state.Freezer) {
	o := NewObjects()
	d := opened(t, open)
	s := openSnapshots(t, o, "a")
	apply(t, d, func(b *state.Batch) { b.Put([]byte("key"), bytes.Repeat([]byte("value"), 100), 0) })
	if _, err := s.Take(t.Context(), d, []byte("mark")); err != nil {
		t.Fatal(err)
	}
	for _, name := range o.Names() {
		for _, change := range []func(b []byte) []byte{
			func(b []byte) []byte { return append([]byte{1}, b...) },
			func(b []byte) []byte {
				if len(b) == 0 { // some files only have a name
					return nil
				}
				b[len(b)/2] ^= 1
				return b
			},
			func(b []byte) []byte { return b[:max(len(b)-1, 0):max(len(b)-1, 0)] },
			func(b []byte) []byte { return append(b, 0) },
			func([]byte) []byte { return nil },
		} {
			o := o.Clone()
			changed := false
			o.Change(name, func(b []byte) []byte {
				was := bytes.Clone(b)
				b = change(b)
				changed = b == nil || !bytes.Equal(b, was)
				return b
			})
			if !changed {
				continue
			}
			s, err := state.OpenSnapshots(t.Context(), o, "p/s/0", "b")
			if err == nil {
				_, err = s.Restore(t.Context(), opened(t, open))
			}
			if !errkind.Is(err, errkind.Corrupt) && !errkind.Is(err, errkind.NotFound) {
				t.Errorf("damage of %s: %v", name, err)
			}
		}
	}
}
