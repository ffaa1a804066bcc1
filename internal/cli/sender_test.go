package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// recorder keeps what is published, by key.
type recorder struct {
	mu      sync.Mutex
	byKey   map[string][]string
	calls   int
	largest int
	delay   time.Duration
	fail    error
	failAt  int
}

func (r *recorder) Publish(_ context.Context, _ string, recs []event.Record) (broker.Published, error) {
	time.Sleep(r.delay)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.fail != nil && r.calls >= r.failAt {
		return broker.Published{}, r.fail
	}
	if r.byKey == nil {
		r.byKey = map[string][]string{}
	}
	r.largest = max(r.largest, len(recs))
	for i := range recs {
		r.byKey[string(recs[i].Key)] = append(r.byKey[string(recs[i].Key)], string(recs[i].Value))
	}
	return broker.Published{Stored: len(recs)}, nil
}

func TestSenderKeepsOrderPerKeyAndLosesNothing(t *testing.T) {
	for _, partitions := range []int{1, 4, 200} {
		r := &recorder{}
		s := newSender(t.Context(), r, "t", partitions)
		const n = 50_000
		for i := range n {
			var key []byte
			if i%10 != 9 {
				key = strconv.AppendInt(nil, int64(i%100), 10)
			}
			if err := s.add([]byte("id"), key, strconv.AppendInt(nil, int64(i), 10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
		total := 0
		for key, values := range r.byKey {
			total += len(values)
			for i := 1; key != "" && i < len(values); i++ {
				a, _ := strconv.Atoi(values[i-1])
				b, _ := strconv.Atoi(values[i])
				if b != a+100 {
					t.Fatalf("key %s: %d follows %d", key, b, a)
				}
			}
		}
		if total != n || s.stored.Load() != n || r.largest > sendRecords {
			t.Errorf("%d partitions: %d of %d published, counted %d, largest batch %d", partitions, total, n, s.stored.Load(), r.largest)
		}
	}
}

func TestSenderStopsAtTheFirstError(t *testing.T) {
	r := &recorder{fail: errors.New("disk full"), failAt: 3}
	s := newSender(t.Context(), r, "t", 2)
	var err error
	for i := 0; err == nil && i < 1_000_000; i++ {
		err = s.add(nil, strconv.AppendInt(nil, int64(i), 10), []byte("x"))
	}
	ferr := s.finish()
	if fmt.Sprint(err) != "disk full" || fmt.Sprint(ferr) != "disk full" {
		t.Errorf("got %v and %v", err, ferr)
	}
}

func TestEventOfASlowSourceDoesNotWaitForItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		s := newSender(t.Context(), r, "t", 4)
		if err := s.add(nil, []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * sendLinger)
		synctest.Wait()
		r.mu.Lock()
		n := len(r.byKey["k"])
		r.mu.Unlock()
		if n != 1 {
			t.Errorf("%d events published after twice the linger time", n)
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPacerIsAnOpenLoop(t *testing.T) {
	start := time.Unix(0, 0)
	p := pacer{rate: 10, start: start}
	for i, c := range []struct{ now, want time.Duration }{
		{0, 0}, {0, 100 * time.Millisecond}, {150 * time.Millisecond, 50 * time.Millisecond},
		{time.Second, -700 * time.Millisecond}, // late: the schedule does not move
		{time.Second, -600 * time.Millisecond},
	} {
		if got := p.due(start.Add(c.now)); got != c.want {
			t.Errorf("event %d: due in %s, expected %s", i, got, c.want)
		}
	}
}
