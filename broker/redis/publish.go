package redis

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

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
	}
	defer func() {
		for i := range order {
			order[i].claim.committing.Unlock()
		}
	}()
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
