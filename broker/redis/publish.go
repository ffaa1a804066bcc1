package redis

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// maxHeaders bounds the fields of an entry on a stream of others.
const maxHeaders = 1000

// plan is one call of commit.lua. It belongs to one caller at a time; its
// memory is used again.
type plan struct {
	topics []*topic
	runs   []run
	used   int // of runs
	bytes  int
	claims []claimMove
	drop   bool
	// of is where a partition's run is, + 1, for the topic added to last.
	of   []int
	last *topic
	keys []string
	args []any
}

// claimMove is a position to be moved.
type claimMove struct {
	claim  *claim
	number int64 // of the transaction, of those under this claim
	next   string
}

var plans = sync.Pool{New: func() any { return new(plan) }}

func newPlan() *plan {
	p := plans.Get().(*plan)
	clear(p.topics)
	clear(p.claims)
	clear(p.args)
	p.topics, p.claims, p.keys, p.args = p.topics[:0], p.claims[:0], p.keys[:0], p.args[:0]
	p.used, p.bytes, p.drop, p.last = 0, 0, false, nil
	return p
}

// free keeps the plan's memory, unless there is too much of it.
func (p *plan) free() {
	total := 0
	for i := range p.runs {
		total += cap(p.runs[i].packed)
	}
	if total <= keptBytes {
		plans.Put(p)
	}
}

// recycle frees the plan of calls that were waited for; the plan of a call
// whose context has ended may still be on its way.
func (d *Driver) recycle(ctx context.Context, p *plan) {
	if ctx.Err() == nil && !d.ended() {
		p.free()
	}
}

// run returns what goes to a partition.
func (p *plan) run(t *topic, partition int) *run {
	if p.last != t {
		if !slices.Contains(p.topics, t) {
			p.topics = append(p.topics, t)
		}
		p.last = t
		p.of = append(p.of[:0], make([]int, len(t.streams))...)
		for i := range p.runs[:p.used] {
			if p.runs[i].topic == t {
				p.of[p.runs[i].partition] = i + 1
			}
		}
	}
	if i := p.of[partition]; i > 0 {
		return &p.runs[i-1]
	}
	if p.used == len(p.runs) {
		p.runs = append(p.runs, run{})
	}
	r := &p.runs[p.used]
	r.reset(t, partition)
	p.used++
	p.of[partition] = p.used
	return r
}

// add takes records into the plan, each into the partition that is fixed, that
// its key selects, or, without either, into keyless.
func (p *plan) add(t *topic, partition, keyless int, recs []event.Record) error {
	n := len(t.streams)
	for i := range recs {
		r := &recs[i]
		if size := r.Size(); size > maxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d for topic %q has %d bytes, at most %d are taken", i, t.config.Name, size, maxRecordBytes)
		}
		if t.native {
			if err := checkFields(r); err != nil {
				return errkind.Errorf(errkind.Invalid, "record %d for topic %q: %w", i, t.config.Name, err)
			}
		}
		to := partition
		if to == broker.AnyPartition {
			if to = keyless; len(r.Key) > 0 {
				to = broker.PartitionFor(r.Key, n)
			}
		}
		p.run(t, to).add(r)
		p.bytes += r.Size()
	}
	return nil
}

// checkFields holds a record to what fits into fields of an entry.
func checkFields(r *event.Record) error {
	n := 0
	for h := r.Headers; len(h) > 0; n++ {
		_, _, rest, ok := h.Cut()
		if !ok {
			return errkind.New(errkind.Invalid, "the headers are damaged")
		}
		h = rest
	}
	if n > maxHeaders {
		return errkind.Errorf(errkind.Invalid, "%d headers, at most %d are taken", n, maxHeaders)
	}
	return nil
}

