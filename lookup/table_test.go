package lookup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// server is a driver whose rows are made from their keys: a key that begins
// with "no" is missing, one with "bad" invalid, one with "null" has nulls.
type server struct {
	maxKeys int
	// before is called with each batch; its error is the answer.
	before func(ctx context.Context, keys []string) error

	mu     sync.Mutex
	asked  []string
	closes atomic.Int64
}

var fields = []lookup.Field{{Name: "len", Kind: event.Float}, {Name: "n", Kind: event.Int}, {Name: "long", Kind: event.Bool}, {Name: "name", Kind: event.String}, {Name: "t", Kind: event.Time}}

func (s *server) Capabilities() lookup.Capabilities {
	return lookup.Capabilities{MaxKeys: max(1, s.maxKeys), Times: true, BinaryKeys: true}
}
func (s *server) Fields() []lookup.Field      { return fields }
func (s *server) Check(context.Context) error { return nil }
func (s *server) Close() error                { s.closes.Add(1); return nil }

func (s *server) Get(ctx context.Context, keys []string, rows *lookup.Rows) error {
	if len(keys) > max(1, s.maxKeys) {
		return errkind.Errorf(errkind.Invalid, "%d keys", len(keys))
	}
	s.mu.Lock()
	s.asked = append(s.asked, keys...)
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(ctx, keys); err != nil {
			return err
		}
	}
	for i, key := range keys {
		if strings.HasPrefix(key, "no") {
			continue
		}
		at := int64(len(key)) * 1e9
		rows.Found(i, at)
		if strings.HasPrefix(key, "bad") {
			rows.SetText(i, 0, "many")
		}
		if strings.HasPrefix(key, "null") {
			for j := range fields {
				rows.Columns[j].SetNull(i)
			}
			continue
		}
		rows.Columns[0].Floats[i] = float64(len(key))
		rows.Columns[1].Ints[i] = int64(len(key))
		rows.Columns[2].Bools[i] = len(key) > 3
		rows.Columns[3].Strings[i] = "name of " + key
		rows.Columns[4].Ints[i] = at
	}
	return nil
}

func (s *server) keysAsked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// result is what one Lookup gave, row by row.
type result struct {
	state []lookup.Outcome
	at    []int64
	out   []*event.Column
}

func find(ctx context.Context, t *lookup.Table, keys ...string) (result, error) {
	r := result{make([]lookup.Outcome, len(keys)), make([]int64, len(keys)), make([]*event.Column, len(fields))}
	for i := range r.out {
		r.out[i] = new(event.Column)
	}
	err := t.Lookup(ctx, keys, len(keys), r.out, r.at, r.state)
	return r, err
}

// check compares the rows with those that the server makes.
func (r result) check(keys []string) error {
	for i, key := range keys {
		want := lookup.Found
		if key == "" || strings.HasPrefix(key, "no") || strings.HasPrefix(key, "bad") {
			want = lookup.Missing
		}
		if r.state[i] != want {
			return fmt.Errorf("key %q: %v, want %v", key, r.state[i], want)
		}
		null := want == lookup.Missing || strings.HasPrefix(key, "null")
		for j, c := range r.out {
			if c.IsNull(i) != null {
				return fmt.Errorf("key %q: field %d null %v, want %v", key, j, c.IsNull(i), null)
			}
		}
		at := int64(lookup.Unknown)
		if want == lookup.Found {
			at = int64(len(key)) * 1e9
		}
		if r.at[i] != at {
			return fmt.Errorf("key %q: at %d, want %d", key, r.at[i], at)
		}
		if !null && (r.out[0].Floats[i] != float64(len(key)) || r.out[1].Ints[i] != int64(len(key)) || r.out[2].Bools[i] != (len(key) > 3) ||
			r.out[3].Strings[i] != "name of "+key || r.out[4].Ints[i] != at) {
			return fmt.Errorf("key %q has another row's values: %q", key, r.out[3].Strings[i])
		}
	}
	return nil
}

