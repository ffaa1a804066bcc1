package redis

import (
	"context"
	"slices"
	"sync"

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
