package scaleout

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/test/servers"
)

const (
	// session is after how long a silent member is given up.
	session = 4 * time.Second
	// patience bounds each wait, on a machine with much else to do.
	patience = 2 * time.Minute
)

func TestMembersShareAPipelineOnKafka(t *testing.T) { share(t, onKafka, comeAndGo) }

func TestMembersShareAPipelineOnJetStream(t *testing.T) { share(t, onJetStream, comeAndGo) }

func TestMembersShareAPipelineInTurmoilOnKafka(t *testing.T) {
	servers.Heavy(t)
	share(t, onKafka, turmoil)
}

func TestMembersShareAPipelineInTurmoilOnJetStream(t *testing.T) {
	servers.Heavy(t)
	share(t, onJetStream, turmoil)
}

func onKafka(t *testing.T) string {
	return "kafka://" + servers.Run(t, "kafka").Address + "?session_timeout=" + session.String()
}

func onJetStream(t *testing.T) string {
	return "nats://" + servers.Run(t, "nats", "cluster").Address + "?session=" + session.String()
}

// phase is a time in which the members changed once.
type phase struct {
	what    string
	from    time.Time
	settled time.Duration
}

// comeAndGo runs two, then four members, of which one leaves, one dies and one
// freezes and comes back. Each time the others are waited for.
func comeAndGo(t *testing.T, g *group) {
	var w0, w1, w2 *member
	g.phase(t, "two begin", func() { w0, w1 = g.join(t), g.join(t) })
	g.phase(t, "two more join", func() { w2 = g.join(t); g.join(t) })
	g.phase(t, "w0 leaves", func() { g.leave(w0); w0.stop(t) })
	g.phase(t, "w4 joins", func() { g.join(t) })
	g.phase(t, "w1 is killed", func() { g.leave(w1); w1.kill(t) })
	g.phase(t, "w2 freezes", func() { g.leave(w2); w2.signal(t, syscall.SIGSTOP) })
	g.phase(t, "w2 wakes up", func() { w2.signal(t, syscall.SIGCONT); g.back(w2) })
}

// turmoil changes the members at random, again before the others have settled.
func turmoil(t *testing.T, g *group) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("the seed is %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	pause := func(longest time.Duration) {
		time.Sleep(time.Duration(random.Int64N(int64(longest)))) // the passing of time is what is tested
	}
	g.phase(t, "three begin", func() { g.join(t); g.join(t); g.join(t) })
	var frozen []*member
	wake := func() {
		if len(frozen) > 0 {
			g.note("%s wakes up", frozen[0].name)
			frozen[0].signal(t, syscall.SIGCONT)
			g.back(frozen[0])
			frozen = frozen[1:]
		}
	}
	g.phase(t, "turmoil", func() {
		for range 20 {
			m := g.members[random.IntN(len(g.members))]
			switch what := random.IntN(5); {
			case len(g.members) < 3:
				g.note("%s joins", g.join(t).name)
			case what == 0:
				g.note("%s leaves", m.name)
				g.leave(m)
				m.stop(t)
			case what == 1:
				g.note("%s is killed", m.name)
				g.leave(m)
				m.kill(t)
			case what == 2:
				wake()
			default:
				g.note("%s freezes", m.name)
				g.leave(m)
				m.signal(t, syscall.SIGSTOP)
				if frozen = append(frozen, m); len(frozen) > 2 {
					wake()
				}
			}
			g.settled(t) // or not
			pause(session)
		}
		for len(frozen) > 0 {
			wake()
		}
	})
}

// share runs a pipeline while events come in and script changes its members.
func share(t *testing.T, start func(*testing.T) string, script func(*testing.T, *group)) {
	if testing.Short() {
		t.Skip("takes half a minute or more")
	}
	url := start(t)
	dir, name := t.TempDir(), "scaleout-"+strings.ToLower(rand.Text()[:8])
	d, err := builtin.OpenBroker(t.Context(), url, builtin.BrokerOptions{Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(d, broker.Options{})
	t.Cleanup(func() { _ = b.Close() })
	if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: name + "-events", Partitions: partitions, DedupWindow: 10 * time.Minute}); err != nil {
		t.Fatal(err)
	}

	g := &group{pipeline: writePipeline(t, dir, name), url: url, topics: []string{name + "-events", name + "-by-terminal"}, began: time.Now()}
	feeder := startFeeder(t, b, name+"-events")
	script(t, g)
	sent := feeder.stop(t)
	g.note("%d events were sent", len(sent))

	await(t, b, name+"-results", len(sent))
	for _, m := range g.members {
		m.stop(t)
	}
	results := read(t, b, name+"-results") // with what came while they stopped
	g.note("%d results", len(results))
	repeats := judge(t, sent, results, b.Capabilities().Transactions)
	if letters := read(t, b, name+"-dead-letters"); len(letters) > 0 {
		t.Errorf("%d events were given up as dead letters", len(letters))
	}
	t.Logf("partitions that each member holds, of the source and between the stages:\n%s", strings.Join(g.account, "\n"))
	report(t, g.phases, sent, results)
	t.Logf("%d events, %d results, %d of them repeats", len(sent), len(results), repeats)
}

