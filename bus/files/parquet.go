package files

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/freshet-io/freshet/internal/jsonscan"
)

// groupRows is the most rows of a row group.
const groupRows = 1 << 16

// kind is the type of a column: what all its values have in common.
type kind uint8

const (
	unknown kind = iota
	integer
	double
	boolean
	instant
	text
)

// column is a column of the file being made, with the values of one row group.
type column struct {
	name string
	kind kind

	there  []int16
	ints   []int64
	floats []float64
	bools  []bool
	texts  []pq.ByteArray
}

// table are the columns of the file being made.
type table struct {
	columns []*column
	of      map[string]*column
}

// The columns in front, where results have them.
var inFront = []string{"position", "id", "source_id", "time", "key", "score", "route"}

// writeParquet writes the results of frames as a Parquet file. It reads them
// twice: the first time to learn the columns.
func writeParquet(out io.Writer, frames []byte) error {
	t := &table{of: map[string]*column{}}
	for _, name := range inFront {
		t.column(name)
	}
	t.of["position"].kind, t.of["id"].kind = integer, text
	each(frames, func(f frame) {
		values(f.line, "", func(name string, v []byte) { t.column(name).learn(v) })
	})
	kept := t.columns[:0]
	for _, c := range t.columns {
		if c.kind != unknown { // a column of nulls alone says nothing
			kept = append(kept, c)
		}
	}
	t.columns = kept
	group, err := t.schema()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 256<<10)
	// A writer closes what it writes to where it can; the file is to be synced first.
	p, err := file.NewParquetWriterWithError(struct{ io.Writer }{w}, group, file.WithWriterProps(pq.NewWriterProperties(
		pq.WithVersion(pq.V2_LATEST), pq.WithCompression(compress.Codecs.Zstd), pq.WithCreatedBy("freshet"), pq.WithMaxRowGroupLength(groupRows))))
	if err != nil {
		return err
	}
	rows := 0
	each(frames, func(f frame) {
		if err != nil {
			return
		}
		t.add(f)
		if rows++; rows == groupRows {
			err = t.flush(p)
			rows = 0
		}
	})
	if err == nil && rows > 0 {
		err = t.flush(p)
	}
	return cmp.Or(err, p.Close(), w.Flush())
}

func each(frames []byte, f func(frame)) {
	for more := true; more; {
		var x frame
		if x, frames, more = cutFrame(frames); more {
			f(x)
		}
	}
}

func (t *table) column(name string) *column {
	c, ok := t.of[name]
	if !ok {
		c = &column{name: name}
		t.columns = append(t.columns, c)
		t.of[name] = c
	}
	return c
}

// isObject reports whether b is a JSON object in UTF-8.
func isObject(b []byte) bool {
	return utf8.Valid(b) && json.Valid(b) && b[jsonscan.Space(b, 0)] == '{'
}

// values calls f with each value of a result and the name of its column.
func values(b []byte, prefix string, f func(name string, v []byte)) {
	i := jsonscan.Space(b, jsonscan.Space(b, 0)+1)
	for b[i] != '}' {
		start := i
		i = jsonscan.Value(b, i)
		quoted := b[start:i]
		i = jsonscan.Space(b, jsonscan.Space(b, i)+1) // the colon
		start = i
		i = jsonscan.Value(b, i)
		v := b[start:i]
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
		}
		name := prefix + unquote(quoted)
		if v[0] == '{' && (name == "outputs" || name == "features" || name == "feature_times") {
			values(v, name+".", f)
			continue
		}
		if name != "position" { // the column is ours
			f(name, v)
		}
	}
}

func unquote(v []byte) string {
	var s string
	if strings.IndexByte(string(v), '\\') < 0 || json.Unmarshal(v, &s) != nil {
		return string(v[1 : len(v)-1])
	}
	return s
}

// isClock reports whether a column's texts are times.
func isClock(name string) bool {
	return name == "time" || name == "arrival" || strings.HasPrefix(name, "feature_times.")
}

