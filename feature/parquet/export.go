package parquet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Options says what is exported, and where to.
type Options struct {
	// Pipeline is the name of the pipeline whose results are read; results of others on the same topics are passed over.
	Pipeline string
	// Topics are its result topics.
	Topics []string
	// Features and Outputs are what its results carry. What results carry beyond
	// becomes columns too; that takes a second reading of the topics.
	Features []Feature
	Outputs  []Column
	// Labels are joined where not nil.
	Labels *Labels
	// From and To bound the event time: From is in, To is out. A zero time is no bound.
	From, To time.Time
	// Dir is the folder that is made.
	Dir string
	// Overwrite allows Dir to be an export, which is replaced.
	Overwrite bool
	// Contract is the version of the events' contract, Digest that of its file.
	Contract, Digest string
	// Models are the digests of models, by name@version.
	Models map[string]string
	// Progress is called now and then; it may be nil.
	Progress func(Progress)

	// times are features whose times results give, beside those of Features.
	times []string
	// held is how many rows may be in memory, group how many in a row group; 0 are heldRows and groupRows.
	held, group int
	// create makes a file; nil is the system's.
	create func(path string) (output64, error)
}

// Progress is how far an export has come.
type Progress struct {
	// Records of Total have been read; Rows were written.
	Records, Total, Rows int64
}

// Summary says what an export holds.
type Summary struct {
	Pipeline string `json:"pipeline"`
	Dir      string `json:"dir"`
	Rows     int64  `json:"rows"`
	// Duplicates are results of events that have a row already.
	Duplicates int64 `json:"duplicates"`
	// Outside are results before From, or at or after To.
	Outside int64 `json:"outside"`
	// Foreign are records of other pipelines, Unreadable those that are no results at all.
	Foreign    int64 `json:"foreign"`
	Unreadable int64 `json:"unreadable"`
	// FirstUnreadable names the place of one of them.
	FirstUnreadable string `json:"first_unreadable,omitempty"`
	Files           int    `json:"files"`
	Bytes           int64  `json:"bytes"`
	// First and Last are the earliest and the latest event time; absent without rows.
	First  *time.Time    `json:"first,omitempty"`
	Last   *time.Time    `json:"last,omitempty"`
	Labels *LabelSummary `json:"labels,omitempty"`
	// Features are the columns of features, in order.
	Features []string `json:"features"`
}

// exporter is an export on its way.
type exporter struct {
	o      Options
	b      *broker.Broker
	source []byte
	topics []broker.Topic
	schema *schema
	labels *labelTable
	sum    Summary
	read   int64
	total  int64
	// from and to bound the event time, first and last are what was met, in Unix nanoseconds.
	from, to, first, last int64
	folder                *folder
	written               *hours // nil while the schema is being learnt
}

// Export writes the folder. On an error, and when ctx ends, there is none. A
// folder that may not be made is a Config error.
func Export(ctx context.Context, b *broker.Broker, o Options) (sum *Summary, err error) {
	e := &exporter{o: o, b: b, source: []byte("/freshet/" + o.Pipeline), from: math.MinInt64, to: math.MaxInt64}
	if !o.From.IsZero() {
		e.from = o.From.UnixNano()
	}
	if !o.To.IsZero() {
		e.to = o.To.UnixNano()
	}
	if e.o.create == nil {
		e.o.create = func(path string) (output64, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		}
	}
	if e.folder, err = newFolder(o.Dir, o.Overwrite); err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		sum = nil
		if e.written != nil {
			e.written.abandon()
		}
		if aerr := e.folder.abandon(); aerr != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", e.folder.staging, aerr))
		}
	}()
	for _, name := range o.Topics {
		t, err := b.Describe(ctx, name, "")
		if err != nil {
			return nil, err
		}
		e.topics = append(e.topics, t)
		for _, p := range t.Partitions {
			e.total += p.End - p.Start
		}
	}
	e.schema = newSchema(&o, o.Labels.columns())
	var labels *LabelSummary
	if o.Labels != nil {
		if e.labels, labels, err = readLabels(ctx, b, o.Labels, func(n int64) { e.progress(0) }); err != nil {
			return nil, err
		}
	}
	for pass := 1; ; pass++ {
		e.sum = Summary{Pipeline: o.Pipeline, Dir: e.folder.dir, Labels: labels}
		e.read, e.first, e.last = 0, math.MaxInt64, math.MinInt64
		if err := e.begin(); err != nil {
			return nil, err
		}
		if err := e.pass(ctx); err != nil {
			return nil, err
		}
		if !e.schema.changed {
			break
		}
		if pass == 2 {
			return nil, errkind.New(errkind.Corrupt, "export: the topics gave other results at the second reading")
		}
		e.schema = e.schema.relaid(o, o.Labels.columns())
	}
	if err := e.written.finish(); err != nil {
		return nil, err
	}
	e.sum.Files, e.sum.Bytes, e.sum.Features = e.written.files, e.written.bytes, e.schema.featureNames
	if e.sum.Features == nil {
		e.sum.Features = []string{}
	}
	if e.sum.Rows > 0 {
		first, last := time.Unix(0, e.first).UTC(), time.Unix(0, e.last).UTC()
		e.sum.First, e.sum.Last = &first, &last
	}
	e.written = nil
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := e.folder.publish(&e.sum); err != nil {
		return nil, fmt.Errorf("export to %s: %w", e.folder.dir, err)
	}
	return &e.sum, nil
}