func newTable(t testing.TB, s *server, c lookup.Config) *lookup.Table {
	table := lookup.New(s, c)
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func mustFind(t testing.TB, table *lookup.Table, keys ...string) {
	t.Helper()
	r, err := find(t.Context(), table, keys...)
	if err == nil {
		err = r.check(keys)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestEachKeyOfABatchIsAskedForOnce(t *testing.T) {
	s := &server{maxKeys: 3}
	table := newTable(t, s, lookup.Config{})
	keys := []string{"a", "bb", "a", "no1", "", "ccc", "no1", "null", "bb", "bad", "dddd"}
	mustFind(t, table, keys...)
	asked := s.keysAsked()
	if n := len(asked); n != 7 {
		t.Errorf("asked for %d keys, want each of the 7 once: %q", n, asked)
	}
	if n := table.Stats().Requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3 of at most 3 keys", n)
	}
	mustFind(t, table, keys...)
	if asked := s.keysAsked(); len(asked) != 0 {
		t.Errorf("asked again for %q", asked)
	}
	st := table.Stats()
	if st.Misses.Load() != 10 || st.Hits.Load() != 10 || st.Missing.Load() != 8 || st.Invalid.Load() != 1 {
		t.Errorf("misses %d, hits %d, missing %d, invalid %d", st.Misses.Load(), st.Hits.Load(), st.Missing.Load(), st.Invalid.Load())
	}
	if n := st.Staleness.Snapshot().Count; n != 14 {
		t.Errorf("%d ages, want one for each of the 14 rows found", n)
	}
}

func TestRowsLiveAsLongAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{maxKeys: 10}
		table := newTable(t, s, lookup.Config{TTL: time.Minute, MissingTTL: 10 * time.Second})
		mustFind(t, table, "a", "no")
		time.Sleep(8 * time.Second)
		mustFind(t, table, "a", "no")
		if got := s.keysAsked(); len(got) != 2 {
			t.Errorf("asked for %q, want both once", got)
		}
		time.Sleep(3 * time.Second)
		mustFind(t, table, "a", "no")
		if got := s.keysAsked(); len(got) != 1 || got[0] != "no" {
			t.Errorf("asked for %q, want the missing key again", got)
		}
		time.Sleep(time.Minute)
		mustFind(t, table, "a", "no")
		if got := s.keysAsked(); len(got) != 2 {
			t.Errorf("asked for %q, want both again", got)
		}
	})
}

func TestWithoutACacheEveryCallAsks(t *testing.T) {
	for _, c := range []lookup.Config{{Rows: -1}, {TTL: -1}} {
		s := &server{maxKeys: 10}
		table := newTable(t, s, c)
		for range 2 {
			mustFind(t, table, "a", "a", "no")
			if got := s.keysAsked(); len(got) != 2 {
				t.Errorf("%+v: asked for %q, want two keys", c, got)
			}
		}
		if table.Cached() != 0 {
			t.Errorf("%+v: %d rows cached", c, table.Cached())
		}
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	for _, c := range []lookup.Config{{Rows: 1}, {Rows: 10}, {Rows: 1000}, {Rows: 1000, Bytes: 4000}} {
		s := &server{maxKeys: 100}
		table := newTable(t, s, c)
		r := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			keys := make([]string, 40)
			for i := range keys {
				keys[i] = strings.Repeat("k", 1+r.IntN(5)) + fmt.Sprint(r.IntN(2000))
				if r.IntN(10) == 0 {
					keys[i] = "no" + keys[i]
				}
			}
			mustFind(t, table, keys...)
		}
		if n := table.Cached(); n > c.Rows+32 || n == 0 {
			t.Errorf("%+v: %d rows cached", c, n)
		}
		if table.Stats().Evicted.Load() == 0 {
			t.Errorf("%+v: nothing evicted", c)
		}
	}
}

func TestRowsInUseOutliveOthers(t *testing.T) {
	s := &server{maxKeys: 10}
	table := newTable(t, s, lookup.Config{Rows: 100})
	mustFind(t, table, "hot")
	for i := range 1000 {
		mustFind(t, table, "hot", fmt.Sprintf("cold%d", i))
	}
	n := 0
	for _, key := range s.keysAsked() {
		if key == "hot" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked %d times for a row that every call reads", n)
	}
}

func TestConcurrentCallersShareRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{maxKeys: 100, before: func(context.Context, []string) error { time.Sleep(100 * time.Millisecond); return nil }}
		table := newTable(t, s, lookup.Config{})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				keys := []string{"a", "b", fmt.Sprintf("own%d", i)}
				r, err := find(t.Context(), table, keys...)
				if err == nil {
					err = r.check(keys)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := s.keysAsked(); len(got) != 12 {
			t.Errorf("asked for %d keys, want 12: %q", len(got), got)
		}
	})
}

func TestACallerThatGivesUpTakesNobodyAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{maxKeys: 100, before: func(ctx context.Context, _ []string) error {
			select {
			case <-time.After(100 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		table := newTable(t, s, lookup.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			r, err := find(ctx, table, "a", "b")
			if !errors.Is(err, context.Canceled) || r.state[0] != lookup.Failed {
				t.Errorf("the one that gives up: got %v, %v", err, r.state)
			}
		})
		synctest.Wait()
		wg.Go(func() { mustFind(t, table, "b", "a", "c") })
		synctest.Wait()
		cancel()
		wg.Wait()
		// The other way round: one that only waits gives up, and the request goes on.
		ctx, cancel = context.WithCancel(t.Context())
		wg.Go(func() { mustFind(t, table, "d") })
		synctest.Wait()
		wg.Go(func() {
			if _, err := find(ctx, table, "d"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

func TestWhatMayPassIsRepeated(t *testing.T) {
	for _, c := range []struct {
		kind  errkind.Kind
		fails int
		calls uint64
		pass  bool
	}{
		{errkind.Transient, 2, 3, true},
		{errkind.Throttled, 1, 2, true},
		{errkind.Transient, 100, 3, false},
		{errkind.Config, 1, 1, false},
		{errkind.Permanent, 1, 1, false},
		{errkind.Unsupported, 1, 1, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var calls int
			s := &server{maxKeys: 10, before: func(context.Context, []string) error {
				if calls++; calls <= c.fails {
					return errkind.New(c.kind, "not now")
				}
				return nil
			}}
			table := newTable(t, s, lookup.Config{})
			r, err := find(t.Context(), table, "a", "")
			if (err == nil) != c.pass || (err != nil && (!errkind.Is(err, c.kind) || lookup.MayPass(err) != c.kind.Retryable())) {
				t.Errorf("%+v: got %v", c, err)
			}
			if !c.pass && (r.state[0] != lookup.Failed || r.state[1] != lookup.Missing || !r.out[0].IsNull(0) || r.at[0] != lookup.Unknown) {
				t.Errorf("%+v: states %v", c, r.state)
			}
			st := table.Stats()
			if n := st.Requests.Load(); n != c.calls || st.Repeats.Load() != n-1 {
				t.Errorf("%+v: %d requests, %d repeats", c, n, st.Repeats.Load())
			}
		})
	}
}

func TestASilentServerCostsOneTimeoutAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		s := &server{maxKeys: 1, before: func(ctx context.Context, _ []string) error {
			if up {
				return nil
			}
			<-ctx.Done()
			return fmt.Errorf("read: %w", ctx.Err())
		}}
		table := newTable(t, s, lookup.Config{Timeout: 300 * time.Millisecond})
		begin := time.Now()
		_, err := find(t.Context(), table, "a", "b", "c", "d") // four requests
		if took := time.Since(begin); took != 300*time.Millisecond || !lookup.MayPass(err) {
			t.Fatalf("took %v: %v", took, err)
		}
		begin = time.Now()
		for range 100 {
			if _, err = find(t.Context(), table, "a", "b"); !lookup.MayPass(err) {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("calls in the pause took %v", took)
		}
		// Pauses grow up to Retry.Max, and Wait waits for their end.
		for range 10 {
			if err := table.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err = find(t.Context(), table, "a"); err == nil {
				t.Fatal("no error")
			}
		}
		begin = time.Now()
		if err := table.Wait(t.Context()); err != nil || time.Since(begin) < 500*time.Millisecond || time.Since(begin) > time.Second {
			t.Errorf("waited %v after many failures: %v", time.Since(begin), err)
		}
		up = true
		mustFind(t, table, "a", "b")
		begin = time.Now()
		if err := table.Wait(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("Wait after a success: %v, %v", time.Since(begin), err)
		}
		if n := table.Stats().Failed.Load(); n != 4+200+10 {
			t.Errorf("%d rows failed", n)
		}
	})
}

func TestAnswersBeforeAFailureCount(t *testing.T) {
	s := &server{maxKeys: 1, before: func(_ context.Context, keys []string) error {
		if keys[0] == "b" {
			return errkind.New(errkind.Config, "no such thing")
		}
		return nil
	}}
	table := newTable(t, s, lookup.Config{Rows: 10})
	r, err := find(t.Context(), table, "a", "b", "c")
	if !errkind.Is(err, errkind.Config) || r.state[1] != lookup.Failed || r.state[0] != lookup.Found {
		t.Fatalf("got %v, %v", r.state, err)
	}
	if err := (result{r.state[:1], r.at, r.out}).check([]string{"a"}); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{maxKeys: 10, before: func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() }}
		table := lookup.New(s, lookup.Config{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := find(t.Context(), table, "a"); !errkind.Is(err, errkind.Closed) {
					t.Errorf("got %v, want a Closed error", err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		if err := table.Close(); err != nil || time.Since(begin) != 0 {
			t.Errorf("Close took %v: %v", time.Since(begin), err)
		}
		wg.Wait()
		if _, err := find(t.Context(), table, "b"); !errkind.Is(err, errkind.Closed) {
			t.Errorf("after Close: %v", err)
		}
		if err := table.Check(t.Context()); !errkind.Is(err, errkind.Closed) {
			t.Errorf("Check after Close: %v", err)
		}
		if err := table.Wait(t.Context()); !errkind.Is(err, errkind.Closed) {
			t.Errorf("Wait after Close: %v", err)
		}
	})
}

func TestADriversPanicLeavesNobodyWaiting(t *testing.T) {
	s := &server{maxKeys: 10, before: func(context.Context, []string) error { panic("driver") }}
	table := newTable(t, s, lookup.Config{})
	func() {
		defer func() { _ = recover() }()
		_, _ = find(t.Context(), table, "a")
	}()
	s.before = nil
	mustFind(t, table, "a")
}

func TestUnusableRowsAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &server{maxKeys: 10}
		table := newTable(t, s, lookup.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		mustFind(t, table, "bad1", "bad2", "bad3")
		mustFind(t, table, "bad4")
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), `field len: \"many\" does not fit kind number`) {
			t.Errorf("%d warnings: %s", n, log.String())
		}
		time.Sleep(time.Minute)
		mustFind(t, table, "bad5")
		if n := strings.Count(log.String(), "level=WARN"); n != 2 || table.Stats().Invalid.Load() != 5 {
			t.Errorf("%d warnings, %d invalid", n, table.Stats().Invalid.Load())
		}
	})
}

