package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// group is several members that run the chain on one journal.
type group struct {
	*setup
	journal *journal.Journal
	folder  string // of checkpoints; empty without
	paged   bool   // memory holds a few keys only

	mu     sync.Mutex
	owners map[string]*link // of each partition of each topic, the last
	moves  int              // how often a partition went to another member
}

func newGroup(t *testing.T, place string) *group {
	g := &group{setup: newSetup(t, chain), owners: map[string]*link{}}
	g.journal = g.j.(*journal.Journal)
	g.paged = place == "in a store"
	if place != "on the broker" {
		g.folder = filepath.Join(t.TempDir(), "checkpoints")
	}
	createVisits(t, g.b)
	return g
}

// member is one process of the group: a pipeline with a broker client of its own.
type member struct {
	p    *pipeline.Pipeline
	link *link
	stop context.CancelFunc
	done chan error
}

func (g *group) join(l *link) *member {
	g.t.Helper()
	l.Journal, l.group = g.journal, g
	spec, faults := pipeline.Load(g.file, nil)
	if faults != nil {
		g.t.Fatal(pipeline.Error(faults))
	}
	if g.folder != "" {
		spec.State.Checkpoints, spec.State.Every = "file://"+g.folder, 5*time.Millisecond
	}
	if g.paged {
		spec.State.Store, spec.State.Memory = "map", 16<<10
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(g.open))
	if faults != nil {
		g.t.Fatal(pipeline.Error(faults))
	}
	// The member's broker is left open: closing it would close the journal.
	deps := builtin.PipelineDeps(broker.New(l, broker.Options{}), slog.New(slog.DiscardHandler), g.t.TempDir())
	deps.OpenStore = openMap
	p, err := pipeline.New(plan, deps)
	if err != nil {
		g.t.Fatal(err)
	}
	p.Shrink(16, 2<<10)
	ctx, stop := context.WithCancel(g.t.Context())
	m := &member{p: p, link: l, stop: stop, done: make(chan error, 1)}
	go func() {
		err := p.Run(ctx, pipeline.RunOptions{})
		if err != nil && !errors.Is(err, errCut) {
			g.t.Log("a member ended: ", err)
		}
		m.done <- err
	}()
	return m
}

// leave ends a member as an operator does.
func (m *member) leave(t *testing.T) {
	t.Helper()
	m.stop()
	if err := <-m.done; err != nil {
		t.Error(err)
	}
}

// link is a member's way to the broker, which can be cut.
type link struct {
	*journal.Journal
	group *group
	// cutAt is the commit at which the link is cut; 0 for never. The commit
	// itself is still stored where reached is set, only its answer is lost.
	cutAt   int
	reached bool
	// frozen: calls on the cut link wait, as a machine that hangs, and go through
	// when it wakes up. Else they fail.
	frozen bool
	// trim is asked whether a Trim goes through.
	trim func(topic string, partition int, before int64) bool
	// fetch is called before a reader's n-th Fetch, counted from 0; each of them then brings one record.
	fetch func(topic string, partition, n int)

	mu        sync.Mutex
	commits   int
	cut       chan struct{} // closed when it is cut
	woken     chan struct{} // closed when it wakes up
	consumers []broker.Consumer
}

func newLink() *link { return &link{cut: make(chan struct{}), woken: make(chan struct{})} }

var errCut = errkind.New(errkind.Permanent, "the link to the broker is cut")

// pass is called before every call that the link forwards.
func (l *link) pass() error {
	select {
	case <-l.cut:
		if !l.frozen {
			return errCut
		}
		<-l.woken
	default:
	}
	return nil
}

func (l *link) Commit(ctx context.Context, tx *broker.Tx) error {
	if err := l.pass(); err != nil {
		return err
	}
	l.mu.Lock()
	l.commits++
	cuts := l.commits == l.cutAt
	l.mu.Unlock()
	if !cuts {
		return l.Journal.Commit(ctx, tx)
	}
	var err error
	if l.reached {
		err = l.Journal.Commit(ctx, tx)
	}
	close(l.cut)
	if perr := l.pass(); perr != nil {
		return perr
	}
	if l.reached {
		return err
	}
	return l.Journal.Commit(ctx, tx)
}

func (l *link) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	c, err := l.Journal.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.consumers = append(l.consumers, c)
	l.mu.Unlock()
	return &watched{c, l, s.Topic}, nil
}

// watched is a consumer that tells the group which partitions it gets.
type watched struct {
	broker.Consumer
	link  *link
	topic string
}

