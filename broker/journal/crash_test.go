package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/journal/crashfs"
	"github.com/freshet-io/freshet/event"
)

// clock is a time that moves by a second whenever somebody looks.
type clock struct{ now atomic.Int64 }

func (c *clock) read() time.Time {
	return time.Unix(0, c.now.Add(int64(time.Second)))
}

// world is what a journal should hold: a model of it in plain Go.
type world map[string]*worldTopic

type worldTopic struct {
	conf  broker.TopicConfig
	parts []worldPart
}

type worldPart struct {
	start     int64
	committed int64 // of group "g"
	values    []string
}

func (w world) clone() world {
	c := world{}
	for name, t := range w {
		n := &worldTopic{conf: t.conf}
		for _, p := range t.parts {
			n.parts = append(n.parts, worldPart{p.start, p.committed, slices.Clone(p.values)})
		}
		c[name] = n
	}
	return c
}

func (w world) publish(topic string, recs []event.Record) {
	t := w[topic]
	for _, r := range recs {
		p := &t.parts[broker.PartitionFor(r.Key, len(t.parts))]
		p.values = append(p.values, string(r.Value))
	}
}

func (w world) String() string {
	var b strings.Builder
	names := []string{}
	for name := range w {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := w[name]
		fmt.Fprintf(&b, "%+v\n", t.conf)
		for i, p := range t.parts {
			fmt.Fprintf(&b, "  %d: start %d end %d committed %d\n", i, p.start, len(p.values), p.committed)
			for k := p.start; k < int64(len(p.values)); k++ {
				fmt.Fprintf(&b, "    %d %.24s (%d bytes)\n", k, p.values[k], len(p.values[k]))
			}
		}
	}
	return b.String()
}

// observe reads a whole journal; what was trimmed is filled in from like.
func observe(t testing.TB, j *journal.Journal, like world) world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	names, err := j.Topics(ctx)
	if err != nil {
		t.Fatalf("Topics: %v", err)
	}
	w := world{}
	for _, name := range names {
		d, err := j.Describe(ctx, name, "g")
		if err != nil {
			t.Fatalf("Describe: %v", err)
		}
		n := &worldTopic{conf: d.Config}
		for i, s := range d.Partitions {
			p := worldPart{start: s.Start, committed: s.Committed, values: make([]string, s.Start, s.End)}
			if l := like[name]; l != nil && i < len(l.parts) {
				copy(p.values, l.parts[i].values)
			}
			r, err := j.Read(ctx, name, i, 0)
			if err != nil {
				t.Fatalf("Read: %v", err)
			}
			last := int64(0)
			for at := s.Start; at < s.End; {
				b, err := r.Fetch(ctx, 7)
				if err != nil {
					t.Fatalf("Fetch %s/%d at %d of %d: %v", name, i, at, s.End, err)
				}
				for _, rec := range b.Records {
					if rec.Position != at || rec.Time < last {
						t.Fatalf("%s/%d: got position %d time %d, want position %d, time from %d on", name, i, rec.Position, rec.Time, at, last)
					}
					at, last = at+1, rec.Time
					p.values = append(p.values, string(rec.Value))
				}
				b.Release()
			}
			_ = r.Close()
			n.parts = append(n.parts, p)
		}
		w[name] = n
	}
	return w
}

// history drives a journal and its model by the same random choices.
type history struct {
	rng  *rand.Rand
	j    *journal.Journal
	w    world // what was acknowledged
	next world // with the operation in progress
	seq  int
	cons map[string]broker.Consumer
	held map[string][]broker.Claim
}

var topicNames = []string{"in", "out", "kept", "late"}

func (h *history) records(n int) []event.Record {
	recs := make([]event.Record, n)
	for i := range recs {
		h.seq++
		size := h.rng.IntN(300)
		if h.rng.IntN(20) == 0 {
			size = 3000
		}
		recs[i].Value = append(fmt.Appendf(nil, "%06d-", h.seq), bytes.Repeat([]byte{byte('a' + h.seq%26)}, size)...)
		recs[i].Key = []byte{byte(h.rng.IntN(8)), 1}
		recs[i].ID = fmt.Appendf(nil, "id-%d", h.seq)
		recs[i].Headers = event.Headers(nil).AppendString("h", "v")
	}
	return recs
}

func (h *history) claims(ctx context.Context, topic string) ([]broker.Claim, error) {
	if h.held[topic] != nil {
		return h.held[topic], nil
	}
	c, err := h.j.Subscribe(ctx, broker.Subscription{Topic: topic, Group: "g"})
	if err != nil {
		return nil, err
	}
	h.cons[topic] = c
	for range h.w[topic].parts {
		cl, err := c.Claim(ctx)
		if err != nil {
			return nil, err
		}
		h.held[topic] = append(h.held[topic], cl)
	}
	return h.held[topic], nil
}

