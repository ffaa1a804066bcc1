package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

func groupCases() []suiteCase {
	return []suiteCase{
		{name: "two groups each get everything", run: twoGroups},
		{name: "a group that starts at the latest skips what is there", run: startLatest},
		{name: "members share partitions and take over from those who leave", run: membersShare},
		{name: "what was not committed is delivered again", run: redelivery},
		{name: "a released claim goes back to the group", run: releasedClaim},
		{name: "a revoked claim is a Conflict", run: revokedClaim},
	}
}

func twoGroups(e *env) {
	const n = 300
	topic := e.topic(3)
	for k := range 10 {
		e.publish(topic, numbered(fmt.Sprintf("k%d", k), 0, n/10))
	}
	stored := e.all(topic)
	for _, g := range []string{"g1", "g2"} {
		for p, claim := range e.claims(e.subscribe(topic, g), 3) {
			if got := e.fetchN(claim, len(stored[p])); !slices.Equal(got, stored[p]) {
				e.Errorf("group %s partition %d: what it got differs from what is stored", g, p)
			}
			if len(stored[p]) > 0 {
				e.must("Claim.Commit", claim.Commit(e.ctx, behind(stored[p])))
			}
		}
	}
}

func startLatest(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 10))
	s := broker.Subscription{Topic: topic, Group: "g", Start: broker.Latest}
	before := e.all(topic)[0]
	c := e.join(s)
	claim := e.claim(c)
	if !e.same(before, claim.Start(), behind(before)) {
		e.Errorf("the claim starts at %d, want the end %d", claim.Start(), behind(before))
	}
	e.publish(topic, numbered("a", 10, 10))
	got := e.fetchN(claim, 3)
	if got[0].Value != "10" {
		e.Errorf("the first record is %s at %d, want 10", got[0].Value, got[0].Position)
	}
	e.must("Claim.Commit", claim.Commit(e.ctx, got[2].Position))
	e.must("Consumer.Close", c.Close())
	again := e.claim(e.join(s)) // a committed position wins
	if !e.same(e.all(topic)[0], again.Start(), got[2].Position) {
		e.Errorf("the group continues at %d, want the committed %d", again.Start(), got[2].Position)
	}
}

// sink gathers what members of a group receive.
type sink struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	seen    map[string]int
	total   int
	held    map[string]map[int]bool // member → partitions
}

func newSink() *sink {
	return &sink{changed: make(chan struct{}), seen: map[string]int{}, held: map[string]map[int]bool{}}
}

func (s *sink) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until cond, called with s locked, is true.
func (e *env) await(s *sink, what string, cond func() bool) {
	e.Helper()
	ctx, cancel := e.soon()
	defer cancel()
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		held, seen := fmt.Sprint(s.held), len(s.seen)
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			e.Fatalf("not within %v: %s (%d distinct records; members hold %s)", e.h.Patience, what, seen, held)
		}
	}
}

// member consumes, commits each batch and reports to the sink until stopped.
type member struct {
	e     *env
	name  string
	topic string
	c     broker.Consumer
	s     *sink
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func (e *env) startMember(name, topic, group string, s *sink) *member {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	m := &member{e: e, name: name, topic: topic, c: e.subscribe(topic, group), s: s, stop: cancel}
	s.update(func() { s.held[name] = map[int]bool{} })
	m.wg.Go(func() {
		for {
			claim, err := m.c.Claim(ctx)
			if err != nil {
				m.ended("Claim", err)
				return
			}
			m.s.update(func() { m.s.held[name][claim.Partition()] = true })
			m.wg.Go(func() { m.work(ctx, claim) })
		}
	})
	e.Cleanup(m.leave)
	return m
}

func (m *member) work(ctx context.Context, claim broker.Claim) {
	defer m.s.update(func() { delete(m.s.held[m.name], claim.Partition()) })
	for {
		b, err := claim.Fetch(ctx, 20)
		if err != nil {
			m.ended("Fetch", err)
			return
		}
		next := b.Next()
		m.s.update(func() {
			for i := range b.Records {
				m.s.seen[string(b.Records[i].ID)]++
				m.s.total++
			}
		})
		b.Release()
		if err := claim.Commit(ctx, next); err != nil {
			m.ended("Commit", err)
			return
		}
	}
}

// ended accepts the errors that a member meets when it stops or loses a claim.
func (m *member) ended(what string, err error) {
	if !canceled(err) && !errkind.Is(err, errkind.Conflict) && !errkind.Is(err, errkind.Closed) {
		m.e.Errorf("member %s: %s: %v", m.name, what, err)
	}
}

func (m *member) leave() {
	m.stop()
	m.e.within("a member's calls after their context ended", m.wg.Wait)
	if err := m.c.Close(); err != nil && !errkind.Is(err, errkind.Closed) {
		m.e.Errorf("Consumer.Close: %v", err)
	}
}

func membersShare(e *env) {
	const parts, keys, each = 4, 40, 5
	topic := e.topic(parts)
	s := newSink()
	sent := 0
	send := func() {
		for k := range keys {
			e.publish(topic, numbered(fmt.Sprintf("r%d-k%d", sent, k), 0, each))
		}
		sent += keys * each
	}
	arrived := func() {
		e.Helper()
		e.await(s, "every record arrives", func() bool { return len(s.seen) == sent })
	}
	holds := func(want ...string) func() bool {
		return func() bool { // every partition has one holder, and each of want holds some
			var all []int
			for _, held := range s.held {
				all = append(all, slices.Collect(maps.Keys(held))...)
			}
			slices.Sort(all)
			for _, name := range want {
				if len(s.held[name]) == 0 {
					return false
				}
			}
			return slices.Equal(all, []int{0, 1, 2, 3})
		}
	}
	a := e.startMember("a", topic, "g", s)
	e.await(s, "the only member holds every partition", holds("a"))
	send()
	arrived()
	b := e.startMember("b", topic, "g", s)
	e.await(s, "two members share the partitions", holds("a", "b"))
	send()
	arrived()
	a.leave()
	e.await(s, "the other member takes over", func() bool { return len(s.held["b"]) == parts })
	send()
	arrived()
	b.leave()
	if d := s.total - len(s.seen); d > 0 {
		e.Logf("%d of %d records were delivered again around changes of membership", d, sent)
	}
}

func redelivery(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 20))
	c := e.subscribe(topic, "g")
	claim := e.claim(c)
	got := e.fetchN(claim, 15)
	e.must("Claim.Commit", claim.Commit(e.ctx, got[6].Position))
	e.must("Consumer.Close", c.Close())

	claim = e.claim(e.subscribe(topic, "g"))
	if !e.same(got, claim.Start(), got[6].Position) {
		e.Errorf("the next member starts at %d, want the committed %d", claim.Start(), got[6].Position)
	}
	for i, r := range e.fetchN(claim, 14) {
		if want := fmt.Sprint(6 + i); r.Value != want {
			e.Fatalf("the next member got record %s, want %s", r.Value, want)
		}
	}
}

