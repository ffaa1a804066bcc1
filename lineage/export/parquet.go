package export

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

// groupRows is the most rows of a row group, and so in memory.
const groupRows = 1 << 16

// Columns gathers what columns a table of predictions has. Every record that is
// written must have been seen by Learn.
type Columns struct {
	names []string
	at    map[string]int
	kinds []kind
}

// kind is the type of a column. A column whose values are of several is text.
type kind uint8

const (
	unknown kind = iota
	number
	whole
	boolean
	instant
	words
)

// visitor is called with each cell of a record that has a value.
type visitor func(name string, k kind, v any)

// cells visits what a record has. Later steps' columns have _2 and so on behind their names.
func cells(r *lineage.Record, visit visitor) {
	text := func(name, v string) {
		if v != "" {
			visit(name, words, v)
		}
	}
	at := func(name string, t *time.Time) {
		if t != nil {
			visit(name, instant, *t)
		}
	}
	text("id", r.Event.ID)
	text("result_id", r.Result.ID)
	text("key", r.Event.Key)
	visit("time", instant, r.Times.Event)
	at("arrival", r.Times.Arrival)
	at("inference", r.Times.Inference)
	at("published", r.Times.Published)
	text("topic", r.Event.Topic)
	visit("partition", whole, int64(r.Event.Partition))
	visit("position", whole, int64(r.Event.Position))
	text("pipeline", r.Pipeline)
	text("config", r.Config)
	text("contract", r.Contract)
	text("route", r.Result.Route)
	for i := range r.Answers {
		a := &r.Answers[i]
		suffix := ""
		if i > 0 {
			suffix = "_" + strconv.Itoa(i+1)
		}
		text("model"+suffix, a.Model)
		text("version"+suffix, a.Version)
		text("digest"+suffix, a.Digest)
		text("role"+suffix, a.Role)
		text("rollout"+suffix, a.Rollout)
		text("path"+suffix, a.Path)
		if c := a.Call; c != nil {
			visit("batch_rows"+suffix, whole, int64(c.BatchRows))
			text("flush_reason"+suffix, c.Flush)
			visit("attempts"+suffix, whole, int64(c.Attempts))
		}
		for _, s := range a.Shadows {
			cell("shadow"+suffix, s.Score, visit)
			text("shadow_version"+suffix, s.Version)
		}
		for _, o := range a.Outputs {
			cell(o.Name, o.Value, visit)
		}
	}
	for i := range r.Features {
		f := &r.Features[i]
		cell(f.Name, f.Value, visit)
		if f.Newest != nil && (f.DelaySeconds > 0 || f.Lookup) {
			visit(f.Name+"@time", instant, *f.Newest)
		}
	}
	for i := range r.Answers {
		e := r.Answers[i].Explanation
		if e == nil {
			continue
		}
		suffix := ""
		if i > 0 {
			suffix = "_" + strconv.Itoa(i+1)
		}
		cell("attribution"+suffix+".base", e.Base, visit)
		cell("attribution"+suffix+".raw", e.Raw, visit)
		for _, a := range e.Attributions {
			cell("attribution"+suffix+"."+a.Input, a.Attribution, visit)
		}
	}
}

// cell visits a value of unknown kind. The texts for NaN and the infinities are numbers.
func cell(name string, v any, visit visitor) {
	switch x := v.(type) {
	case float64:
		visit(name, number, x)
	case int64:
		visit(name, number, float64(x))
	case bool:
		visit(name, boolean, x)
	case time.Time:
		visit(name, instant, x)
	case string:
		switch x {
		case "NaN":
			visit(name, number, math.NaN())
		case "Infinity":
			visit(name, number, math.Inf(1))
		case "-Infinity":
			visit(name, number, math.Inf(-1))
		default:
			visit(name, words, x)
		}
	}
}

// Learn takes note of a record's columns.
func (c *Columns) Learn(r *lineage.Record) {
	if c.at == nil {
		c.at = map[string]int{}
	}
	cells(r, func(name string, k kind, _ any) {
		at, ok := c.at[name]
		switch {
		case !ok:
			c.at[name] = len(c.names)
			c.names, c.kinds = append(c.names, name), append(c.kinds, k)
		case c.kinds[at] != k:
			c.kinds[at] = words
		}
	})
}

var arrowTypes = [...]arrow.DataType{
	unknown: arrow.BinaryTypes.String, number: arrow.PrimitiveTypes.Float64, whole: arrow.PrimitiveTypes.Int64, boolean: arrow.FixedWidthTypes.Boolean,
	instant: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, words: arrow.BinaryTypes.String,
}

// Table writes records as a Parquet file.
type Table struct {
	c    *Columns
	w    *pqarrow.FileWriter
	b    *array.RecordBuilder
	rows int
	set  []int // the last row that has a value of each column, counted from 1
	// Rows counts all.
	Rows int64
}

// NewTable returns a Table with the columns learnt, on w, which stays the caller's to close.
func NewTable(w io.Writer, c *Columns) (*Table, error) {
	fields := make([]arrow.Field, len(c.names))
	for i, name := range c.names {
		fields[i] = arrow.Field{Name: name, Type: arrowTypes[c.kinds[i]], Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	fw, err := pqarrow.NewFileWriter(schema, struct{ io.Writer }{w},
		parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCreatedBy("freshet"), parquet.WithMaxRowGroupLength(groupRows)),
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return nil, fmt.Errorf("write Parquet: %w", err)
	}
	return &Table{c: c, w: fw, b: array.NewRecordBuilder(memory.DefaultAllocator, schema), set: make([]int, len(c.names))}, nil
}

// Write writes a record. One with columns that were not learnt is a Conflict.
func (t *Table) Write(r *lineage.Record) error {
	var fault error
	t.rows++
	cells(r, func(name string, k kind, v any) {
		at, ok := t.c.at[name]
		if !ok || k != t.c.kinds[at] && t.c.kinds[at] != words {
			fault = errkind.Errorf(errkind.Conflict, "write Parquet: event %s has a column %q that was not there at first: predictions of a changed pipeline came in between; export again", r.Event.ID, name)
			return
		}
		if t.set[at] == t.rows {
			return // two columns of one name: the first stays
		}
		t.set[at] = t.rows
		t.b.Field(at).Reserve(1)
		switch b := t.b.Field(at).(type) {
		case *array.Float64Builder:
			b.Append(v.(float64))
		case *array.Int64Builder:
			b.Append(v.(int64))
		case *array.BooleanBuilder:
			b.Append(v.(bool))
		case *array.TimestampBuilder:
			b.Append(arrow.Timestamp(v.(time.Time).UnixNano()))
		case *array.StringBuilder:
			if s, ok := v.(string); ok {
				b.Append(s)
			} else {
				b.Append(fmt.Sprint(v))
			}
		}
	})
	if fault != nil {
		return fault
	}
	for i := range t.set {
		if t.set[i] != t.rows {
			t.b.Field(i).AppendNull()
		}
	}
	t.Rows++
	if t.rows == groupRows {
		return t.flush()
	}
	return nil
}

func (t *Table) flush() error {
	if t.rows == 0 {
		return nil
	}
	rec := t.b.NewRecordBatch()
	defer rec.Release()
	t.rows = 0
	clear(t.set)
	if err := t.w.WriteBuffered(rec); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// Close writes the end of the file.
func (t *Table) Close() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.b.Release()
	if err := t.w.Close(); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}
