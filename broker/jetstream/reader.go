package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// pullBatch is how many messages one pull asks for; two are under way.
	pullBatch = 1000
	// pullBytes bounds what one pull brings.
	pullBytes = 8 << 20
	// pullFor is how long a pull waits for messages.
	pullFor = 30 * time.Second
	// pulse is how often a server that has nothing says that it is there.
	pulse = 5 * time.Second
	// idleFor is how long the server keeps a consumer that nobody asks.
	idleFor = 2 * time.Minute
)

// reader reads a partition through a consumer of its own that needs no
// acknowledgements, and that is made anew, where reading goes on, whenever
// something is missing.
type reader struct {
	d     *Driver
	topic string
	part  int
	p     *partition

	next      atomic.Uint64 // sequence
	c         *pull
	opening   string // the name of a consumer whose making was not yet confirmed
	openingAt uint64 // and where it begins
}

// pull is the consumer of a reader, and what is under way from it.
type pull struct {
	name   string
	lost   <-chan struct{}
	inbox  string
	sub    *nats.Subscription
	in     chan *nats.Msg
	asked  int    // messages asked for that have not come
	seq    uint64 // of the consumer's last delivery
	number int    // of pulls
	heard  time.Time
}

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, part int, from int64) (broker.Reader, error) {
	r, err := d.newReader(ctx, name, part, from)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (d *Driver) newReader(ctx context.Context, name string, part int, from int64) (*reader, error) {
	p, err := d.find(ctx, name, part)
	if err != nil {
		return nil, err
	}
	if from < 0 {
		return nil, errkind.Errorf(errkind.Invalid, "read topic %q from position %d", name, from)
	}
	r := &reader{d: d, topic: name, part: part, p: p}
	r.next.Store(uint64(from) + 1)
	return r, nil
}

// Position implements broker.Positioner.
func (r *reader) Position() int64 { return int64(r.next.Load()) - 1 }

// seek makes the next fetch begin elsewhere.
func (r *reader) seek(position int64) error {
	if position < 0 {
		return errkind.Errorf(errkind.Invalid, "read topic %q from position %d", r.topic, position)
	}
	r.drop()
	r.next.Store(uint64(position) + 1)
	return nil
}

// Close implements broker.Reader.
func (r *reader) Close() error {
	r.drop()
	return nil
}

// drop ends the consumer. The server is told and not waited for: it forgets
// consumers that nobody asks.
func (r *reader) drop() {
	if r.c == nil {
		return
	}
	_ = r.c.sub.Unsubscribe()
	_ = r.d.nc.Publish(r.d.api+"CONSUMER.DELETE."+r.p.stream+"."+r.c.name, nil)
	r.c = nil
}

// Fetch implements broker.Reader.
func (r *reader) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	return r.fetch(ctx, max, nil)
}

// fetch is Fetch that ends with a Conflict when revoked is closed.
func (r *reader) fetch(ctx context.Context, max int, revoked <-chan struct{}) (*broker.Batch, error) {
	if err := r.d.check(ctx); err != nil {
		return nil, err
	}
	b := r.d.batches.Get().(*batch)
	for {
		if r.c == nil {
			if err := r.open(ctx); err != nil {
				b.Release()
				return nil, err
			}
		}
		if err := r.fill(ctx, b, max, revoked); err != nil {
			b.Release()
			return nil, err
		}
		if len(b.Records) > 0 {
			return &b.Batch, nil
		}
	}
}