func releasedClaim(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 10))
	c := e.subscribe(topic, "g")
	claim := e.claim(c)
	got := e.fetchN(claim, 10)
	e.must("Claim.Commit", claim.Commit(e.ctx, got[4].Position))
	e.must("Release", claim.Release())
	e.wantKind("Commit on a released claim", claim.Commit(e.ctx, got[9].Position), errkind.Conflict)
	again := e.claim(c)
	if got := e.fetch(again, 1); got[0].Value != "4" {
		e.Errorf("the claim taken again continues with record %s at %d, want 4", got[0].Value, got[0].Position)
	}
}

// steal makes a second member take one of the first one's two partitions, and
// returns the first one's revoked claim and the second one's.
func (e *env) steal(topic, group string) (revoked, mine broker.Claim) {
	e.Helper()
	claims := e.claims(e.subscribe(topic, group), 2)
	ctx, cancel := e.soon()
	defer cancel()
	b := e.subscribe(topic, group)
	// Brokers that hand a partition over only when its holder asks for records
	// need both members to be at it.
	revokedAt := make(chan int, 2)
	var wg sync.WaitGroup
	for p, c := range claims {
		wg.Go(func() {
			for {
				batch, err := c.Fetch(ctx, 1)
				if errkind.Is(err, errkind.Conflict) {
					revokedAt <- p
				}
				if err != nil {
					return
				}
				batch.Release()
			}
		})
	}
	mine = e.claimUnder(ctx, b)
	select {
	case p := <-revokedAt:
		if p != mine.Partition() {
			e.Errorf("the first member lost partition %d, the second got %d", p, mine.Partition())
		}
	case <-ctx.Done():
		e.Fatal("a partition went to another member, and its first holder's Fetch does not return")
	}
	cancel()
	e.within("Fetch whose context ended", wg.Wait)
	return claims[mine.Partition()], mine
}

func revokedClaim(e *env) {
	topic := e.topic(2)
	revoked, mine := e.steal(topic, "g")
	e.must("Commit by the holder", mine.Commit(e.ctx, mine.Start()))
	e.publish(topic, keyedFor(mine.Partition(), 2, 5))
	recs := e.all(topic)[mine.Partition()]
	_, err := revoked.Fetch(e.ctx, 1)
	e.wantKind("Fetch on a revoked claim", err, errkind.Conflict)
	e.wantKind("Commit on a revoked claim", revoked.Commit(e.ctx, recs[3].Position), errkind.Conflict)
	if got := e.partitionState(topic, "g", mine.Partition()).Committed; !e.same(recs, got, mine.Start()) {
		e.Errorf("the revoked claim moved the group to %d", got)
	}
	if err := revoked.Release(); err != nil && !errkind.Is(err, errkind.Conflict) {
		e.Errorf("Release of a revoked claim: got %v, want none or kind conflict", err)
	}
	e.fetchN(mine, 5)
	e.must("Commit by the holder", mine.Commit(e.ctx, behind(recs)))
}