// begin prepares to write rows of the schema.
func (e *exporter) begin() error {
	features, err := json.Marshal(e.schema.featureNames)
	if err != nil {
		return err
	}
	group, err := e.schema.group()
	if err != nil {
		return err
	}
	e.written = &hours{
		dir: e.folder.staging, schema: e.schema, group: group, props: e.schema.properties(),
		about: [][2]string{
			{"freshet.pipeline", e.o.Pipeline}, {"freshet.contract", e.o.Contract},
			{"freshet.contract_digest", e.o.Digest}, {"freshet.features", string(features)},
		},
		digests: e.o.Models, create: e.o.create, limit: cmp.Or(e.o.held, heldRows), most: cmp.Or(e.o.group, groupRows),
		open: map[int64]*hour{}, parts: map[int64]int{},
	}
	return nil
}

// learn stops writing: the rows so far lack what the schema has just learnt.
func (e *exporter) learn() error {
	e.written.abandon()
	e.written = nil
	return e.folder.clear()
}

// pass reads all results and writes their rows, topic by topic: what a topic has
// is not taken from later ones.
func (e *exporter) pass(ctx context.Context) error {
	for i := range e.topics {
		if err := e.topic(ctx, e.o.Topics[i], e.topics[i].Partitions); err != nil {
			return err
		}
	}
	return nil
}

// topic merges the partitions of a topic by event time.
func (e *exporter) topic(ctx context.Context, name string, partitions []broker.PartitionState) (err error) {
	var cursors []*cursor
	defer func() {
		for _, c := range cursors {
			err = errors.Join(err, c.close())
		}
	}()
	for p, state := range partitions {
		if state.Start >= state.End {
			continue
		}
		c, err := openCursor(ctx, e.b, name, p, state)
		if err != nil {
			return err
		}
		cursors = append(cursors, c)
		if err := e.advance(ctx, c); err != nil {
			return err
		}
	}
	return e.merge(ctx, cursors)
}

func (e *exporter) merge(ctx context.Context, cursors []*cursor) error {
	for {
		var first *cursor
		for _, c := range cursors {
			if c.ok && (first == nil || c.row.time() < first.row.time()) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		if e.written != nil {
			if err := e.write(&first.row); err != nil {
				return err
			}
		}
		if err := e.advance(ctx, first); err != nil {
			return err
		}
	}
}

// advance moves a cursor to its next result.
func (e *exporter) advance(ctx context.Context, c *cursor) error {
	c.ok = false
	for {
		if len(c.rest) == 0 {
			var err error
			if c.rest, err = c.fetch(ctx); err != nil {
				return fmt.Errorf("read topic %q: %w", c.topic, err)
			}
			if c.rest == nil {
				return nil
			}
			e.progress(int64(len(c.rest)))
		}
		rec := &c.rest[0]
		c.rest = c.rest[1:]
		if source, ok := rec.Headers.Get("ce_source"); ok && string(source) != string(e.source) {
			e.sum.Foreign++
			continue
		}
		if !e.schema.decode(rec.Value, rec.Time, &c.row) {
			e.sum.Unreadable++
			if e.sum.FirstUnreadable == "" {
				e.sum.FirstUnreadable = fmt.Sprintf("topic %s, partition %d, position %d", c.topic, c.partition, rec.Position)
			}
			continue
		}
		if c.row.misfit && e.written != nil {
			if err := e.learn(); err != nil {
				return err
			}
		}
		c.ok = true
		return nil
	}
}

// write writes a row that lies in the bounds and is new.
func (e *exporter) write(r *row) error {
	t := r.time()
	if t < e.from || t >= e.to {
		e.sum.Outside++
		return nil
	}
	joined := e.labels != nil && e.labels.join(e.schema, r)
	fresh, err := e.written.add(r)
	switch {
	case err != nil:
		return err
	case !fresh:
		e.sum.Duplicates++
		return nil
	case joined:
		e.sum.Labels.Joined++
	}
	e.sum.Rows++
	e.first, e.last = min(e.first, t), max(e.last, t)
	return nil
}

func (e *exporter) progress(records int64) {
	e.read += records
	if e.o.Progress != nil {
		e.o.Progress(Progress{Records: e.read, Total: e.total, Rows: e.sum.Rows})
	}
}
