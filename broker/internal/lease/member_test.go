package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

const (
	ttl  = 6 * time.Second
	beat = 500 * time.Millisecond
)

// worker is a member whose leases are gathered as they come.
type worker struct {
	*Member
	t      *testing.T
	mu     sync.Mutex
	leases map[int]*Lease
}

func join(t *testing.T, table Table, partitions int) *worker {
	t.Helper()
	m, err := Join(t.Context(), table, Config{Group: "g", Topic: "t.1", Partitions: partitions, TTL: ttl, Heartbeat: beat})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{Member: m, t: t, leases: map[int]*Lease{}}
	go func() {
		for {
			l, err := m.Next(context.Background())
			if err != nil {
				return
			}
			w.mu.Lock()
			w.leases[l.Partition()] = l
			w.mu.Unlock()
		}
	}()
	return w
}

// held returns the leases that pass Check.
func (w *worker) held() map[int]*Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[int]*Lease{}
	for p, l := range w.leases {
		if err := l.Check(); err == nil {
			out[p] = l
		} else if !errkind.Is(err, errkind.Conflict) {
			w.t.Errorf("Check: %v", err)
		}
	}
	return out
}

// wantShares holds that each partition has one holder, and how many each worker has.
func wantShares(t *testing.T, partitions int, want []int, workers ...*worker) {
	t.Helper()
	synctest.Wait()
	var got []int
	holder := map[int]*worker{}
	for _, w := range workers {
		h := w.held()
		got = append(got, len(h))
		for p := range h {
			if holder[p] != nil {
				t.Errorf("partition %d has two holders", p)
			}
			holder[p] = w
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(holder) != partitions {
		t.Fatalf("%d of %d partitions are held (-want +got)\n%s", len(holder), partitions, diff)
	}
}

func TestMembersShareAsTheyComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		a := join(t, table, 4)
		wantShares(t, 4, []int{4}, a)
		first := a.held()
		if first[0].Epoch() != 1 || first[0].Start() != NoPosition {
			t.Errorf("the first lease has epoch %d and begins at %d", first[0].Epoch(), first[0].Start())
		}
		if err := first[0].Commit(t.Context(), 17); err != nil {
			t.Fatal(err)
		}

		b := join(t, table, 4)
		time.Sleep(2*beat + time.Millisecond)
		wantShares(t, 4, []int{2, 2}, a, b)
		kept := 0
		for p, l := range a.held() {
			if first[p] == l {
				kept++
			}
		}
		if kept != 2 {
			t.Errorf("a kept %d of its two partitions as they were", kept)
		}
		for _, l := range b.held() {
			if l.Epoch() <= first[l.Partition()].Epoch() {
				t.Errorf("partition %d: the epoch did not rise", l.Partition())
			}
		}

		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-first[0].Lost():
		default:
			t.Error("a lease of a member that has left is not lost")
		}
		time.Sleep(beat + time.Millisecond)
		wantShares(t, 4, []int{0, 4}, a, b)
		if got := b.held()[0].Start(); got != 17 {
			t.Errorf("partition 0 continues at %d, not at the committed 17", got)
		}
		at, err := Positions(t.Context(), table, "t.1", "g")
		if diff := cmp.Diff(map[int]int64{0: 17}, at); diff != "" || err != nil {
			t.Errorf("positions: %v (-want +got)\n%s", err, diff)
		}
		if _, err := a.Next(t.Context()); !errkind.Is(err, errkind.Closed) {
			t.Errorf("Next after Close: %v", err)
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMembersThatRaceSettleOnEqualShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		all := make([]*worker, 5)
		var wg sync.WaitGroup
		for i := range all { // at the same moment
			wg.Go(func() { all[i] = join(t, table, 7) })
		}
		wg.Wait()
		time.Sleep(5 * beat)
		synctest.Wait()
		seen := map[int]bool{}
		for _, w := range all {
			h := w.held()
			if len(h) < 1 || len(h) > 2 {
				t.Errorf("a member holds %d of 7 partitions among 5", len(h))
			}
			for p := range h {
				if seen[p] {
					t.Errorf("partition %d has two holders", p)
				}
				seen[p] = true
			}
		}
		if len(seen) != 7 {
			t.Errorf("%d of 7 partitions are held", len(seen))
		}
		for _, w := range all {
			_ = w.Close()
		}
	})
}

func TestWhatADeadMemberHeldIsTakenOverAfterTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		g := &gate{memory: table}
		a, b := join(t, g, 4), join(t, table, 4)
		time.Sleep(3 * beat)
		wantShares(t, 4, []int{2, 2}, a, b)
		g.set(func() { g.failed = true })
		time.Sleep(ttl - beat)
		if n := len(b.held()); n != 2 {
			t.Fatalf("before TTL the other member holds %d", n)
		}
		time.Sleep(3 * beat)
		wantShares(t, 4, []int{0, 4}, a, b)
		_, _ = a.Close(), b.Close()
	})
}

func TestAMemberThatWasCutOffGivesUpBeforeOthersTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		g := &gate{memory: table}
		a := join(t, g, 1)
		synctest.Wait()
		b := join(t, table, 1)
		time.Sleep(3 * beat)
		wantShares(t, 1, []int{1, 0}, a, b)
		l := a.held()[0]
		g.set(func() { g.failed = true })
		for len(b.held()) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		select {
		case <-l.Lost():
		default:
			t.Error("the other member holds what the first one has not given up")
		}
		g.set(func() { g.failed = false }) // it comes back, and finds no share
		time.Sleep(3 * beat)
		wantShares(t, 1, []int{0, 1}, a, b)
		_, _ = a.Close(), b.Close()
	})
}

func TestAFrozenMemberComesBackAsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		g := &gate{memory: table}
		a := join(t, g, 2)
		synctest.Wait()
		zombies := a.held()
		b := join(t, table, 2)
		time.Sleep(3 * beat)
		wantShares(t, 2, []int{1, 1}, a, b)
		zombie := a.held()
		if len(zombie) != 1 {
			t.Fatal(zombie)
		}
		g.set(func() { g.frozen = make(chan struct{}) })
		time.Sleep(2 * ttl)
		for p, l := range zombie {
			a.timer.Stop()
			if err := l.Check(); !errkind.Is(err, errkind.Conflict) {
				t.Errorf("partition %d: a lease that ended while the process was stopped is used: %v", p, err)
			}
		}
		if n := len(b.held()); n != 2 {
			t.Fatalf("the other member holds %d of 2", n)
		}
		close(g.frozen)
		g.set(func() { g.frozen = nil })
		for _, l := range zombies {
			if err := l.Commit(t.Context(), 99); !errkind.Is(err, errkind.Conflict) {
				t.Errorf("a zombie commits: %v", err)
			}
		}
		time.Sleep(3 * beat)
		wantShares(t, 2, []int{1, 1}, a, b)
		if at, _ := Positions(t.Context(), table, "t.1", "g"); len(at) != 0 {
			t.Errorf("a zombie moved the group to %v", at)
		}
		_, _ = a.Close(), b.Close()
	})
}

// TestACommitOnItsWayDuringAStopIsRefused has a write on its way when the
// member is stopped: the table, not the clock, refuses it.
func TestACommitOnItsWayDuringAStopIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		g := &gate{memory: table}
		a := join(t, g, 1)
		synctest.Wait()
		l := a.held()[0]
		b := join(t, table, 1)
		g.set(func() { g.frozen = make(chan struct{}) })
		committed := make(chan error, 1)
		go func() { committed <- l.Commit(context.Background(), 5) }()
		time.Sleep(2 * ttl)
		if err := b.held()[0].Commit(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		close(g.frozen)
		if err := <-committed; !errkind.Is(err, errkind.Conflict) {
			t.Errorf("a zombie commits: %v", err)
		}
		if at, _ := Positions(t.Context(), table, "t.1", "g"); at[0] != 7 {
			t.Errorf("the group is at %d, not at 7", at[0])
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestLostAnswersAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{memory: newMemory()}
		a := join(t, g, 1)
		synctest.Wait()
		l := a.held()[0]
		g.set(func() { g.deaf = true })
		if err := l.Commit(t.Context(), 5); !errkind.Is(err, errkind.Transient) {
			t.Fatalf("a lost answer: %v", err)
		}
		time.Sleep(2 * beat) // and heartbeats, too
		g.set(func() { g.deaf = false })
		if err := l.Commit(t.Context(), 6); err != nil {
			t.Fatalf("after a lost answer: %v", err)
		}
		time.Sleep(2 * beat)
		wantShares(t, 1, []int{1}, a)
		if l2 := a.held()[0]; l2 != l {
			t.Error("the lease was taken anew")
		}
		_ = a.Close()
	})
}

func TestAReleasedPartitionGoesBackToTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := join(t, newMemory(), 2)
		synctest.Wait()
		l := a.held()[1]
		if err := errors.Join(l.Commit(t.Context(), 3), l.Release(), l.Release()); err != nil {
			t.Fatal(err)
		}
		if err := l.Commit(t.Context(), 4); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("Commit after Release: %v", err)
		}
		wantShares(t, 2, []int{2}, a)
		again := a.held()[1]
		if again == l || again.Start() != 3 || again.Epoch() <= l.Epoch() {
			t.Errorf("taken again: at %d with epoch %d", again.Start(), again.Epoch())
		}
		_ = a.Close()
	})
}

func TestAForgottenTopicIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		a := join(t, table, 2)
		synctest.Wait()
		l := a.held()[0]
		if err := Forget(t.Context(), table, "t.1"); err != nil {
			t.Fatal(err)
		}
		if err := l.Commit(t.Context(), 4); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("Commit of a forgotten topic: %v", err)
		}
		_ = a.Close()
		if n := len(table.entries); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newMemory()
		m, err := Join(t.Context(), table, Config{Group: "g", Topic: "t", Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next: %v", err)
		}
		_ = m.Close()
	})
}

func TestJoinFailsWithTheTable(t *testing.T) {
	g := &gate{memory: newMemory(), failed: true}
	if _, err := Join(t.Context(), g, Config{Group: "g", Topic: "t", Partitions: 1}); !errkind.Is(err, errkind.Transient) {
		t.Errorf("Join: %v", err)
	}
	if _, err := Join(t.Context(), g, Config{Group: "g", Topic: "t", Partitions: 1, TTL: time.Second, Heartbeat: time.Second}); !errkind.Is(err, errkind.Config) {
		t.Errorf("Join with a slow heartbeat: %v", err)
	}
}