// learn makes the column's kind one that holds v too.
func (c *column) learn(v []byte) {
	k := text
	switch v[0] {
	case 'n':
		return
	case 't', 'f':
		k = boolean
	case '"':
		if _, ok := clock(v); ok && isClock(c.name) {
			k = instant
		}
	case '{', '[':
	default:
		if _, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			k = integer
		} else if _, err := strconv.ParseFloat(string(v), 64); err == nil {
			k = double
		}
	}
	switch {
	case c.kind == unknown:
		c.kind = k
	case c.kind == k:
	case (c.kind == integer || c.kind == double) && (k == integer || k == double):
		c.kind = double
	default:
		c.kind = text
	}
}

func clock(v []byte) (ns int64, ok bool) {
	if len(v) < 2 {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(v[1:len(v)-1]))
	if err != nil {
		return 0, false
	}
	ns = t.UnixNano()
	return ns, time.Unix(0, ns).Equal(t) // else it is beyond 64 bits
}

// add adds a row.
func (t *table) add(f frame) {
	rows := len(t.of["position"].there)
	t.of["position"].ints = append(t.of["position"].ints, f.position)
	t.of["position"].there = append(t.of["position"].there, 1)
	values(f.line, "", func(name string, v []byte) {
		if c := t.of[name]; c.kind != unknown && len(c.there) == rows { // of a name given twice the first counts
			c.put(v)
		}
	})
	if c := t.of["id"]; len(c.there) == rows && len(f.id) > 0 {
		c.texts = append(c.texts, f.id)
		c.there = append(c.there, 1)
	}
	for _, c := range t.columns {
		if len(c.there) == rows {
			c.there = append(c.there, 0)
		}
	}
}

func (c *column) put(v []byte) {
	if v[0] == 'n' {
		return
	}
	switch c.kind {
	case integer:
		n, _ := strconv.ParseInt(string(v), 10, 64)
		c.ints = append(c.ints, n)
	case double:
		x, _ := strconv.ParseFloat(string(v), 64)
		c.floats = append(c.floats, x)
	case boolean:
		c.bools = append(c.bools, v[0] == 't')
	case instant:
		ns, _ := clock(v)
		c.ints = append(c.ints, ns)
	default:
		if v[0] == '"' {
			v = []byte(unquote(v))
		}
		c.texts = append(c.texts, v)
	}
	c.there = append(c.there, 1)
}

// schema is the columns as Parquet has them; all may be null.
func (t *table) schema() (*schema.GroupNode, error) {
	utc := schema.NewTimestampLogicalType(true, schema.TimeUnitNanos)
	var fields schema.FieldList
	for _, c := range t.columns {
		var n schema.Node
		var err error
		switch c.kind {
		case integer:
			n = schema.NewInt64Node(c.name, pq.Repetitions.Optional, -1)
		case double:
			n = schema.NewFloat64Node(c.name, pq.Repetitions.Optional, -1)
		case boolean:
			n = schema.NewBooleanNode(c.name, pq.Repetitions.Optional, -1)
		case instant:
			n, err = schema.NewPrimitiveNodeLogical(c.name, pq.Repetitions.Optional, utc, pq.Types.Int64, 0, -1)
		default:
			n, err = schema.NewPrimitiveNodeLogical(c.name, pq.Repetitions.Optional, schema.StringLogicalType{}, pq.Types.ByteArray, 0, -1)
		}
		if err != nil {
			return nil, fmt.Errorf("lay out column %q: %w", c.name, err)
		}
		fields = append(fields, n)
	}
	return schema.NewGroupNode("result", pq.Repetitions.Required, fields, -1)
}

// flush writes the rows as a row group.
func (t *table) flush(p *file.Writer) error {
	rows, err := p.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for _, c := range t.columns {
		w, err := rows.NextColumn()
		if err != nil {
			return err
		}
		switch w := w.(type) {
		case *file.Float64ColumnChunkWriter:
			_, err = w.WriteBatch(c.floats, c.there, nil)
		case *file.Int64ColumnChunkWriter:
			_, err = w.WriteBatch(c.ints, c.there, nil)
		case *file.BooleanColumnChunkWriter:
			_, err = w.WriteBatch(c.bools, c.there, nil)
		case *file.ByteArrayColumnChunkWriter:
			_, err = w.WriteBatch(c.texts, c.there, nil)
		}
		if err := cmp.Or(err, w.Close()); err != nil {
			return err
		}
		c.there, c.ints, c.floats, c.bools, c.texts = c.there[:0], c.ints[:0], c.floats[:0], c.bools[:0], c.texts[:0]
	}
	return rows.Close()
}
