package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/freshet-io/freshet/bench/workload"
)

// outgoing is one event on its way to a topic. Its slices are valid until the
// next call of the source.
type outgoing struct {
	id, key, value []byte
	// where says where the event comes from, for messages.
	file string
	line int
}

// eventSource yields the events that produce sends.
type eventSource interface {
	// next fills e; io.EOF after the last event.
	next(e *outgoing) error
	// done returns how much of the whole has been read, in the same unit;
	// total is -1 where it is not known.
	done() (n, total int64)
	// limit sets the longest line; longer ones are rejected.
	limit(bytes int)
	close() error
}

// fileSource reads JSON lines and CSV files, one after the other.
type fileSource struct {
	app    *app
	shape  shape
	format string // auto, json or csv
	max    int    // longest line, in bytes
	files  []string
	reject func(file string, line, size, limit int)

	path    string // of the open file
	name    string // the same for messages
	in      io.ReadCloser
	lines   *lineReader
	csv     bool
	columns []csvColumn
	fields  [][]byte
	buf, id []byte

	read  atomic.Int64
	total int64
}

func (a *app) newFileSource(s shape, format string, files []string, reject func(file string, line, size, limit int)) (*fileSource, error) {
	f := &fileSource{app: a, shape: s, format: format, max: maxLine, files: files, reject: reject}
	for _, name := range files {
		size, err := inputSize(name)
		if err != nil {
			return nil, err
		}
		if size < 0 || f.total < 0 {
			f.total = -1
			continue
		}
		f.total += size
	}
	return f, nil
}

func (f *fileSource) done() (int64, int64) { return f.read.Load(), f.total }

func (f *fileSource) limit(bytes int) { f.max = bytes }

func (f *fileSource) close() error {
	if f.in == nil {
		return nil
	}
	err := f.in.Close()
	f.in = nil
	return err
}

// open opens the next file; io.EOF after the last.
func (f *fileSource) open() error {
	if len(f.files) == 0 {
		return io.EOF
	}
	f.path, f.files = f.files[0], f.files[1:]
	if f.name = f.path; f.path == "-" {
		f.name = "standard input"
	}
	in, err := f.app.openInput(f.path)
	if err != nil {
		return err
	}
	f.in = in
	f.lines, err = newLineReader(&countingReader{in, &f.read}, f.max)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	f.csv = f.format == "csv" || f.format == "auto" && strings.HasSuffix(strings.TrimSuffix(strings.ToLower(f.path), ".gz"), ".csv")
	if !f.csv {
		return nil
	}
	header, _, err := f.lines.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil // an empty file has no events
	case err != nil:
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	if f.columns, err = csvHeader(header, f.shape.types); err != nil {
		return fmt.Errorf("read %s:1: %w; a CSV file begins with the names of its columns", f.name, err)
	}
	return nil
}

func (f *fileSource) next(e *outgoing) error {
	for {
		if f.in == nil {
			if err := f.open(); err != nil {
				return err
			}
		}
		line, size, err := f.lines.next()
		switch {
		case errors.Is(err, io.EOF):
			if err := f.close(); err != nil {
				return fmt.Errorf("read %s: %w", f.name, err)
			}
			continue
		case err != nil:
			return fmt.Errorf("read %s: %w", f.name, err)
		case line == nil:
			f.reject(f.name, f.lines.line, size, f.max)
			continue
		}
		*e = outgoing{value: line, file: f.name, line: f.lines.line}
		if !f.decode(line, e) && f.shape.id != "" {
			e.id = f.lineID(line)
		}
		return nil
	}
}

// decode makes an event of a line. It returns false where the line cannot be
// read or has no id: then the line goes out as it is.
func (f *fileSource) decode(line []byte, e *outgoing) bool {
	if f.csv {
		if !utf8.Valid(line) {
			return false
		}
		var err error
		if f.fields, err = splitCSV(f.fields[:0], line); err != nil {
			return false
		}
		if f.buf, err = appendCSV(f.buf[:0], f.columns, f.fields); err != nil {
			return false
		}
		e.value = f.buf
	}
	if f.shape.id == "" && f.shape.key == "" {
		return true
	}
	var ok bool
	e.id, e.key, ok = f.shape.envelope(e.value)
	return ok && len(e.id) > 0
}

// lineID is the id of an event that has none of its own: it is the same
// whenever the same file is sent again.
func (f *fileSource) lineID(line []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n", filepath.Base(f.path), f.lines.line)
	h.Write(line)
	f.id = append(f.id[:0], "line-"...)
	return hex.AppendEncode(f.id, h.Sum(nil)[:16])
}

type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// paymentSource yields generated card payments.
type paymentSource struct {
	gen     *workload.Generator
	shape   shape
	count   int64 // 0 ends with the generator
	sent    atomic.Int64
	payment workload.Payment
	buf     []byte
	id, key []byte
}

func (g *paymentSource) done() (int64, int64) {
	if g.count == 0 {
		return g.sent.Load(), -1
	}
	return g.sent.Load(), g.count
}

func (g *paymentSource) limit(int) {} // payments are short

func (g *paymentSource) close() error { return nil }

func (g *paymentSource) next(e *outgoing) error {
	if g.count > 0 && g.sent.Load() == g.count || !g.gen.Next(&g.payment) {
		return io.EOF
	}
	g.buf = g.payment.AppendJSON(g.buf[:0])
	*e = outgoing{value: g.buf}
	if g.id = appendPaymentField(g.id[:0], &g.payment, g.shape.id); len(g.id) > 0 {
		e.id = g.id
	}
	if g.key = appendPaymentField(g.key[:0], &g.payment, g.shape.key); len(g.key) > 0 {
		e.key = g.key
	}
	g.sent.Add(1)
	return nil
}

// appendPaymentField appends the text of a field that may serve as id or key.
func appendPaymentField(b []byte, p *workload.Payment, name string) []byte {
	switch name {
	case "transaction_id":
		return strconv.AppendInt(b, p.ID, 10)
	case "customer_id":
		return strconv.AppendInt(b, int64(p.Customer), 10)
	case "terminal_id":
		return strconv.AppendInt(b, int64(p.Terminal), 10)
	}
	return b
}
