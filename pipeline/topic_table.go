package pipeline

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

// topicTable holds the newest row of each key of a topic in memory, and follows
// the topic. A record without a payload takes its key out.
type topicTable struct {
	kinds []event.Kind

	mu   sync.RWMutex
	rows map[string]*topicRow

	stop func()
	done sync.WaitGroup
}

// topicRow is a row; it does not change once it is in the table.
type topicRow struct {
	at    int64
	cells []cell
}

type cell struct {
	null    bool
	float   float64
	integer int64
	truth   bool
	text    string
}

// openTopicTable reads all that is on the topic, and follows it until close.
func (p *Pipeline) openTopicTable(ctx context.Context, l *lookupPlan) (*topicTable, error) {
	c, err := contract.Load(p.plan.Spec.path(l.spec.Contract))
	if err != nil {
		return nil, err
	}
	topic, err := p.ensure(ctx, broker.TopicConfig{Name: l.spec.Topic, Partitions: defaultParts, DedupWindow: DedupWindow})
	if err != nil {
		return nil, err
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	t := &topicTable{kinds: l.kinds, rows: map[string]*topicRow{}, stop: stop}
	rule := c.Time
	if l.spec.Time != "" {
		rule.Field = l.spec.Time
	}
	for i, part := range topic.Partitions {
		d, err := c.NewDecoder(contract.Options{Key: l.spec.Key, Time: rule, Fields: l.fields, MaxBytes: p.plan.Spec.Source.MaxBytes})
		if err == nil {
			err = t.read(ctx, follow, p, l.spec, i, part, d)
		}
		if err != nil {
			_ = t.close() // the first error says what matters
			return nil, err
		}
	}
	return t, nil
}

// read takes in a partition up to its end, and then follows it.
func (t *topicTable) read(ctx, follow context.Context, p *Pipeline, spec *Table, partition int, part broker.PartitionState, d *contract.Decoder) error {
	r, err := p.broker.Read(ctx, spec.Topic, partition, part.Start)
	if err != nil {
		return fmt.Errorf("read table %q: %w", spec.Name, err)
	}
	var rows contract.Rows
	err = p.readTo(ctx, r, part.Start, part.End, func(b *broker.Batch) (bool, error) {
		t.take(b.Records, d, &rows, p, spec, partition)
		b.Release()
		return true, nil
	})
	if err != nil {
		r.Close()
		return fmt.Errorf("read table %q: %w", spec.Name, err)
	}
	t.done.Go(func() {
		defer r.Close()
		for {
			b, err := r.Fetch(follow, fetchMax)
			if err == nil {
				t.take(b.Records, d, &rows, p, spec, partition)
				b.Release()
			} else {
				if follow.Err() == nil {
					p.log.Error("a table is not followed any more, and its rows grow old until the pipeline is started again", "table", spec.Name, "partition", partition, "error", err)
				}
				return
			}
		}
	})
	return nil
}

// take makes rows of records. A record that is not of the contract is logged and passed over.
func (t *topicTable) take(recs []event.Record, d *contract.Decoder, rows *contract.Rows, p *Pipeline, spec *Table, partition int) {
	d.Decode(recs, rows)
	t.mu.Lock()
	defer t.mu.Unlock()
	faults := rows.Faults
	// passOver deals with the faulty records before number i.
	passOver := func(i int32) {
		for ; len(faults) > 0 && faults[0].Record < i; faults = faults[1:] {
			rec := &recs[faults[0].Record]
			if len(rec.Value) == 0 && len(rec.Key) > 0 {
				delete(t.rows, string(rec.Key))
				continue
			}
			p.log.Warn("a record of a table is passed over", "table", spec.Name, "partition", partition, "position", rec.Position, "error", faults[0].Err)
		}
	}
	defer passOver(math.MaxInt32)
	for row := range rows.N {
		passOver(rows.Index[row])
		r := &topicRow{at: rows.Time[row], cells: make([]cell, len(t.kinds))}
		for i := range r.cells {
			c := &rows.Columns[i]
			v := &r.cells[i]
			switch v.null = c.IsNull(row); c.Kind {
			case event.Float:
				v.float = c.Floats[row]
			case event.Bool:
				v.truth = c.Bools[row]
			case event.String:
				v.text = string(append([]byte(nil), c.Strings[row]...))
			default:
				v.integer = c.Ints[row]
			}
		}
		t.rows[string(append([]byte(nil), rows.Key[row]...))] = r
	}
}

// Lookup never fails.
func (t *topicTable) Lookup(_ context.Context, keys []string, n int, out []*event.Column, at []int64, state []lookup.Outcome) error {
	for i, c := range out {
		c.Kind = t.kinds[i]
		c.Reset(n)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for row, k := range keys[:n] {
		r := t.rows[k]
		if r == nil {
			state[row], at[row] = lookup.Missing, lookup.Unknown
			for _, c := range out {
				c.SetNull(row)
			}
			continue
		}
		state[row], at[row] = lookup.Found, r.at
		for i, c := range out {
			v := &r.cells[i]
			switch {
			case v.null:
				c.SetNull(row)
			case c.Kind == event.Float:
				c.Floats[row] = v.float
			case c.Kind == event.Bool:
				c.Bools[row] = v.truth
			case c.Kind == event.String:
				c.Strings[row] = v.text
			default:
				c.Ints[row] = v.integer
			}
		}
	}
	return nil
}

func (t *topicTable) close() error {
	t.stop()
	t.done.Wait()
	return nil
}
