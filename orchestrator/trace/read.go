package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// The most that is read: longer traces, or one stamp far from the
// others, would take all memory.
const (
	maxSteps = 50_000_000
	maxLine  = 1 << 20
	// maxCount is the largest number taken for a count or a rate.
	maxCount = 1e12
)

// Read reads a trace from a file; a name that ends in .gz is unpacked. The forms it knows:
//
//   - one number a line: requests in each second
//   - a time and a number a line: events in each step (count, value, requests, events, …), or events a second
//     where the heading says so (requests_per_second, rps, …). The step is the commonest distance of two lines.
//   - one line a request, with its time and anything else: counted by the second
//
// Fields are separated by commas, semicolons or tabs. A heading names the columns; without
// one, a line of one or two fields is a number, or a time and a number, and a longer one a request. A time is
// a date with a time of day, or a number: Unix seconds, milliseconds, microseconds or nanoseconds by its size,
// otherwise counted in what the heading says (minute, hour, start_s, …). Lines that are empty or begin with # are skipped.
//
// Steps without a line, or with an empty number, are holes. Lines out of order are put in order, a time that
// comes again is averaged if that is rare, and Notes say so. Read fails, with the file and
// line, where something is not a number or a time, negative or above 1e12, where times come again often, and where
// fewer than two steps are left. Its errors are of kind Config, NotFound, Invalid or Exhausted.
func Read(path string) (*Trace, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errkind.Errorf(errkind.NotFound, "read trace: %w", err)
	}
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "read trace: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, errkind.Errorf(errkind.Config, "read trace: %s is a folder, expected a file", path)
	}
	var in io.Reader = f
	name := filepath.Base(path)
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "read trace %s: expected gzip: %w", path, err)
		}
		in, name = z, strings.TrimSuffix(name, ".gz")
	}
	t, err := Parse(in, path)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	t.Name = strings.TrimSuffix(name, filepath.Ext(name))
	return t, nil
}

// Parse is Read of text that was opened already; name is what errors call it.
func Parse(r io.Reader, name string) (*Trace, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	p := parser{name: name}
	for lines.Scan() {
		p.line++
		text := bytes.TrimSpace(lines.Bytes())
		if p.line == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if err := p.take(string(text)); err != nil {
			return nil, err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errkind.Errorf(errkind.Invalid, "%s:%d: a line of more than %d bytes, expected a time and a number", name, p.line+1, maxLine)
	case err != nil:
		return nil, errkind.Errorf(errkind.Invalid, "%s:%d: %w", name, p.line+1, err)
	case p.form == nil:
		return nil, p.errorf("no line with a number or a time")
	}
	t, err := p.form.finish()
	if err != nil {
		return nil, err
	}
	t.Name, t.Notes = name, append(t.Notes, p.notes...)
	return t, nil
}

// form is one of the forms of a file, once it is known.
type form interface {
	take(fields []string) error
	finish() (*Trace, error)
}

// parser goes through lines: a heading perhaps, then the form that the first line shows.
type parser struct {
	name  string
	line  int
	comma string // empty until known
	form  form
	head  []string // nil where there is none
	notes []string
}

func (p *parser) errorf(format string, args ...any) error {
	return errkind.Errorf(errkind.Invalid, "%s:%d: %w", p.name, p.line, fmt.Errorf(format, args...))
}

func (p *parser) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func (p *parser) take(text string) error {
	if p.comma == "" {
		p.comma = separator(text)
	}
	fields := strings.Split(text, p.comma)
	for i, f := range fields {
		fields[i] = strings.Trim(strings.TrimSpace(f), `"`)
	}
	if p.form != nil {
		return p.form.take(fields)
	}
	if p.head == nil && heading(fields) {
		p.head = fields
		p.comma = separator(text)
		return nil
	}
	if p.head == nil && len(fields) == 1 {
		p.comma = separator(text)
	}
	if err := p.choose(fields); err != nil {
		return err
	}
	return p.form.take(fields)
}

func separator(text string) string {
	for _, s := range []string{",", ";", "\t"} {
		if strings.Contains(text, s) {
			return s
		}
	}
	return ","
}

// heading reports whether a line names columns: no field is a number or a time.
func heading(fields []string) bool {
	for _, f := range fields {
		if _, err := number(f); err == nil {
			return false
		}
		if _, err := stamp(f); err == nil {
			return false
		}
	}
	return true
}

// choose sets the form by the heading, or by the first line.
func (p *parser) choose(fields []string) error {
	when, count := 0, 1
	unit, rate := time.Second, false
	if p.head != nil {
		when, count = -1, -1
		for i, h := range p.head {
			h = strings.ToLower(h)
			if u, ok := timeColumns[h]; ok && when < 0 {
				when, unit = i, u
			}
			if perSecond, ok := countColumns[h]; ok && count < 0 {
				count, rate = i, perSecond
			}
		}
		if when < 0 && len(p.head) == 1 {
			// One column of whatever name.
			if _, err := number(fields[0]); err == nil {
				p.form = &numbers{p: p}
				return nil
			}
			when = 0
		}
		if when < 0 && count >= 0 {
			return p.errorf("no column of times in %q, expected one of timestamp, time, second, minute, hour, start_s", strings.Join(p.head, p.comma))
		}
		if when < 0 {
			when = 0
		}
		if count < 0 && len(p.head) == 2 {
			count = 1 - min(when, 1)
		}
	}
	switch {
	case p.head == nil && len(fields) == 1:
		if _, err := number(fields[0]); err == nil {
			p.form = &numbers{p: p}
			return nil
		}
		p.form = newRequests(p, 0, unit)
	case p.head == nil && len(fields) > 2, count < 0, count == when:
		p.form = newRequests(p, when, unit)
	default:
		p.form = &series{p: p, when: when, count: count, unit: unit, rate: rate, last: math.MinInt64}
	}
	if _, err := stampOf(fields, when, unit); err != nil {
		return p.errorf("%w", err)
	}
	if x, err := number(fields[when]); err == nil && x < earliest && p.head == nil {
		p.note("times are taken as seconds: no heading says otherwise")
	}
	return nil
}

// timeColumns are the names of columns of times, with what their
// numbers count where they are too small to be a date.
var timeColumns = map[string]time.Duration{
	"timestamp": time.Second, "time": time.Second, "ts": time.Second, "datetime": time.Second, "date": 24 * time.Hour,
	"start": time.Second, "start_time": time.Second, "arrival_time": time.Second, "arrived_at": time.Second,
	"second": time.Second, "seconds": time.Second, "sec": time.Second, "t": time.Second, "start_s": time.Second, "time_s": time.Second, "timestamp_s": time.Second,
	"millisecond": time.Millisecond, "start_ms": time.Millisecond, "time_ms": time.Millisecond, "timestamp_ms": time.Millisecond,
	"minute": time.Minute, "minutes": time.Minute, "min": time.Minute, "start_min": time.Minute,
	"hour": time.Hour, "hours": time.Hour, "day": 24 * time.Hour,
}

// countColumns are the names of columns of numbers; true where they are rates per second.
var countColumns = map[string]bool{
	"count": false, "counts": false, "value": false, "values": false, "requests": false, "events": false, "invocations": false,
	"arrivals": false, "messages": false, "calls": false, "hits": false, "tweets": false, "n": false, "load": false, "total": false,
	"requests_per_second": true, "events_per_second": true, "arrivals_per_second": true, "messages_per_second": true,
	"rps": true, "qps": true, "eps": true, "rate": true, "per_second": true, "req/s": true, "requests/s": true, "events/s": true,
}
