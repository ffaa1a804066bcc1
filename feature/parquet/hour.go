package parquet

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow-go/v18/arrow/memory"
	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/freshet-io/freshet/event"
)

// groupRows is the most rows of a row group, and so of an hour in memory.
const groupRows = 1 << 16

// id is the hash of a source event's id.
type id [16]byte

func hashID(b []byte) id {
	h := sha256.Sum256(b)
	return id(h[:16])
}

// buffer is rows of a row group, column by column.
type buffer struct {
	rows    int
	columns []columnBuffer
	arena   []byte
}

// columnBuffer holds a column's values that are not null and, for each row, whether it has one.
type columnBuffer struct {
	there  []int16
	ints   []int64
	floats []float64
	bools  []bool
	texts  []pq.ByteArray
}

// appendRow takes a copy of a row.
func (b *buffer) appendRow(s *schema, r *row) {
	for i := range s.columns {
		c, v := &b.columns[i], &r.values[i]
		if !v.set {
			c.there = append(c.there, 0)
			continue
		}
		c.there = append(c.there, 1)
		switch s.columns[i].kind {
		case event.Float:
			c.floats = append(c.floats, math.Float64frombits(v.bits))
		case event.Int, event.Time:
			c.ints = append(c.ints, int64(v.bits))
		case event.Bool:
			c.bools = append(c.bools, v.bits != 0)
		default:
			c.texts = append(c.texts, b.keep(v.text))
		}
	}
	b.rows++
}

// keep copies a text. Texts that were kept stay where they are when the arena is replaced.
func (b *buffer) keep(t []byte) pq.ByteArray {
	if len(b.arena)+len(t) > cap(b.arena) {
		b.arena = make([]byte, 0, max(min(64<<10, 2*cap(b.arena)), 4<<10, len(t)))
	}
	from := len(b.arena)
	b.arena = append(b.arena, t...)
	return pq.ByteArray(b.arena[from:len(b.arena):len(b.arena)])
}

func (b *buffer) reset() {
	b.rows, b.arena = 0, b.arena[:0]
	for i := range b.columns {
		c := &b.columns[i]
		c.there, c.ints, c.floats, c.bools, c.texts = c.there[:0], c.ints[:0], c.floats[:0], c.bools[:0], c.texts[:0]
	}
}

// part is a Parquet file being written.
type part struct {
	out *bufio.Writer
	pq  *file.Writer
}

// group is the schema as Parquet has it. Of every row there is an id and a time.
func (s *schema) group() (*pqschema.GroupNode, error) {
	utc := pqschema.NewTimestampLogicalType(true, pqschema.TimeUnitNanos)
	var fields pqschema.FieldList
	for i, c := range s.columns {
		repetition := pq.Repetitions.Optional
		if i == colID || i == colTime {
			repetition = pq.Repetitions.Required
		}
		var n pqschema.Node
		var err error
		switch c.kind {
		case event.Float:
			n = pqschema.NewFloat64Node(c.name, repetition, -1)
		case event.Int:
			n = pqschema.NewInt64Node(c.name, repetition, -1)
		case event.Bool:
			n = pqschema.NewBooleanNode(c.name, repetition, -1)
		case event.Time:
			n, err = pqschema.NewPrimitiveNodeLogical(c.name, repetition, utc, pq.Types.Int64, 0, -1)
		default:
			n, err = pqschema.NewPrimitiveNodeLogical(c.name, repetition, pqschema.StringLogicalType{}, pq.Types.ByteArray, 0, -1)
		}
		if err != nil {
			return nil, fmt.Errorf("lay out column %q: %w", c.name, err)
		}
		fields = append(fields, n)
	}
	return pqschema.NewGroupNode("row", pq.Repetitions.Required, fields, -1)
}

// properties are how every file is written.
func (s *schema) properties() *pq.WriterProperties {
	o := []pq.WriterProperty{
		pq.WithVersion(pq.V2_LATEST), pq.WithCompression(compress.Codecs.Zstd), pq.WithCreatedBy("freshet"),
		pq.WithDictionaryDefault(false), pq.WithMaxRowGroupLength(groupRows),
	}
	for _, c := range s.columns {
		if c.dictionary {
			o = append(o, pq.WithDictionaryPath(pq.ColumnPath{c.name}, true))
		}
	}
	return pq.NewWriterProperties(o...)
}

func newPart(w io.Writer, group *pqschema.GroupNode, props *pq.WriterProperties) (*part, error) {
	p := &part{out: bufio.NewWriterSize(w, 64<<10)}
	var err error
	p.pq, err = file.NewParquetWriterWithError(p.out, group, file.WithWriterProps(props))
	return p, err
}

// write writes the rows as a row group.
func (p *part) write(b *buffer) error {
	rows, err := p.pq.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for i := range b.columns {
		w, err := rows.NextColumn()
		if err != nil {
			return err
		}
		c := &b.columns[i]
		there := c.there
		if i == colID || i == colTime {
			there = nil
		}
		switch w := w.(type) {
		case *file.Float64ColumnChunkWriter:
			_, err = w.WriteBatch(c.floats, there, nil)
		case *file.Int64ColumnChunkWriter:
			_, err = w.WriteBatch(c.ints, there, nil)
		case *file.BooleanColumnChunkWriter:
			_, err = w.WriteBatch(c.bools, there, nil)
		case *file.ByteArrayColumnChunkWriter:
			_, err = w.WriteBatch(c.texts, there, nil)
		}
		if err := cmp.Or(err, w.Close()); err != nil {
			return err
		}
	}
	return rows.Close()
}

// finish writes the end of the file with what it says about its rows.
func (p *part) finish(about [][2]string, models map[string]bool, digests map[string]string) error {
	known := map[string]*string{}
	for m := range models {
		known[m] = nil
		if d, ok := digests[m]; ok {
			known[m] = &d
		}
	}
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	for _, kv := range append(about[:len(about):len(about)], [2]string{"freshet.models", string(text)}) {
		if err := p.pq.AppendKeyValueMetadata(kv[0], kv[1]); err != nil {
			return err
		}
	}
	if err := p.pq.Close(); err != nil {
		return err
	}
	return p.out.Flush()
}

// readIDs calls f with the hash of every id in a file that finish has ended.
func readIDs(path string, f func(id)) error {
	r, err := file.OpenParquetFile(path, false, file.WithReadProps(pq.NewReaderProperties(memory.DefaultAllocator)))
	if err != nil {
		return err
	}
	defer r.Close()
	texts := make([]pq.ByteArray, 1024)
	for g := range r.NumRowGroups() {
		column, err := r.RowGroup(g).Column(colID)
		if err != nil {
			return err
		}
		ids := column.(*file.ByteArrayColumnChunkReader)
		for ids.HasNext() {
			_, n, err := ids.ReadBatch(int64(len(texts)), texts, nil, nil)
			if err != nil {
				return err
			}
			for _, t := range texts[:n] {
				f(hashID(t))
			}
		}
		if err := ids.Err(); err != nil {
			return err
		}
	}
	return nil
}