// step does one thing; h.next is what it makes of the world.
func (h *history) step(ctx context.Context) error {
	h.next = h.w.clone()
	some := func() string { return []string{"in", "out", "kept"}[h.rng.IntN(3)] }
	if len(h.w) < 3 {
		c := broker.TopicConfig{Name: topicNames[len(h.w)], Partitions: 1 + h.rng.IntN(3)}
		if c.Name == "kept" {
			c.RetainBytes = 3000
		}
		if c.Name == "in" {
			c.DedupWindow = time.Hour
		}
		h.next[c.Name] = &worldTopic{conf: c}
		for range c.Partitions {
			h.next[c.Name].parts = append(h.next[c.Name].parts, worldPart{committed: -1})
		}
		return h.j.CreateTopic(ctx, c)
	}
	switch n := h.rng.IntN(20); {
	case n < 8:
		topic, recs := some(), h.records(1+h.rng.IntN(6))
		h.next.publish(topic, recs)
		_, err := h.j.Publish(ctx, topic, recs)
		return err
	case n < 13:
		claims, err := h.claims(ctx, "in")
		if err != nil {
			return err
		}
		tx := &broker.Tx{Publish: []broker.Publication{
			{Topic: "out", Partition: broker.AnyPartition, Records: h.records(1 + h.rng.IntN(4))},
			{Topic: "kept", Partition: broker.AnyPartition, Records: h.records(1 + h.rng.IntN(2))},
		}}
		for _, p := range tx.Publish {
			h.next.publish(p.Topic, p.Records)
		}
		for _, c := range claims {
			p := &h.next["in"].parts[c.Partition()]
			p.committed = int64(h.rng.IntN(len(p.values) + 1))
			tx.Positions = append(tx.Positions, broker.ClaimPosition{Claim: c, Next: p.committed})
		}
		return h.j.Commit(ctx, tx)
	case n < 15:
		topic := some()
		claims, err := h.claims(ctx, topic)
		if err != nil {
			return err
		}
		c := claims[h.rng.IntN(len(claims))]
		p := &h.next[topic].parts[c.Partition()]
		p.committed = int64(h.rng.IntN(len(p.values) + 1))
		return c.Commit(ctx, p.committed)
	case n < 17:
		topic := some()
		i := h.rng.IntN(len(h.next[topic].parts))
		p := &h.next[topic].parts[i]
		if behind := int64(len(p.values)) - p.start; behind > 0 {
			p.start += h.rng.Int64N(behind + 1)
		}
		return h.j.Trim(ctx, topic, i, p.start)
	case n < 19:
		if err := h.j.Maintain(ctx); err != nil {
			return err
		}
		return h.learnStarts(ctx)
	default:
		if h.w["late"] != nil {
			delete(h.next, "late")
			return h.j.DeleteTopic(ctx, "late")
		}
		h.next["late"] = &worldTopic{conf: broker.TopicConfig{Name: "late", Partitions: 1}, parts: []worldPart{{committed: -1}}}
		return h.j.CreateTopic(ctx, h.next["late"].conf)
	}
}

// learnStarts takes over where retention by size has moved a start: how far is
// up to the index.
func (h *history) learnStarts(ctx context.Context) error {
	d, err := h.j.Describe(ctx, "kept", "")
	if err != nil {
		return err
	}
	for i, s := range d.Partitions {
		p := &h.next["kept"].parts[i]
		if s.Start < p.start {
			return fmt.Errorf("start of kept/%d went back from %d to %d", i, p.start, s.Start)
		}
		p.start = s.Start
	}
	return nil
}

const (
	crashDir   = "/j"
	crashSteps = 45
)

func crashOptions(d *crashfs.Disk, c *clock) journal.Options {
	return journal.Options{FS: d, Clock: c.read, SegmentBytes: 8 << 10}.Quiet()
}