func (w *watched) Claim(ctx context.Context) (broker.Claim, error) {
	c, err := w.Consumer.Claim(ctx)
	if err == nil {
		g, key := w.link.group, fmt.Sprint(w.topic, "/", c.Partition())
		g.mu.Lock()
		if g.owners[key] != nil && g.owners[key] != w.link {
			g.moves++
		}
		g.owners[key] = w.link
		g.mu.Unlock()
	}
	return c, err
}

func (l *link) Describe(ctx context.Context, topic, group string) (broker.Topic, error) {
	if err := l.pass(); err != nil {
		return broker.Topic{}, err
	}
	return l.Journal.Describe(ctx, topic, group)
}

func (l *link) Trim(ctx context.Context, topic string, partition int, before int64) error {
	if err := l.pass(); err != nil {
		return err
	}
	if l.trim != nil && !l.trim(topic, partition, before) {
		return nil
	}
	return l.Journal.Trim(ctx, topic, partition, before)
}

func (l *link) Read(ctx context.Context, topic string, partition int, from int64) (broker.Reader, error) {
	r, err := l.Journal.Read(ctx, topic, partition, from)
	if err != nil || l.fetch == nil {
		return r, err
	}
	return &slowReader{r, l, topic, partition, 0}, nil
}

// slowReader brings one record at a time.
type slowReader struct {
	broker.Reader
	link      *link
	topic     string
	partition int
	n         int
}

func (r *slowReader) Fetch(ctx context.Context, _ int) (*broker.Batch, error) {
	r.link.fetch(r.topic, r.partition, r.n)
	r.n++
	return r.Reader.Fetch(ctx, 1)
}