// prepare lays out keys and arguments as commit.lua reads them.
func (p *plan) prepare() {
	drop := 0
	if p.drop {
		drop = 1
	}
	p.args = append(p.args, base, len(p.topics), p.used, len(p.claims), drop)
	for _, t := range p.topics {
		p.keys = append(p.keys, t.meta(), t.ids())
		p.args = append(p.args, t.uid, milliseconds(t.config.DedupWindow), milliseconds(t.config.Retention), t.config.RetainBytes)
	}
	for i := range p.runs[:p.used] {
		r := &p.runs[i]
		p.keys = append(p.keys, r.topic.streams[r.partition])
		p.args = append(p.args, slices.Index(p.topics, r.topic)+1, r.bytes())
	}
	for _, c := range p.claims {
		p.keys = append(p.keys, c.claim.c.t.group(c.claim.c.group))
		p.args = append(p.args, c.claim.partition, c.claim.c.id, c.claim.epoch, c.number, c.next)
	}
}

// outcome is what commit.lua answers.
type outcome struct {
	code    int64
	at      int // the topic, claim or run that the code is about
	stored  int
	dropped int
}

const (
	applied     = 0
	topicGone   = 1
	claimLost   = 2
	appliedOnce = 3 // by an attempt before
	badStream   = 4
)

// send runs the script once, and waits for the replicas that are wanted.
func (d *Driver) send(ctx context.Context, p *plan) (outcome, error) {
	var o outcome
	err := d.call(ctx, func(ctx context.Context) error {
		answer, err := d.commitScript(ctx, p)
		if err != nil {
			return err
		}
		if len(answer) == 0 || len(answer) > 3 {
			return errReply
		}
		o.code = answer[0]
		switch len(answer) {
		case 2:
			o.at = int(answer[1]) - 1
		case 3:
			o.stored, o.dropped = int(answer[1]), int(answer[2])
		}
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	return o, nil
}

// commitScript runs commit.lua, and behind it WAIT on the same connection.
func (d *Driver) commitScript(ctx context.Context, p *plan) ([]int64, error) {
	if d.replicas == 0 {
		return d.run(ctx, scriptCommit, p.keys, p.args...).Int64Slice()
	}
	for _, eval := range []func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd{scriptCommit.EvalSha, scriptCommit.Eval} {
		pipe := d.client.Pipeline()
		cmd := eval(ctx, pipe, p.keys, p.args...)
		wait := pipe.Do(ctx, "WAIT", d.replicas, milliseconds(d.timeout/2))
		_, err := pipe.Exec(ctx)
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n, err := wait.Int64(); err != nil || n < int64(d.replicas) {
			return nil, errors.Join(errReplicas, err)
		}
		return cmd.Int64Slice()
	}
	return nil, errReply
}

// errReplicas is no answer about the outcome: it is stored here, and not yet there.
var errReplicas = errors.New("fewer replicas than wait_replicas have confirmed the write")

// Publish implements broker.Driver.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	var total broker.Published
	if len(recs) == 0 {
		_, err := d.resolve(ctx, name)
		return total, err
	}
	for len(recs) > 0 {
		n, size := 0, 0
		for n < len(recs) && n < maxBatch && (n == 0 || size+recs[n].Size() <= chunkBytes) {
			size += recs[n].Size()
			n++
		}
		o, err := d.publish(ctx, name, recs[:n])
		if err != nil {
			return total, err
		}
		total.Stored += o.stored
		total.Duplicates += o.dropped
		recs = recs[n:]
	}
	return total, nil
}

func (d *Driver) publish(ctx context.Context, name string, recs []event.Record) (o outcome, err error) {
	err = d.onTopic(ctx, name, func(t *topic) (bool, error) {
		p := newPlan()
		p.drop = true
		if err := p.add(t, broker.AnyPartition, int(d.next.Add(1)%uint64(len(t.streams))), recs); err != nil {
			p.free()
			return false, err
		}
		p.prepare()
		o, err = d.send(ctx, p)
		d.recycle(ctx, p)
		if err != nil {
			return false, d.failed(ctx, "publish to", err)
		}
		if o.code == badStream {
			return false, errStream(t)
		}
		return o.code == topicGone, nil
	})
	return o, err
}

func errStream(t *topic) error {
	return errkind.Errorf(errkind.Corrupt, "topic %q cannot be continued: somebody added an entry with an id of their own; ids have to be left to XADD *", t.config.Name)
}

// Commit implements broker.Transactor.
func (d *Driver) Commit(ctx context.Context, tx *broker.Tx) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.ended() {
		return d.errClosed()
	}
	moves := make([]claimMove, 0, len(tx.Positions))
	for _, at := range tx.Positions {
		c, ok := at.Claim.(*claim)
		if !ok || c.c.d != d {
			return errkind.New(errkind.Invalid, "the transaction moves a claim of another broker")
		}
		moves = append(moves, claimMove{claim: c, next: c.c.t.at(at.Next).String()})
	}
	// One transaction at a time under each claim: their numbers tell repeats.
	order := slices.Clone(moves)
	slices.SortFunc(order, func(a, b claimMove) int {
		return cmp.Or(cmp.Compare(a.claim.c.id, b.claim.c.id), cmp.Compare(a.claim.partition, b.claim.partition), cmp.Compare(a.claim.epoch, b.claim.epoch))
	})
	for i := range order {
		if i > 0 && order[i].claim == order[i-1].claim {
			return errkind.New(errkind.Invalid, "the transaction moves a claim twice")
		}
	}
	for i := range order {
		order[i].claim.committing.Lock()
		defer order[i].claim.committing.Unlock()
	}
	for i := range moves {
		if err := moves[i].claim.held(); err != nil {
			return err
		}
		moves[i].claim.number++
		moves[i].number = moves[i].claim.number
	}
	for range 3 {
		gone, err := d.commit(ctx, tx, moves)
		if err != nil || gone == nil {
			return err
		}
		d.forget(gone)
	}
	return errkind.New(errkind.NotFound, "a topic of the transaction does not exist")
}