// play runs a history on d until its end or until the disk stops. It returns
// the states of which the disk must show one.
func play(t testing.TB, seed uint64, d *crashfs.Disk, c *clock) (states []world, finished bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h := &history{rng: rand.New(rand.NewPCG(seed, 2)), w: world{}, cons: map[string]broker.Consumer{}, held: map[string][]broker.Claim{}}
	reopen := 15 + h.rng.IntN(20)
	for i := range crashSteps {
		if i == 0 || i == reopen {
			if h.j != nil {
				_ = h.j.Close()
			}
			j, err := journal.Open(crashDir, crashOptions(d, c))
			if err != nil {
				if !d.Stopped() {
					t.Fatalf("seed %d: Open: %v", seed, err)
				}
				return []world{h.w}, false
			}
			h.j = j
			clear(h.held)
		}
		if err := h.step(ctx); err != nil {
			if !d.Stopped() {
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
			_ = h.j.Close()
			return []world{h.w, h.next}, false
		}
		h.w = h.next
	}
	_ = h.j.Close()
	return []world{h.w}, !d.Stopped()
}

// matches reports whether got is want, where the starts of a topic with
// retention by size may be further on.
func matches(got, want world) bool {
	want = want.clone()
	if k, g := want["kept"], got["kept"]; k != nil && g != nil && len(k.parts) == len(g.parts) {
		for i := range k.parts {
			if s := g.parts[i].start; s > k.parts[i].start && s <= int64(len(k.parts[i].values)) {
				k.parts[i].start = s
			}
		}
	}
	return got.String() == want.String()
}

// TestEveryCrashPoint stops the disk at every operation of random histories,
// lets it forget none, all or some of what was not synced, opens the journal
// again (sometimes crashing once more meanwhile) and compares.
func TestEveryCrashPoint(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	points := 0
	for seed := range seeds {
		for n := 1; ; n++ {
			finished := false
			for _, s := range []crashfs.Survivors{crashfs.None, crashfs.All, crashfs.Some, crashfs.Some} {
				d := crashfs.New(seed<<32 | uint64(n)<<8 | uint64(s))
				c := &clock{}
				d.StopAt(n)
				var states []world
				if states, finished = play(t, seed, d, c); finished {
					break
				}
				points++
				verifyCrash(t, fmt.Sprintf("seed %d, stopped at operation %d, survivors %d", seed, n, s), d, c, s, n, states)
				if t.Failed() {
					return
				}
			}
			if finished {
				break
			}
		}
	}
	fmt.Printf("journal crash points: %d\n", points)
}

func verifyCrash(t *testing.T, where string, d *crashfs.Disk, c *clock, s crashfs.Survivors, n int, states []world) {
	t.Helper()
	after := d.Crash(s)
	if n%3 == 0 { // crash again while it opens
		after.StopAt(1 + n%5)
		if j, err := journal.Open(crashDir, crashOptions(after, c)); err == nil {
			_ = j.Close()
		}
		after = after.Crash(s)
	}
	j, err := journal.Open(crashDir, crashOptions(after, c))
	if err != nil {
		t.Errorf("%s: Open: %v", where, err)
		return
	}
	defer j.Close()
	got := observe(t, j, states[0])
	ok := false
	for _, w := range states {
		ok = ok || matches(got, w)
	}
	if !ok {
		for i, w := range states {
			t.Logf("%s: against state %d (-want +got):\n%s", where, i, cmp.Diff(w.String(), got.String()))
		}
		t.Errorf("%s: the journal is in none of the states that it may be in", where)
		return
	}
	// It goes on: what is published now is there after one more crash.
	if got["out"] == nil {
		return
	}
	ctx := context.Background()
	recs := []event.Record{{Key: []byte("k"), Value: []byte("again")}, {Key: []byte("l"), Value: bytes.Repeat([]byte("x"), 5000)}}
	for range 3 {
		if _, err := j.Publish(ctx, "out", recs); err != nil {
			t.Errorf("%s: Publish after the crash: %v", where, err)
			return
		}
		got.publish("out", recs)
	}
	if err := j.Maintain(ctx); err != nil {
		t.Errorf("%s: Maintain after the crash: %v", where, err)
		return
	}
	last := after.Crash(crashfs.None)
	rep, err := journal.CheckFS(last, crashDir)
	if err != nil || rep.Damage != nil {
		t.Errorf("%s: Check: %v, damage %v", where, err, rep.Damage)
	}
	again, err := journal.Open(crashDir, crashOptions(last, c))
	if err != nil {
		t.Errorf("%s: second Open: %v", where, err)
		return
	}
	defer again.Close()
	if w := observe(t, again, got); !matches(w, got) {
		t.Errorf("%s: after going on (-want +got):\n%s", where, cmp.Diff(got.String(), w.String()))
	}
}

func TestKeepsTheContractThroughCrashes(t *testing.T) {
	disks := map[broker.Driver]*crashfs.Disk{}
	openOn := func(t testing.TB, d *crashfs.Disk) broker.Driver {
		j := open(t, crashDir, journal.Options{FS: d, SegmentBytes: 64 << 10, Interval: 5 * time.Millisecond})
		disks[j] = d
		return j
	}
	brokertest.RunCrash(t, brokertest.Harness{
		Open: func(t testing.TB) broker.Driver { return openOn(t, crashfs.New(7)) },
		Restart: func(t testing.TB, d broker.Driver) broker.Driver {
			if err := d.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			return openOn(t, disks[d].Crash(crashfs.All))
		},
		Crash: func(t testing.TB, d broker.Driver) broker.Driver {
			after := disks[d].Crash(crashfs.Some)
			_ = d.Close()
			return openOn(t, after)
		},
	})
}