// expel puts the member out of its groups, as a broker does with one that it
// has not heard of for too long.
func (l *link) expel(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.consumers {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// awaitAll waits until every visit has its results, and compares them.
func (g *group) awaitAll(t *testing.T, vs []visit) {
	t.Helper()
	await(t, func() bool {
		n := int64(0)
		topic, err := g.b.Describe(t.Context(), "visited", "")
		if errkind.Is(err, errkind.NotFound) {
			return false // nobody has made it yet
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range topic.Partitions {
			n += p.End
		}
		return n >= int64(len(vs))
	})
}

// feedUntil sends visits, a few at a time, until the link is cut, and returns how many.
func (g *group) feedUntil(vs []visit, cut <-chan struct{}) (sent int) {
	g.t.Helper()
	for range 3000 {
		select {
		case <-cut:
			return sent
		case <-time.After(5 * time.Millisecond):
		}
		if n := min(sent+16, len(vs)*3/4); n > sent {
			publish(g.t.(*testing.T), g.b, "visits", records(vs[sent:n])...)
			sent = n
		}
	}
	g.t.Fatal("the member never came to the commit at which it is cut off")
	return 0
}

func (g *group) compare(t *testing.T, vs []visit) {
	t.Helper()
	if diff := cmp.Diff(features(vs), g.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

// eachWay runs a test with the state at each place where it can be; what lies in
// a store has its checkpoints too.
func eachWay(t *testing.T, run func(t *testing.T, place string)) {
	for _, place := range []string{"on the broker", "in checkpoints", "in a store"} {
		t.Run("state "+place, func(t *testing.T) { run(t, place) })
	}
}

// haunt lets two ghosts join a topic's group, each of which gets a partition of
// one member, and leave it again, the given one first.
func (g *group) haunt(topic string, first int) {
	g.t.Helper()
	var ghosts [2]broker.Consumer
	for i := range ghosts {
		c, err := g.journal.Subscribe(g.t.Context(), broker.Subscription{Topic: topic, Group: "chain"})
		if err != nil {
			g.t.Fatal(err)
		}
		ghosts[i] = c
	}
	for i := range ghosts {
		if err := ghosts[(first+i)%2].Close(); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestTasksThatMoveWhileBothMembersLiveGiveTheSameFeatures lets ghosts join the
// groups and leave them again while events come in, so that tasks are taken from
// members that live on and given back to either.
func TestTasksThatMoveWhileBothMembersLiveGiveTheSameFeatures(t *testing.T) {
	eachWay(t, func(t *testing.T, place string) {
		vs := visits(2400, 7)
		g := newGroup(t, place)
		a, b := g.join(newLink()), g.join(newLink())
		await(t, func() bool { return a.p.Ready() && b.p.Ready() })
		r := rand.New(rand.NewPCG(9, 9))
		for from := 0; from < len(vs); from += 100 {
			publish(t, g.b, "visits", records(vs[from:from+100])...)
			want := a.p.Stats().Predictions + b.p.Stats().Predictions + 20
			await(t, func() bool { return a.p.Stats().Predictions+b.p.Stats().Predictions >= want })
			for _, topic := range []string{"visits", "chain-by-merchant", "chain-by-customer"} {
				g.haunt(topic, r.IntN(2))
			}
		}
		g.awaitAll(t, vs)
		a.leave(t)
		b.leave(t)
		if g.moves < 10 {
			t.Errorf("tasks moved only %d times", g.moves)
		}
		t.Logf("tasks moved %d times; results: %d and %d", g.moves, a.p.Stats().Predictions, b.p.Stats().Predictions)
		g.compare(t, vs)
	})
}

// TestAMemberThatDiesLeavesItsTasksToTheOther cuts one of two members off at
// some commit, that commit done or not.
func TestAMemberThatDiesLeavesItsTasksToTheOther(t *testing.T) {
	eachWay(t, func(t *testing.T, place string) {
		vs := visits(800, 8)
		for i, cutAt := range []int{1, 2, 3, 5, 8, 13, 21, 34} {
			t.Run(fmt.Sprint("commit ", cutAt), func(t *testing.T) {
				g := newGroup(t, place)
				l := newLink()
				l.cutAt, l.reached = cutAt, i%2 == 1
				a, b := g.join(l), g.join(newLink())
				sent := g.feedUntil(vs, l.cut)
				if err := <-a.done; !errors.Is(err, errCut) {
					t.Errorf("the member that was cut off says: %v", err)
				}
				publish(t, g.b, "visits", records(vs[sent:])...)
				g.awaitAll(t, vs)
				b.leave(t)
				g.compare(t, vs)
			})
		}
	})
}

// TestAMemberThatWakesUpLateChangesNothing freezes one of two members in some
// commit; it is expelled, the other does its work, and then it wakes up and goes
// on with what it was doing.
func TestAMemberThatWakesUpLateChangesNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, place string) {
		vs := visits(800, 9)
		for i, cutAt := range []int{1, 2, 4, 9, 16, 40} {
			t.Run(fmt.Sprint("commit ", cutAt), func(t *testing.T) {
				g := newGroup(t, place)
				l := newLink()
				l.cutAt, l.frozen, l.reached = cutAt, true, i%2 == 1
				a, b := g.join(l), g.join(newLink())
				sent := g.feedUntil(vs, l.cut)
				l.expel(t)
				half := (sent + len(vs)) / 2
				publish(t, g.b, "visits", records(vs[sent:half])...)
				g.awaitAll(t, vs[:half])
				close(l.woken)
				publish(t, g.b, "visits", records(vs[half:])...)
				if err := <-a.done; err != nil && !errkind.Is(err, errkind.Closed) {
					t.Errorf("the member that woke up says: %v", err)
				}
				g.awaitAll(t, vs)
				b.leave(t)
				g.compare(t, vs)
			})
		}
	})
}

// TestATrimThatComesLateDoesNotDisturbARestore makes the trims of a member that
// is gone happen while the next one reads what they trim.
func TestATrimThatComesLateDoesNotDisturbARestore(t *testing.T) {
	vs := visits(1500, 10)
	for _, after := range []int{0, 1, 2, 5, 12, 25} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			g := newGroup(t, "on the broker")
			publish(t, g.b, "visits", records(vs[:1000])...)
			var mu sync.Mutex
			trims := map[string]int64{} // that have not come yet
			l := newLink()
			l.trim = func(topic string, partition int, before int64) bool {
				mu.Lock()
				defer mu.Unlock()
				trims[fmt.Sprint(topic, "/", partition)] = before
				return false
			}
			a := g.join(l)
			g.awaitAll(t, vs[:1000])
			a.leave(t)
			if len(trims) == 0 {
				t.Fatal("nothing to trim")
			}
			done := 0
			m := newLink()
			m.fetch = func(topic string, partition, n int) {
				if n != after {
					return
				}
				mu.Lock()
				before, ok := trims[fmt.Sprint(topic, "/", partition)]
				delete(trims, fmt.Sprint(topic, "/", partition))
				mu.Unlock()
				if !ok {
					return
				}
				if err := g.journal.Trim(context.WithoutCancel(t.Context()), topic, partition, before); err != nil {
					t.Error(err)
				}
				mu.Lock()
				done++
				mu.Unlock()
			}
			b := g.join(m)
			publish(t, g.b, "visits", records(vs[1000:])...)
			g.awaitAll(t, vs)
			b.leave(t)
			if done == 0 {
				t.Error("no trim came late")
			}
			g.compare(t, vs)
		})
	}
}