// commit builds the plan of tx and sends it until it knows the outcome. A topic
// that is returned has become another one, and nothing was applied.
func (d *Driver) commit(ctx context.Context, tx *broker.Tx, moves []claimMove) (gone *topic, err error) {
	p := newPlan()
	defer d.recycle(ctx, p)
	keyless := d.next.Add(1)
	for i := range tx.Publish {
		pub := &tx.Publish[i]
		t, err := d.known(ctx, pub.Topic)
		if err != nil {
			return nil, err
		}
		if pub.Partition != broker.AnyPartition {
			if err := t.check(pub.Partition); err != nil {
				return nil, err
			}
		}
		if err := p.add(t, pub.Partition, int(keyless%uint64(len(t.streams))), pub.Records); err != nil {
			return nil, err
		}
	}
	if p.bytes > maxTxBytes {
		return nil, errkind.Errorf(errkind.Invalid, "the transaction has %d bytes, at most %d are taken", p.bytes, maxTxBytes)
	}
	p.claims = append(p.claims, moves...)
	if p.used == 0 && len(p.claims) == 0 {
		return nil, nil
	}
	p.prepare()
	deadline := time.Now().Add(2 * d.timeout)
	unknown := false
	for n := 0; ; n++ {
		o, err := d.send(ctx, p)
		if err != nil && (over(ctx) != nil || d.ended()) {
			return nil, d.failed(ctx, "commit on", err)
		}
		if err == nil {
			return d.decided(p, o)
		}
		if !unknown && (answered(err) || notSent(err)) {
			return nil, d.failed(ctx, "commit on", err)
		}
		unknown = true
		if len(moves) == 0 || time.Now().After(deadline) {
			for _, m := range moves {
				m.claim.revoke()
			}
			return nil, errkind.Errorf(errkind.Conflict, "commit on %s: whether it was applied is not known: %w", d.where, err)
		}
		wait := time.NewTimer(reconnect.Wait(n, errkind.Transient))
		select {
		case <-wait.C:
		case <-ctx.Done():
		case <-d.done:
		}
		wait.Stop()
	}
}

// decided turns the script's answer into that of Commit.
func (d *Driver) decided(p *plan, o outcome) (gone *topic, err error) {
	switch o.code {
	case applied, appliedOnce:
		return nil, nil
	case topicGone:
		return p.topics[o.at], nil
	case claimLost:
		p.claims[o.at].claim.revoke()
		return nil, p.claims[o.at].claim.held()
	case badStream:
		return nil, errStream(p.runs[o.at].topic)
	}
	return nil, errkind.Errorf(errkind.Permanent, "commit on %s: %w", d.where, errReply)
}

// notSent says that nothing reached the server.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
}