func TestWrongCallsAreInvalid(t *testing.T) {
	table := newTable(t, &server{maxKeys: 10}, lookup.Config{})
	out := make([]*event.Column, len(fields))
	for i := range out {
		out[i] = new(event.Column)
	}
	one, two := make([]lookup.Outcome, 1), make([]lookup.Outcome, 2)
	for i, err := range []error{
		table.Lookup(t.Context(), []string{"a"}, 2, out, nil, two),
		table.Lookup(t.Context(), []string{"a", "b"}, 2, out, nil, one),
		table.Lookup(t.Context(), []string{"a", "b"}, 2, out, make([]int64, 1), two),
		table.Lookup(t.Context(), []string{"a", "b"}, 2, out[:1], nil, two),
	} {
		if !errkind.Is(err, errkind.Invalid) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
	if err := table.Lookup(t.Context(), nil, 0, out, nil, nil); err != nil {
		t.Error(err)
	}
}

// Histories of many callers over few keys, a small cache and a server that
// fails now and then: every answer is the key's own.
func TestManyCallersGetTheirOwnRows(t *testing.T) {
	var calls atomic.Int64
	s := &server{maxKeys: 7, before: func(context.Context, []string) error {
		if calls.Add(1)%11 == 0 {
			return errkind.New(errkind.Transient, "not now")
		}
		return nil
	}}
	table := newTable(t, s, lookup.Config{Rows: 600, Bytes: 30_000, TTL: time.Millisecond, Retry: lookup.Retry{Min: time.Microsecond, Max: time.Microsecond, Attempts: 50}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for range 100 {
				keys := make([]string, 1+r.IntN(60))
				for i := range keys {
					keys[i] = []string{"no", "null", "bad", "k", "kk"}[r.IntN(5)] + fmt.Sprint(r.IntN(400))
				}
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(20) == 0 {
					cancel()
				}
				got, err := find(ctx, table, keys...)
				if err == nil {
					err = got.check(keys)
				} else if ctx.Err() != nil || lookup.MayPass(err) {
					err = nil
				}
				cancel()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(true, table.Cached() <= 600+32); diff != "" {
		t.Errorf("%d rows cached", table.Cached())
	}
}