// open makes a consumer that begins at next.
func (r *reader) open(ctx context.Context) error {
	d := r.d
	ctx, cancel := d.within(ctx)
	defer cancel()
	lost := d.connection()
	// A call that was given up may have made the consumer all the same: under the same name the next
	// call finds it, so that impatient callers neither fill the stream with consumers nor begin anew each time.
	if at := r.next.Load(); r.opening == "" || r.openingAt != at {
		r.opening, r.openingAt = strings.ReplaceAll(strings.TrimPrefix(d.nc.NewInbox(), "_INBOX."), ".", "-"), at
	}
	c, err := d.js.CreateConsumer(ctx, r.p.stream, jetstream.ConsumerConfig{
		Name:      r.opening,
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next.Load(),
		MemoryStorage: true, Replicas: 1, InactiveThreshold: idleFor, MaxWaiting: 8,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		d.topics.drop(r.topic)
		return notFound(r.topic)
	}
	if err == nil || ctx.Err() == nil {
		r.opening = "" // the server has answered
	}
	if err != nil {
		return d.failed(fmt.Sprintf("read topic %q, partition %d", r.topic, r.part), err)
	}
	p := &pull{
		name: c.CachedInfo().Name, lost: lost, inbox: d.nc.NewInbox() + ".",
		in: make(chan *nats.Msg, 2*pullBatch+64), heard: time.Now(),
	}
	if p.sub, err = d.nc.ChanSubscribe(p.inbox+"*", p.in); err != nil {
		return d.failed(fmt.Sprintf("read topic %q", r.topic), err)
	}
	r.c = p
	return nil
}

// ask keeps two pulls under way.
func (r *reader) ask() error {
	c := r.c
	for c.asked <= pullBatch {
		request := `{"batch":` + strconv.Itoa(pullBatch) + `,"max_bytes":` + strconv.Itoa(max(pullBytes, 2*int(r.d.nc.MaxPayload()))) +
			`,"expires":` + strconv.FormatInt(int64(pullFor), 10) + `,"idle_heartbeat":` + strconv.FormatInt(int64(pulse), 10) + `}`
		c.number++
		if err := r.d.nc.PublishRequest(r.d.api+"CONSUMER.MSG.NEXT."+r.p.stream+"."+c.name, c.inbox+strconv.Itoa(c.number), []byte(request)); err != nil {
			return r.d.failed(fmt.Sprintf("read topic %q", r.topic), err)
		}
		c.asked += pullBatch
	}
	return nil
}

// fill waits for the first message and takes what else has come. Where the
// consumer is of no more use it drops it and returns.
func (r *reader) fill(ctx context.Context, b *batch, max int, revoked <-chan struct{}) error {
	c := r.c
	if err := r.ask(); err != nil {
		return err
	}
	for len(b.Records) < max {
		var m *nats.Msg
		select {
		case m = <-c.in:
		default:
			if len(b.Records) > 0 {
				return nil
			}
			var err error
			if m, err = r.await(ctx, revoked); m == nil {
				return err
			}
		}
		if !r.take(m, b) {
			r.drop()
			return nil
		}
		if c.asked <= pullBatch {
			if err := r.ask(); err != nil {
				if len(b.Records) > 0 { // what is there is good
					return nil
				}
				return err
			}
		}
	}
	return nil
}

// await waits for a message; without one and without an error the consumer has
// to be made anew.
func (r *reader) await(ctx context.Context, revoked <-chan struct{}) (*nats.Msg, error) {
	c := r.c
	t := time.NewTimer(2*pulse + pulse/2)
	defer t.Stop()
	select {
	case m := <-c.in:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.d.done:
		return nil, r.d.closedError()
	case <-revoked:
		return nil, errkind.Errorf(errkind.Conflict, "partition %d of topic %q is no longer held", r.part, r.topic)
	case <-c.lost:
		r.drop()
		return nil, r.d.lostError(fmt.Sprintf("read topic %q", r.topic))
	case <-t.C:
		r.drop()
		return nil, nil
	}
}

// take takes one message, and says whether the consumer goes on.
func (r *reader) take(m *nats.Msg, b *batch) bool {
	c := r.c
	if len(m.Data) == 0 && len(m.Header) > 0 && m.Reply == "" || len(m.Header["Status"]) > 0 && !strings.HasPrefix(m.Reply, "$JS.ACK.") {
		return r.status(m)
	}
	info, ok := parseReply(m.Reply)
	if !ok {
		return true // nothing of ours
	}
	c.asked--
	if info.delivered != c.seq+1 {
		return false
	}
	c.seq = info.delivered
	if info.stream < r.next.Load() {
		return true
	}
	b.Records = append(b.Records, event.Record{Position: int64(info.stream) - 1, Time: info.time})
	b.arena.decode(m, m.Subject, r.p.keyed, &b.Records[len(b.Records)-1])
	b.Topic, b.Partition = r.topic, r.part
	b.End = int64(info.stream + info.pending)
	r.next.Store(info.stream + 1)
	return true
}

// status takes what the server says of a pull.
func (r *reader) status(m *nats.Msg) bool {
	switch m.Header.Get("Status") {
	case "100": // a pulse
		return true
	case "404", "408", "409":
		left := m.Header.Get("Nats-Pending-Messages")
		n, err := strconv.Atoi(left)
		if err != nil || strings.Contains(m.Header.Get("Description"), "Consumer") {
			return false
		}
		r.c.asked -= n
		return r.ask() == nil
	}
	return false
}

// delivery is what the reply subject of a message tells.
type delivery struct {
	stream, delivered, pending uint64
	time                       int64
}

// parseReply reads $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer's
// sequence>.<time>.<pending>, which may have a domain and an account before the
// stream, and more behind.
func parseReply(s string) (delivery, bool) {
	const start = "$JS.ACK."
	if !strings.HasPrefix(s, start) {
		return delivery{}, false
	}
	s = s[len(start):]
	skip := 3
	if n := strings.Count(s, "."); n >= 8 {
		skip = 5
	} else if n != 6 {
		return delivery{}, false
	}
	for range skip {
		i := strings.IndexByte(s, '.')
		if i < 0 {
			return delivery{}, false
		}
		s = s[i+1:]
	}
	var n [4]uint64
	for i := range n {
		part, rest, _ := strings.Cut(s, ".")
		if len(part) == 0 || len(part) > 19 {
			return delivery{}, false
		}
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return delivery{}, false
			}
			n[i] = n[i]*10 + uint64(c-'0')
		}
		s = rest
	}
	return delivery{stream: n[0], delivered: n[1], time: int64(n[2]), pending: n[3]}, true
}

// batch is a broker.Batch with its memory.
type batch struct {
	broker.Batch
	arena arena
}

func (d *Driver) newBatch() any {
	b := &batch{}
	b.Free = func(*broker.Batch) {
		clear(b.Records)
		b.Records, b.arena.chunk = b.Records[:0], b.arena.chunk[:0]
		d.batches.Put(b)
	}
	return b
}
