package pipeline

import (
	"context"
	"math"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// intake fills frames with the rows of one claimed partition, in the order in
// which they are processed. It belongs to the front of one task.
type intake interface {
	// next waits for rows, or for a position to commit, and fills the frame.
	next(ctx context.Context, f *frame) error
	// appendState appends what the intake of a later task needs beside the
	// claim's position to go on behind the frame filled last.
	appendState(b []byte) []byte
	// restore takes what appendState appended; before the first next.
	restore(b []byte) error
	// begin says where the claim goes on; after restore, before the first next.
	begin(position int64)
	// close releases what is held and waits for what runs.
	close()
}

// direct is the intake of a first stage that takes events as they come: a frame
// is what one fetch brings, decoded in place.
type direct struct {
	claim  broker.Claim
	max    int
	source *sourceDecoder
}

func (d *direct) next(ctx context.Context, f *frame) error {
	d.source.seen.begin()
	recs, err := d.claim.Fetch(ctx, d.max)
	if err != nil {
		return err
	}
	f.recs, f.next = recs, recs.Next()
	f.letters = d.source.decode(recs.Records, &f.rows, f.letters)
	f.keys = f.rows.Key
	f.consumed = len(recs.Records)
	f.watermark = d.source.watermark()
	return nil
}

func (d *direct) appendState(b []byte) []byte { return d.source.appendState(b) }

func (d *direct) restore(b []byte) error {
	c := cursor{b: b}
	d.source.restore(&c)
	if c.bad {
		return errkind.New(errkind.Corrupt, "the state of the source is cut short")
	}
	return nil
}

func (d *direct) begin(int64) {}

func (d *direct) close() {}

// sourceDecoder decodes the source's records and sorts out the events that the
// pipeline does not take: faulty, misplaced, too late.
type sourceDecoder struct {
	decoder    *contract.Decoder
	partition  int
	partitions int
	misplaced  bool // look for events on a wrong partition
	late       LatePolicy
	lateness   int64
	newest     int64 // time of any event so far
	judged     int64 // events before this position were found not to be late when they came
	counters   *counters
	seen       *seenStep // nil where repeats are not looked for

	drop []int32 // indices of records to leave out
	rest []event.Record
	from []int32
}

func (t *task) newSourceDecoder() (*sourceDecoder, error) {
	plan, src := t.p.plan, &t.p.plan.Spec.Source
	rule := src.timeRule(plan.Contract)
	opts := contract.Options{ID: src.ID, Key: src.Key, Time: rule, MaxBytes: src.MaxBytes}
	for _, d := range plan.decode {
		opts.Fields = append(opts.Fields, d.path)
	}
	d, err := plan.Contract.NewDecoder(opts)
	if err != nil {
		return nil, err
	}
	return &sourceDecoder{
		decoder: d, partition: t.claim.Partition(), partitions: t.p.partitions,
		misplaced: t.p.partitions > 1 && plan.byKey(plan.stages[0]),
		late:      src.Late, lateness: int64(rule.Lateness), newest: math.MinInt64, counters: &t.p.counters,
		seen: t.seen,
	}, nil
}

// watermark is the time before which every event has come, but for late ones.
func (d *sourceDecoder) watermark() int64 {
	if d.newest < math.MinInt64+d.lateness {
		return math.MinInt64
	}
	return d.newest - d.lateness
}

// decode fills rows with the events that are taken and appends letters for the others.
func (d *sourceDecoder) decode(recs []event.Record, rows *contract.Rows, letters []letter) []letter {
	d.decoder.Decode(recs, rows)
	for _, x := range rows.Faults {
		letters = append(letters, letter{rec: &recs[x.Record], partition: d.partition, reason: x.Reason, step: "validate", attempts: 1, err: x.Err})
	}
	d.drop = d.drop[:0]
	late, again := uint64(0), uint64(0)
	for row := range rows.N {
		i := rows.Index[row]
		if d.misplaced {
			if err := d.wrongPartition(&recs[i], rows.Key[row]); err != nil {
				d.drop = append(d.drop, i)
				letters = append(letters, letter{rec: &recs[i], partition: d.partition, reason: "wrong_partition", step: "features", attempts: 1, err: err})
				continue
			}
		}
		if recs[i].Position >= d.judged && d.seen.repeat(rows.ID[row], recs[i].Time) {
			again++
			d.drop = append(d.drop, i)
			continue
		}
		if t := rows.Time[row]; t >= d.newest {
			d.newest = t
		} else if t < d.watermark() && recs[i].Position >= d.judged {
			late++
			switch d.late {
			case LateDeadLetter:
				letters = append(letters, letter{rec: &recs[i], partition: d.partition, reason: "late", step: "validate", attempts: 1, err: d.lateError(t)})
				d.drop = append(d.drop, i)
			case LateDrop:
				d.drop = append(d.drop, i)
			}
		}
	}
	d.counters.late.Add(late)
	d.counters.sourceRepeats.Add(again)
	if len(d.drop) > 0 {
		d.without(recs, rows)
	}
	return letters
}

func (d *sourceDecoder) lateError(t int64) error {
	var c clock
	var b []byte
	b = c.append(b, t)
	from := len(b)
	b = c.append(b, d.newest)
	return errkind.Errorf(errkind.Invalid, "the event's time %s lies more than %v, the lateness allowed, before the newest of its partition, %s: raise source.time.lateness, or write `late: score`",
		b[:from], time.Duration(d.lateness), b[from:])
}

// without decodes again what is left beside the dropped records: rows lie side
// by side in columns and cannot be taken out one by one.
func (d *sourceDecoder) without(recs []event.Record, rows *contract.Rows) {
	d.rest, d.from = d.rest[:0], d.from[:0]
	drop := d.drop
	for _, i := range rows.Index[:rows.N] {
		if len(drop) > 0 && drop[0] == i {
			drop = drop[1:]
			continue
		}
		d.rest = append(d.rest, recs[i])
		d.from = append(d.from, i)
	}
	d.decoder.Decode(d.rest, rows)
	for row := range rows.N {
		rows.Index[row] = d.from[rows.Index[row]]
	}
}

func (d *sourceDecoder) appendState(b []byte) []byte { return appendZigzag(b, d.newest) }

func (d *sourceDecoder) restore(c *cursor) { d.newest = c.zigzag() }