// report says for each phase how long it took until every partition had its
// owner, and how old the oldest result was that an event of it got.
func report(t *testing.T, phases []phase, sent []numbered, results []result) {
	t.Helper()
	at := make(map[string]time.Time, len(results))
	for _, r := range results {
		if _, known := at[r.SourceID]; !known {
			at[r.SourceID] = r.stored
		}
	}
	for i, p := range phases {
		oldest := time.Duration(0)
		for _, n := range sent {
			if n.Time.After(p.from) && (i+1 == len(phases) || n.Time.Before(phases[i+1].from)) {
				oldest = max(oldest, at[n.ID].Sub(n.Time))
			}
		}
		t.Logf("%-14s settled after %5.1fs; the longest that an event waited for its result is %5.1fs", p.what, p.settled.Seconds(), oldest.Seconds())
	}
}

// feeder sends events, open loop: when one is late those behind it keep their times.
type feeder struct {
	stopped context.CancelFunc
	wg      sync.WaitGroup
	sent    []numbered
	err     error
}

func startFeeder(t *testing.T, b *broker.Broker, topic string) *feeder {
	t.Helper()
	f := &feeder{}
	stopped, stop := context.WithCancel(t.Context())
	f.stopped = stop
	began := time.Now()
	f.wg.Go(func() {
		for n := 0; f.err == nil; n += batch {
			wait := time.NewTimer(time.Until(began.Add(time.Duration(n) * step)))
			select {
			case <-wait.C:
				f.err = f.send(t.Context(), b, topic, n, began)
			case <-stopped.Done():
				wait.Stop()
				return
			}
		}
	})
	t.Cleanup(func() { stop(); f.wg.Wait() })
	return f
}

func (f *feeder) send(ctx context.Context, b *broker.Broker, topic string, from int, began time.Time) error {
	recs := make([]event.Record, batch)
	for i := range recs {
		n := eventOf(from+i, began)
		var err error
		if recs[i], err = n.record(); err != nil {
			return err
		}
		f.sent = append(f.sent, n)
	}
	if b.Capabilities().Transactions { // so that a repeated call stores nothing twice
		return b.Commit(ctx, &broker.Tx{Publish: []broker.Publication{{Topic: topic, Partition: broker.AnyPartition, Records: recs}}})
	}
	_, err := b.Publish(ctx, topic, recs) // the topic drops ids that it knows
	return err
}

// stop ends the sending and returns what was sent.
func (f *feeder) stop(t *testing.T) []numbered {
	t.Helper()
	f.stopped()
	f.wg.Wait()
	if f.err != nil {
		t.Fatalf("send events: %v", f.err)
	}
	return f.sent
}

// await waits until n different events have a result, or patience is over.
func await(t *testing.T, b *broker.Broker, topic string, n int) {
	t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		events := map[string]bool{}
		for _, r := range read(t, b, topic) {
			events[r.SourceID] = true
		}
		if len(events) >= n || time.Since(began) > patience {
			return
		}
	}
}

// read returns what lies on a topic, each partition in order.
func read(t *testing.T, b *broker.Broker, topic string) (out []result) {
	t.Helper()
	d, err := b.Describe(t.Context(), topic, "")
	if err != nil {
		t.Fatal(err)
	}
	for p, s := range d.Partitions {
		if s.Start >= s.End {
			continue
		}
		r, err := b.Read(t.Context(), topic, p, s.Start)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for next := s.Start; next < s.End; next = max(next, r.(broker.Positioner).Position()) {
			if time.Since(began) > patience {
				t.Fatalf("topic %s, partition %d ends at %d, and behind %d nothing comes", topic, p, s.End, next)
			}
			wait, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
			batch, err := r.Fetch(wait, 1000)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) || errkind.Is(err, errkind.Canceled) {
				continue // behind the last record there may be positions without
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch.Records {
				x := result{partition: p, stored: time.Unix(0, batch.Records[i].Time)}
				if err := json.Unmarshal(batch.Records[i].Value, &x); err != nil {
					t.Fatalf("a result is not to be read: %v", err)
				}
				out = append(out, x)
			}
			next = batch.Next()
			batch.Release()
		}
		_ = r.Close()
	}
	return out
}
