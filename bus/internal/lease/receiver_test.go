package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// queue brings what is put into it and notes what is done to it.
type queue struct {
	arrive chan []Message
	fail   chan error

	mu                        sync.Mutex
	pulls                     int
	acked, released, extended []string
	lost                      map[string]bool
}

func newQueue() *queue {
	return &queue{arrive: make(chan []Message, 10), fail: make(chan error, 10), lost: map[string]bool{}}
}

func (q *queue) Pull(ctx context.Context, _ int) ([]Message, error) {
	q.mu.Lock()
	q.pulls++
	q.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m := <-q.arrive:
		return m, nil
	case err := <-q.fail:
		return nil, err
	}
}

func (q *queue) note(to *[]string, tokens []string) (lost []int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*to = append(*to, tokens...)
	for i, t := range tokens {
		if q.lost[t] {
			lost = append(lost, i)
		}
	}
	return lost
}

func (q *queue) Ack(_ context.Context, tokens []string) ([]int, error) {
	return q.note(&q.acked, tokens), nil
}

func (q *queue) Release(_ context.Context, tokens []string) error {
	q.note(&q.released, tokens)
	return nil
}

func (q *queue) Extend(_ context.Context, tokens []string) ([]int, error) {
	return q.note(&q.extended, tokens), nil
}

func (q *queue) read(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
}

func open(t *testing.T, q *queue, lease time.Duration) *Receiver {
	t.Helper()
	r := New(q, Options{Lease: lease, Pulls: 1, PullMax: 10, Batch: 3, Unacknowledged: 10, CloseTimeout: time.Second, Where: "q"})
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func messages(from, n int, group string) []Message {
	var m []Message
	for i := from; i < from+n; i++ {
		m = append(m, Message{Token: fmt.Sprint(i), Group: group, Record: event.Record{ID: fmt.Append(nil, i)}})
	}
	return m
}

func take(t *testing.T, r *Receiver, n int) []bus.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []bus.Message
	for len(all) < n {
		got, err := r.Receive(ctx, n-len(all))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

func TestAFailureIsToldOnceAndTheNextAttemptIsTheCallers(t *testing.T) {
	q := newQueue()
	r := open(t, q, time.Minute)
	q.fail <- errkind.New(errkind.Throttled, "slow")
	if _, err := r.Receive(t.Context(), 1); !errkind.Is(err, errkind.Throttled) {
		t.Fatalf("got %v", err)
	}
	q.read(func() {
		if q.pulls != 1 {
			t.Errorf("%d pulls before the caller asked again", q.pulls)
		}
	})
	q.arrive <- messages(0, 1, "")
	take(t, r, 1)
}

func TestAGroupIsGivenBackWhole(t *testing.T) {
	q := newQueue()
	r := open(t, q, time.Minute)
	q.arrive <- slices.Concat(messages(0, 3, "a"), messages(3, 1, "b"))
	first := take(t, r, 1)
	if err := r.Nack(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := take(t, r, 1); string(got[0].Record.ID) != "3" {
		t.Errorf("message %s of the group is handed out behind one that was given back", got[0].Record.ID)
	}
	eventually(t, "the group is released", func() (ok bool) {
		q.read(func() { ok = slices.Equal(q.released, []string{"0", "1", "2"}) })
		return ok
	})
}

func TestWhatIsLostIsNotHandedOutAndItsAcknowledgementIsAConflict(t *testing.T) {
	q := newQueue()
	r := open(t, q, 300*time.Millisecond)
	q.arrive <- messages(0, 2, "")
	got := take(t, r, 1)
	q.read(func() { q.lost["0"], q.lost["1"] = true, true })
	eventually(t, "the leases are extended in vain", func() (ok bool) {
		q.read(func() { ok = slices.Contains(q.extended, "0") && slices.Contains(q.extended, "1") })
		return ok
	})
	q.arrive <- messages(2, 1, "")
	if next := take(t, r, 1); string(next[0].Record.ID) != "2" {
		t.Errorf("message %s is handed out, whose lease was lost", next[0].Record.ID)
	}
	if err := r.Ack(t.Context(), got); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("got %v, want a Conflict", err)
	}
}

func TestCloseGivesEverythingBack(t *testing.T) {
	q := newQueue()
	r := open(t, q, time.Minute)
	q.arrive <- messages(0, 8, "")
	got := take(t, r, 5)
	if err := r.Ack(t.Context(), got[:2]); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(q.released)
	if !slices.Equal(q.released, []string{"2", "3", "4", "5", "6", "7"}) {
		t.Errorf("released are %v", q.released)
	}
}
