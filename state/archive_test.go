package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/statetest"
)

const archiveName = "card-fraud/windows/3"

// sized is the full size of a test, or the one under -short.
func sized[T any](full, short T) T {
	if testing.Short() {
		return short
	}
	return full
}

func openArchive(t testing.TB, o state.Objects, owner string, c state.ArchiveConfig) *state.Archive {
	t.Helper()
	a, err := state.OpenArchive(context.Background(), o, archiveName, owner, c, nil)
	if err != nil {
		t.Fatalf("OpenArchive: %v", err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// restored is what Restore gives.
type restored struct {
	Records []state.Record
	Next    int64
}

func restore(t testing.TB, a *state.Archive) restored {
	t.Helper()
	var got restored
	next, err := a.Restore(context.Background(), func(r state.Record) error {
		r.Value = bytes.Clone(r.Value)
		got.Records = append(got.Records, r)
		return nil
	})
	if err != nil {
		t.Fatalf("Restore: %v", err)
	}
	got.Next = next
	return got
}

// changelog makes records like a task's: cycles begin and end now and then, and
// positions have gaps.
func changelog(seed uint64, n int) []state.Record {
	rng := rand.New(rand.NewPCG(seed, 9))
	var all []state.Record
	at, cycle := int64(rng.IntN(3)), false
	for range n {
		r := state.Record{Position: at, Value: bytes.Repeat(fmt.Appendf(nil, "record %d ", at), rng.IntN(12))}
		switch rng.IntN(6) {
		case 0:
			r.CycleBegin, cycle = !cycle, true
		case 1:
			r.CycleEnd, cycle = cycle, false
		case 2:
			if !cycle {
				r.CycleBegin, r.CycleEnd = true, true
			}
		}
		all = append(all, r)
		at += 1 + int64(rng.IntN(2)*rng.IntN(5))
	}
	return all
}

// needed is the part of records that the last complete cycle leaves.
func needed(records []state.Record) restored {
	from, begin := 0, -1
	for i, r := range records {
		if r.CycleBegin {
			begin = i
		}
		if r.CycleEnd && begin >= 0 {
			from, begin = begin, -1
		}
	}
	if len(records) == 0 {
		return restored{}
	}
	return restored{records[from:], records[len(records)-1].Position + 1}
}

func diff(want, got restored) string {
	for _, r := range []*restored{&want, &got} {
		for i := range r.Records {
			if r.Records[i].Value == nil {
				r.Records[i].Value = []byte{}
			}
		}
	}
	return cmp.Diff(want, got)
}

func TestAnArchiveGivesBackWhatTheLastCycleNeeds(t *testing.T) {
	for seed := range sized(uint64(20), 4) {
		o := statetest.NewObjects()
		rng := rand.New(rand.NewPCG(seed, 1))
		records := changelog(seed, 200)
		config := state.ArchiveConfig{BlockBytes: 1 + rng.IntN(2000), SegmentBytes: 1 + int64(rng.IntN(20000)), ReadAhead: 1 + rng.IntN(4), Compression: state.Compression(seed % 2)}
		a := openArchive(t, o, "a", config)
		for i, r := range records {
			if err := a.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			switch rng.IntN(20) {
			case 0, 1:
				if err := a.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			case 2:
				if err := a.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if d := diff(needed(records[:i+1]), restore(t, a)); d != "" {
					t.Fatalf("seed %d, after %d records, in place: %s", seed, i+1, d)
				}
				a = openArchive(t, o, fmt.Sprint("owner ", i), config)
				if d := diff(needed(records[:i+1]), restore(t, a)); d != "" {
					t.Fatalf("seed %d, after %d records: %s", seed, i+1, d)
				}
				if a.Next() != r.Position+1 {
					t.Fatalf("Next is %d, want %d", a.Next(), r.Position+1)
				}
			}
		}
	}
}

func TestAnArchiveKeepsNoMoreThanItNeeds(t *testing.T) {
	o := statetest.NewObjects()
	a := openArchive(t, o, "a", state.ArchiveConfig{})
	for i := range int64(100) {
		r := state.Record{Position: i, Value: []byte("value"), CycleBegin: i%10 == 0, CycleEnd: i%10 == 9}
		if err := a.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Nothing new is no new manifest.
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(o.Names()); n > 21 {
			t.Fatalf("%d objects after record %d: %q", n, i, o.Names())
		}
	}
	s := a.Stats()
	if s.Segments != 10 || s.Records != 10 || s.From != 90 || s.Next != 100 || s.Flushes != 100 || s.BufferedRecords != 0 || s.BufferedBytes != 0 || s.Leftover != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestWhateverDiesALaterOwnerFindsAPrefixAndNothingElse(t *testing.T) {
	records := changelog(5, 60)
	for _, out := range []statetest.Outcome{statetest.Undone, statetest.Done} {
		for at, died := 1, true; died; at++ {
			o := statetest.NewObjects()
			o.StopAt(at, out)
			flushed, appended := 0, 0
			var failed error
			// Two owners, one after the other.
			for owner := range 2 {
				a, err := state.OpenArchive(t.Context(), o, archiveName, fmt.Sprint("owner ", owner), state.ArchiveConfig{BlockBytes: 64}, nil)
				if failed = err; err != nil {
					break
				}
				for range len(records) / 2 {
					if failed = a.Append(t.Context(), records[appended]); failed != nil {
						break
					}
					appended++
					if appended%3 == 0 {
						if failed = a.Flush(t.Context()); failed != nil {
							break
						}
						flushed = appended
					}
				}
				_ = a.Close()
				if failed != nil {
					break
				}
			}
			died = o.Dead()
			if died && failed == nil && o.Calls("Delete") == 0 {
				t.Fatalf("died at %d, and nobody noticed", at)
			}
			o.Revive()
			a := openArchive(t, o, "survivor", state.ArchiveConfig{})
			got := restore(t, a)
			ok := false
			for n := flushed; n <= appended && !ok; n++ {
				ok = diff(needed(records[:n]), got) == ""
			}
			if !ok {
				t.Fatalf("died at %d (%v), %d records flushed of %d: got %d records up to %d", at, failed, flushed, appended, len(got.Records), got.Next)
			}
			// The survivor goes on, and leaves no garbage of the dead.
			if err := a.Append(t.Context(), state.Record{Position: 1000, Value: []byte("x"), CycleBegin: true, CycleEnd: true}); err != nil {
				t.Fatal(err)
			}
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if names := o.Names(); len(names) != 2 {
				t.Fatalf("died at %d: left are %q", at, names)
			}
		}
	}
}

func TestAFailureThatPassesLosesNothing(t *testing.T) {
	records := changelog(8, 30)
	for _, out := range []statetest.Outcome{statetest.Undone, statetest.Done} {
		for at := 1; at < sized(60, 12); at++ {
			o := statetest.NewObjects()
			a := openArchive(t, o, "a", state.ArchiveConfig{BlockBytes: 100})
			o.FailAt(at, errkind.Transient, out)
			for i, r := range records {
				if err := a.Append(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if i%2 == 1 {
					_ = a.Flush(t.Context()) // one of them fails
				}
			}
			if err := a.Flush(t.Context()); err != nil {
				t.Fatalf("failure at %d: %v", at, err)
			}
			if d := diff(needed(records), restore(t, a)); d != "" {
				t.Fatalf("failure at %d: %s", at, d)
			}
			o.Revive()
			a = openArchive(t, o, "b", state.ArchiveConfig{})
			if d := diff(needed(records), restore(t, a)); d != "" {
				t.Fatalf("failure at %d, next owner: %s", at, d)
			}
		}
	}
}

func TestAnOldOwnerCannotWriteAndDestroysNothing(t *testing.T) {
	o := statetest.NewObjects()
	old := openArchive(t, o, "old", state.ArchiveConfig{})
	add := func(a *state.Archive, at int64, begin, end bool) error {
		if err := a.Append(t.Context(), state.Record{Position: at, CycleBegin: begin, CycleEnd: end, Value: fmt.Append(nil, at)}); err != nil {
			t.Fatal(err)
		}
		return a.Flush(t.Context())
	}
	for i := range int64(3) {
		if err := add(old, i, false, false); err != nil {
			t.Fatal(err)
		}
	}
	// Several owners come and go, so that the manifest that the old one would
	// write was used and deleted.
	var a *state.Archive
	for n := range 4 {
		a = openArchive(t, o, fmt.Sprint("new ", n), state.ArchiveConfig{})
		if err := add(a, int64(3+n), false, false); err != nil {
			t.Fatal(err)
		}
		if err := add(old, int64(100+n), n == 0, n > 0); !errkind.Is(err, errkind.Conflict) || !strings.Contains(err.Error(), "moved") {
			t.Fatalf("the old owner's Flush: %v", err)
		}
	}
	got := restore(t, openArchive(t, o, "last", state.ArchiveConfig{}))
	if len(got.Records) != 7 || got.Next != 7 {
		t.Errorf("restored %d records up to %d", len(got.Records), got.Next)
	}
}

func TestOwnersThatCompeteKeepOneHistory(t *testing.T) {
	o := statetest.NewObjects()
	var mu sync.Mutex
	var flushed []int64 // positions of flushes that returned nil, in any order
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for n := range 30 {
				a, err := state.OpenArchive(context.Background(), o, archiveName, fmt.Sprint(w, "-", n), state.ArchiveConfig{}, nil)
				if errkind.Is(err, errkind.Conflict) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for range 5 {
					at := a.Next()
					if err := a.Append(context.Background(), state.Record{Position: at, Value: fmt.Append(nil, at), CycleBegin: at%7 == 0, CycleEnd: at%7 == 3}); err != nil {
						t.Error(err)
					}
					err := a.Flush(context.Background())
					if errkind.Is(err, errkind.Conflict) {
						break
					}
					if err != nil {
						t.Error(err)
						break
					}
					mu.Lock()
					flushed = append(flushed, at)
					mu.Unlock()
				}
				_ = a.Close()
			}
		})
	}
	all.Wait()
	seen := map[int64]int{}
	most := int64(-1)
	for _, at := range flushed {
		seen[at]++
		most = max(most, at)
		if seen[at] > 1 {
			t.Errorf("position %d was flushed by two owners", at)
		}
	}
	got := restore(t, openArchive(t, o, "last", state.ArchiveConfig{}))
	for i, r := range got.Records {
		if string(r.Value) != fmt.Sprint(r.Position) || r.Position != got.Records[0].Position+int64(i) {
			t.Errorf("record %d is %d with %q", i, r.Position, r.Value)
		}
	}
	if got.Next < most+1 || len(flushed) == 0 {
		t.Errorf("the archive ends at %d, %d was flushed", got.Next, most)
	}
}

func TestEveryDamagedByteIsFound(t *testing.T) {
	o := statetest.NewObjects()
	a := openArchive(t, o, "a", state.ArchiveConfig{BlockBytes: 60})
	for i := range int64(12) {
		if err := a.Append(t.Context(), state.Record{Position: i, Value: bytes.Repeat([]byte{byte(i)}, 30)}); err != nil {
			t.Fatal(err)
		}
		if i%6 == 5 {
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	try := func(what string, change func(o *statetest.Objects)) {
		t.Helper()
		o := o.Clone()
		change(o)
		a, err := state.OpenArchive(t.Context(), o, archiveName, "b", state.ArchiveConfig{}, nil)
		if err == nil {
			_, err = a.Restore(t.Context(), func(state.Record) error { return nil })
		}
		if !errkind.Is(err, errkind.Corrupt) && !(strings.Contains(what, "version") && errkind.Is(err, errkind.Unsupported)) {
			t.Errorf("%s: %v", what, err)
		} else if !strings.Contains(err.Error(), archiveName) {
			t.Errorf("%s: the error names no object: %v", what, err)
		}
	}
	var objects []string
	for _, name := range o.Names() {
		var size int
		o.Change(name, func(b []byte) []byte { size = len(b); return b })
		for i := 0; i < size; i += sized(1, 7) {
			what := "byte"
			if i == 4 {
				what = "version byte"
			}
			try(fmt.Sprintf("%s %d of %s", what, i, name), func(o *statetest.Objects) {
				o.Change(name, func(b []byte) []byte { b[i] ^= 0x41; return b })
			})
			try(fmt.Sprintf("%s cut at %d", name, i), func(o *statetest.Objects) {
				o.Change(name, func(b []byte) []byte { return b[:i:i] })
			})
		}
		try(name+" made longer", func(o *statetest.Objects) { o.Change(name, func(b []byte) []byte { return append(b, 0) }) })
		if strings.Contains(name, "/data-") {
			objects = append(objects, name)
			try(name+" missing", func(o *statetest.Objects) { o.Change(name, func([]byte) []byte { return nil }) })
		}
	}
	try("two objects changed places", func(o *statetest.Objects) {
		var first []byte
		o.Change(objects[0], func(b []byte) []byte { first = b; return b })
		o.Change(objects[1], func([]byte) []byte { return first })
	})
}

func TestAnArchiveRefusesWhatItCannotKeep(t *testing.T) {
	o := statetest.NewObjects()
	a := openArchive(t, o, "a", state.ArchiveConfig{})
	if err := a.Append(t.Context(), state.Record{Position: 7}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []state.Record{{Position: 7}, {Position: 3}, {Position: 8, Value: make([]byte, 64<<20+1)}} {
		if err := a.Append(t.Context(), r); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("position %d, %d bytes: %v", r.Position, len(r.Value), err)
		}
	}
	for _, name := range []string{"", "/", "a//b", "../a", "a/.b", "a b", "ä"} {
		if _, err := state.OpenArchive(t.Context(), o, name, "a", state.ArchiveConfig{}, nil); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	stop := errors.New("stop")
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Restore(t.Context(), func(state.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("visit's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Restore(ctx, func(state.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Restore: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Append(t.Context(), state.Record{Position: 9}); !errkind.Is(err, errkind.Closed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAnArchiveBeginsAnewWhereTheChangelogDoes(t *testing.T) {
	o := statetest.NewObjects()
	a := openArchive(t, o, "a", state.ArchiveConfig{})
	for i := range int64(5) {
		if err := a.Append(t.Context(), state.Record{Position: i, Value: []byte("old")}); err != nil {
			t.Fatal(err)
		}
		if i == 3 {
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.Reset(2); err != nil {
		t.Fatal(err)
	}
	if err := a.Append(t.Context(), state.Record{Position: 3, Value: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	a = openArchive(t, o, "b", state.ArchiveConfig{})
	want := restored{[]state.Record{{Position: 3, Value: []byte("new")}}, 4}
	if d := diff(want, restore(t, a)); d != "" {
		t.Error(d)
	}
	if n := len(o.Names()); n != 2 {
		t.Errorf("left are %q", o.Names())
	}
}

func TestAppendGoesOnWhileAFlushIsUnderWay(t *testing.T) {
	o := statetest.NewObjects()
	a := openArchive(t, o, "a", state.ArchiveConfig{BlockBytes: 200, SegmentBytes: 4000})
	records := changelog(3, 2000)
	var flusher sync.WaitGroup
	stop := make(chan struct{})
	flusher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := a.Flush(context.Background()); err != nil {
					t.Error(err)
					return
				}
				_ = a.Stats()
			}
		}
	})
	for _, r := range records {
		if err := a.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	flusher.Wait()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := diff(needed(records), restore(t, openArchive(t, o, "b", state.ArchiveConfig{}))); d != "" {
		t.Error(d)
	}
}

func TestAnArchiveKnowsItsAge(t *testing.T) {
	o := statetest.NewObjects()
	at := time.UnixMilli(1_700_000_000_000)
	a, err := state.OpenArchive(t.Context(), o, archiveName, "a", state.ArchiveConfig{}, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	if !a.Stats().FlushedAt.IsZero() {
		t.Error("an archive that was never flushed has an age")
	}
	if err := a.Append(t.Context(), state.Record{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := openArchive(t, o, "b", state.ArchiveConfig{})
	if !a.Stats().FlushedAt.Equal(at) || !b.Stats().FlushedAt.Equal(at) {
		t.Errorf("flushed at %v, %v, want %v", a.Stats().FlushedAt, b.Stats().FlushedAt, at)
	}
}
