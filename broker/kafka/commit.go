package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Commit implements broker.Transactor: one Kafka transaction, under the
// transactional id of the first claim of tx, or, where tx moves no position,
// under one of this driver's own.
func (d *Driver) Commit(ctx context.Context, tx *broker.Tx) error {
	switch {
	case d.ctx.Err() != nil:
		return errkind.New(errkind.Closed, "commit: the driver is closed")
	case ctx.Err() != nil:
		return fmt.Errorf("commit: %w", ctx.Err())
	}
	for i := range tx.Publish {
		if err := d.checkSizes(tx.Publish[i].Records); err != nil {
			return fmt.Errorf("commit to topic %q: %w", tx.Publish[i].Topic, err)
		}
	}
	positions, err := d.positions(tx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	call, cancel := d.begin(ctx)
	defer cancel()
	var claims []*claim
	for _, x := range positions {
		claims = append(claims, x.claims...)
	}
	held := 0
	defer func() {
		for _, c := range claims[:held] {
			<-c.busy
		}
	}()
	for _, c := range claims { // in one order everywhere, so that no two wait for each other
		select {
		case c.busy <- struct{}{}:
			held++
		case <-call.Done():
			return d.failed(ctx, call.Err(), "commit: wait for the commit before")
		}
		if err := c.alive(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	var p *producer
	if len(claims) > 0 {
		p = claims[0].producer()
	} else if p, err = d.takeOwn(); err != nil {
		return d.failed(ctx, err, "commit")
	} else {
		defer d.giveOwn(p)
	}
	parts, err := d.partsOf(call, p, tx)
	if err != nil {
		return d.failedTx(ctx, err)
	}
	if len(parts) == 0 && len(positions) == 0 {
		return nil
	}
	result, err := p.commit(call, parts, positions)
	if err == nil {
		for _, x := range positions {
			for i, c := range x.claims {
				c.committed(x.next[i])
			}
		}
		return nil
	}
	return d.notCommitted(ctx, claims, result, err)
}

// notCommitted turns a failure into what the port wants to hear.
func (d *Driver) notCommitted(ctx context.Context, claims []*claim, result outcome, err error) error {
	d.log.Debug("a transaction was not committed", "error", err, "unknown", result == unknown)
	for _, c := range claims {
		if dead := c.alive(); dead != nil {
			return fmt.Errorf("commit: %w", dead)
		}
	}
	switch {
	case d.ctx.Err() != nil:
		return errkind.New(errkind.Closed, "commit: the driver is closed")
	case ctx.Err() != nil:
		return fmt.Errorf("commit: %w", ctx.Err())
	case result == unknown:
		for _, c := range claims {
			c.lose("the outcome of a transaction is not known")
		}
		return errkind.Errorf(errkind.Conflict, "commit: it is not known whether the transaction was applied: %s", err.Error())
	case kindOf(err) == errkind.Conflict:
		for _, c := range claims {
			c.lose("another owner of the partition began, or the group gave this member up")
		}
		return errkind.Errorf(errkind.Conflict, "commit: %w", err)
	}
	return d.failedTx(ctx, err)
}

// failedTx is failed for a transaction of which nothing was applied: an error
// of a deadline would say that nothing is known.
func (d *Driver) failedTx(ctx context.Context, err error) error {
	e := d.failed(ctx, err, "commit")
	if k := errkind.Of(e); k.Retryable() && ctx.Err() == nil {
		return errkind.New(k, e.Error())
	}
	return e
}

// positions sorts the positions of tx by group.
func (d *Driver) positions(tx *broker.Tx) ([]position, error) {
	var out []position
	list := slices.Clone(tx.Positions)
	for _, cp := range list {
		c, ok := cp.Claim.(*claim)
		if !ok || c.d != d {
			return nil, errkind.New(errkind.Invalid, "a claim of the transaction is not one of this driver")
		}
		if err := c.alive(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(list, func(a, b broker.ClaimPosition) int {
		x, y := a.Claim.(*claim), b.Claim.(*claim)
		return cmp.Or(cmp.Compare(x.c.s.Group, y.c.s.Group), cmp.Compare(x.topic.name, y.topic.name), cmp.Compare(x.part, y.part))
	})
	for _, cp := range list {
		c := cp.Claim.(*claim)
		if n := len(out); n == 0 || out[n-1].c != c.c {
			out = append(out, position{c: c.c})
		}
		x := &out[len(out)-1]
		if n := len(x.claims); n > 0 && x.claims[n-1] == c {
			x.next[n-1] = cp.Next // the last one counts
			continue
		}
		x.claims, x.next = append(x.claims, c), append(x.next, cp.Next)
	}
	return out, nil
}

// partsOf lays the records of tx out by topic and partition, each in the order of tx.
func (d *Driver) partsOf(ctx context.Context, p *producer, tx *broker.Tx) ([]*part, error) {
	type key struct {
		topic string
		p     int32
	}
	topics := map[string]*topic{}
	recs := map[key][]event.Record{}
	for i := range tx.Publish {
		pub := &tx.Publish[i]
		t := topics[pub.Topic]
		if t == nil {
			var err error
			if t, err = d.topic(ctx, pub.Topic); err != nil {
				return nil, err
			}
			topics[pub.Topic] = t
		}
		if pub.Partition != broker.AnyPartition {
			at, err := t.partition(pub.Partition)
			if err != nil {
				return nil, err
			}
			k := key{t.name, at}
			recs[k] = append(recs[k], pub.Records...)
			continue
		}
		n := len(t.leaders)
		keyless := int32(d.spread.Add(1) % uint32(n))
		for j := range pub.Records {
			k := key{t.name, keyless}
			if r := &pub.Records[j]; len(r.Key) > 0 {
				k.p = int32(broker.PartitionFor(r.Key, n))
			}
			recs[k] = append(recs[k], pub.Records[j])
		}
	}
	var parts []*part
	for k, list := range recs {
		if len(list) == 0 {
			continue
		}
		x := &part{topic: topics[k.topic], p: k.p}
		p.pack(x, list, d.caps.MaxRecordBytes+overhead)
		parts = append(parts, x)
	}
	slices.SortFunc(parts, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.topic.name, b.topic.name), cmp.Compare(a.p, b.p))
	})
	return parts, nil
}

// takeOwn returns a producer for a transaction without positions.
func (d *Driver) takeOwn() (*producer, error) {
	d.own.Lock()
	defer d.own.Unlock()
	if n := len(d.own.idle); n >= d.producersPerClaim() { // they take turns too
		p := d.own.idle[0]
		d.own.idle = append(d.own.idle[:0], d.own.idle[1:]...)
		return p, nil
	}
	cl, err := d.s.client(kgo.MaxVersions(versions(d.tx2)))
	if err != nil {
		return nil, err
	}
	d.own.made++
	return d.newProducer(cl, fmt.Sprintf("%s-own-%s-%d", d.s.txPrefix, d.own.name, d.own.made)), nil
}

// maxIdle bounds the producers that wait for the next transaction.
const maxIdle = 16

func (d *Driver) giveOwn(p *producer) {
	d.own.Lock()
	defer d.own.Unlock()
	if d.ctx.Err() != nil || len(d.own.idle) >= maxIdle {
		p.client.Close()
		return
	}
	d.own.idle = append(d.own.idle, p)
}
