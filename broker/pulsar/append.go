package pulsar

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// acquisitions is how often an Append takes the partition anew before it gives up.
const acquisitions = 4

// Append implements broker.Appender: one entry, written by a producer that has
// the partition for itself.
func (d *Driver) Append(ctx context.Context, name string, partition int, at int64, recs []event.Record) (int64, error) {
	p, err := d.part(ctx, name, partition)
	if err == nil {
		err = d.checkSizes(recs)
	}
	if err != nil || len(recs) == 0 {
		return at, err
	}
	if n := entrySize(recs); n > d.set.maxMessage-overhead/2 {
		return 0, errkind.Errorf(errkind.Invalid, "append to topic %q partition %d: %d bytes in %d records: an append is one entry, of at most %d bytes",
			name, partition, n, len(recs), d.set.maxMessage-overhead/2)
	}
	end, err := p.append(ctx, at, recs)
	if err != nil {
		return 0, d.fail(ctx, fmt.Sprintf("append to topic %q partition %d", name, partition), err)
	}
	return end, nil
}

// entrySize is an upper bound of what the records take in one entry, in bytes.
func entrySize(recs []event.Record) int {
	n := 0
	for i := range recs {
		r := &recs[i]
		// Headers may travel as properties and packed in base64; an ID or a key in base64.
		n += len(r.Value) + 2*len(r.Key) + 3*len(r.ID) + 3*len(r.Headers) + 256
	}
	return n
}

func (p *part) append(ctx context.Context, at int64, recs []event.Record) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.d.enter(ctx); err != nil {
		return 0, err
	}
	if err := p.settle(ctx); err != nil {
		return 0, err
	}
	for range acquisitions {
		fresh := false
		if p.producer == nil || !p.exclusive || at > p.end {
			if err := p.acquire(ctx); err != nil {
				return 0, err
			}
			fresh = true
		}
		if at != p.end && !(p.last.entry < 0 && at < p.end && at >= p.start.Load()) {
			have := p.end
			if fresh {
				p.close() // so that who is right need not fence us
			}
			return 0, errkind.Errorf(errkind.Conflict, "the end is %d, not %d: somebody else has stored records there", have, at)
		}
		s := newSending(len(recs))
		s.ids = true
		p.appending = s
		list := make([]int32, len(recs))
		for i := range list {
			list[i] = int32(i)
		}
		// Not the caller's context: half a batch must not be left behind.
		sendCtx, cancel := context.WithTimeout(p.d.ctx, p.d.set.timeout)
		producer, payloads := p.producer, copyPayloads(recs)
		owned := cloneRecords(recs)
		started := p.d.spawn(func() {
			defer cancel()
			if err := send(sendCtx, producer, owned, payloads, list, s); err != nil {
				s.note(err)
				s.finish() // the library may not call back
			}
		})
		if !started {
			cancel()
			return 0, errClosed
		}
		if err := s.wait(ctx, p.d); ctx.Err() != nil && err != nil {
			return 0, ctx.Err() // settle learns what became of it
		}
		err := p.settled(s)
		if err == nil {
			return p.end, nil
		}
		if k := errkind.Of(err); k == errkind.Conflict || k == errkind.Invalid {
			return 0, err
		}
		if k := kindOf(err); k == errkind.Invalid || p.d.ctx.Err() != nil {
			return 0, errkind.With(k, err)
		}
		// Fenced, or the connection was lost: whether it was stored shows in the end.
	}
	return 0, errkind.New(errkind.Transient, "others take the partition again and again")
}

// settle waits for an append whose caller has gone.
func (p *part) settle(ctx context.Context) error {
	s := p.appending
	if s == nil {
		return nil
	}
	if err := s.wait(ctx, p.d); ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	_ = p.settled(s)
	return nil
}

// settled notes what became of an append.
func (p *part) settled(s *sending) error {
	p.appending = nil
	select {
	case <-s.done:
	default:
		s.note(errkind.New(errkind.Transient, "the server has not answered in time"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		p.close()
		return s.err
	}
	first, _ := idOf(s.first)
	last, _ := idOf(s.last)
	before := p.last
	end, err := last.position()
	if err != nil {
		p.close()
		return err
	}
	p.last, p.end = last, end+1
	if first.ledger != last.ledger || first.entry != last.entry ||
		first.ledger == before.ledger && first.entry != before.entry+1 || first.ledger != before.ledger && first.entry != 0 {
		p.close()
		return errkind.Errorf(errkind.Conflict, "the entry %d:%d does not follow %d:%d: somebody who had been fenced has stored records in between", first.ledger, first.entry, before.ledger, before.entry)
	}
	return nil
}

// acquire takes the partition: every other producer is fenced, what they have
// under way is stored or refused, and then the end is looked at.
func (p *part) acquire(ctx context.Context) error {
	p.close()
	if err := p.dedup(ctx); err != nil {
		return err
	}
	// An append is one batch, which it ends itself.
	producer, err := p.d.exclusive(ctx, p.topic.physical(p.index), p.options(time.Hour))
	if err != nil {
		return err
	}
	p.producer, p.exclusive = producer, true
	if err := p.quiesce(ctx); err != nil {
		p.close()
		return err
	}
	return nil
}

func (p *part) quiesce(ctx context.Context) error {
	physical := p.topic.physical(p.index)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var s ledgerStats
		if err := p.d.call(ctx, http.MethodGet, p.d.path(physical, "internalStats"), nil, &s); err != nil {
			return err
		}
		if s.Pending == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.d.ctx.Done():
			return errClosed
		}
	}
	last, err := p.d.lastID(ctx, physical)
	if err != nil {
		return err
	}
	p.last = last
	p.end, err = endBehind(last)
	return err
}

// dedup makes the broker drop what a producer sends again after a lost
// connection; topics made here have that from the beginning.
func (p *part) dedup(ctx context.Context) error {
	p.topic.dedupOnce.Lock()
	defer p.topic.dedupOnce.Unlock()
	if p.topic.dedup {
		return nil
	}
	m, _, err := p.d.look(ctx, p.topic.name)
	if err == nil && m.Properties[propRetention] == "" {
		err = p.d.call(ctx, http.MethodPost, p.d.path(p.topic.name, "deduplicationEnabled"), true, nil)
	}
	p.topic.dedup = err == nil
	return err
}

// cloneRecords copies what send reads of records, but for their values.
func cloneRecords(recs []event.Record) []event.Record {
	size := 0
	for i := range recs {
		size += recs[i].Size() - len(recs[i].Value)
	}
	arena := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		from := len(arena)
		arena = append(arena, b...)
		return arena[from:len(arena):len(arena)]
	}
	out := make([]event.Record, len(recs))
	for i := range recs {
		out[i] = event.Record{ID: keep(recs[i].ID), Key: keep(recs[i].Key), Headers: keep(recs[i].Headers)}
	}
	return out
}
