package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Logger hears of records that are passed over; nil means slog.Default().
	Logger *slog.Logger
	// Env looks up the environment.
	Env func(string) (string, bool)
}

const (
	defaultRoll  = 64 << 20
	defaultEvery = time.Minute
)

// Sender is a bus.Sender into one folder.
type Sender struct {
	dir    string
	format format
	events bool // lines are CloudEvents
	roll   int64
	every  time.Duration
	logger *slog.Logger
	lock   *os.File

	mu     sync.Mutex
	closed bool
	parts  map[partKey]*part
	calls  sync.WaitGroup
	stop   chan struct{}
	ticker sync.WaitGroup
}

type format string

const (
	jsonl   format = "jsonl"
	parquet format = "parquet"
)

type partKey struct {
	topic     string
	partition int
}

// OpenSender opens a folder, which is made where it is not there, and recovers
// what an earlier sender left.
func OpenSender(_ context.Context, url string, o Options) (*Sender, error) {
	s, err := parse(url, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open folder %s: %w", s.dir, err)
	}
	if s.lock, err = lockFolder(s.dir); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		_ = s.lock.Close()
		return nil, err
	}
	s.ticker.Go(s.rollInTime)
	return s, nil
}

func parse(url string, o Options) (*Sender, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, err
	}
	s := &Sender{dir: "/" + e.Path, logger: o.Logger, parts: map[partKey]*part{}, stop: make(chan struct{})}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	bad := func(format string, args ...any) (*Sender, error) {
		return nil, errkind.Errorf(errkind.Config, "%s: "+format, append([]any{e}, args...)...)
	}
	switch {
	case e.Scheme != "file":
		return bad("expected file:///folder")
	case len(e.Hosts) == 1 && (e.Hosts[0] == "." || e.Hosts[0] == ".."):
		s.dir = filepath.Join(e.Hosts[0], e.Path)
	case len(e.Hosts) > 0:
		return bad("expected file:///folder with three slashes, or file://./folder")
	case e.Path == "":
		return bad("the URL names no folder")
	}
	switch s.format = format(e.Option("format", string(jsonl))); s.format {
	case jsonl, parquet:
	default:
		return bad("option format=%s: expected jsonl or parquet", s.format)
	}
	switch content := e.Option("content", "results"); {
	case content == "events" && s.format == jsonl:
		s.events = true
	case content != "results":
		return bad("option content=%s: expected results, or events with format=jsonl", content)
	}
	if s.every, err = e.Duration("every", defaultEvery); err != nil {
		return nil, err
	}
	roll := e.Option("roll", "64MiB")
	if s.roll, err = parseSize(roll); err != nil {
		return bad("option roll=%s: expected a size such as 64MiB", roll)
	}
	return s, e.Done()
}

// largestRoll bounds the memory that a Parquet file takes while it is made.
const largestRoll = 1 << 30

func parseSize(text string) (int64, error) {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}} {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n < 1 || n*unit.bytes > largestRoll {
			return 0, errors.New("out of range")
		}
		return n * unit.bytes, nil
	}
	return 0, errors.New("no unit")
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := s.part(partKey{b.Topic, b.Partition})
	if err != nil {
		return err
	}
	defer s.calls.Done()
	for i := 1; i < len(b.Records); i++ {
		if b.Records[i].Position <= b.Records[i-1].Position {
			return errkind.Errorf(errkind.Permanent, "write to %s: record %d of the batch is at position %d, behind %d: results are written once by their positions, which have to rise",
				s.dir, i, b.Records[i].Position, b.Records[i-1].Position)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var refused []bus.Refused
	passed := 0
	p.buffer = p.buffer[:0]
	last, rows := p.last, 0
	for i := range b.Records {
		r := &b.Records[i]
		line, err := s.line(r)
		switch {
		case err != nil:
			refused = append(refused, bus.Refused{Index: i, Err: err})
		case r.Position <= p.last:
			passed++
		default:
			p.buffer = appendFrame(p.buffer, r.Position, r.ID, line)
			last = r.Position
			rows++
		}
	}
	if passed > 0 {
		s.logger.Info("passed over results that were written already", "folder", s.dir, "topic", b.Topic, "partition", b.Partition, "results", passed)
	}
	if rows > 0 {
		if err := p.append(last); err != nil {
			return s.failed("write to", err)
		}
	}
	if p.size >= s.roll {
		// The results are safe; what fails now is tried again.
		if err := p.finish(); err != nil {
			s.logger.Warn("cannot finish a file", "folder", s.dir, "topic", b.Topic, "partition", b.Partition, "error", err)
		}
	}
	return bus.Refuse(refused)
}

// line is what is written of a record. Its error is Invalid: the record will never be taken.
func (s *Sender) line(r *event.Record) ([]byte, error) {
	if s.events {
		return event.AppendStructured(nil, r), nil
	}
	if s.format == parquet {
		if !isObject(r.Value) {
			return nil, errkind.New(errkind.Invalid, "the result is no JSON object in UTF-8, of which a row can be made")
		}
		return r.Value, nil
	}
	if !json.Valid(r.Value) {
		return nil, errkind.New(errkind.Invalid, "the result is not JSON, and makes no line; content=events takes any")
	}
	return oneLine(r.Value), nil
}

// part is the part of a partition, for one call, which then calls s.calls.Done.
func (s *Sender) part(k partKey) (*part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errkind.Errorf(errkind.Closed, "write to %s: the sender is closed", s.dir)
	}
	p, ok := s.parts[k]
	if !ok {
		p = s.newPart(k)
		s.parts[k] = p
	}
	s.calls.Add(1)
	return p, nil
}

// failed gives a kind to an error of the disk.
func (s *Sender) failed(verb string, err error) error {
	kind := errkind.Permanent
	switch {
	case errkind.Of(err) != errkind.Unknown:
		kind = errkind.Of(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN):
		kind = errkind.Transient // someone may make room
	case errors.Is(err, fs.ErrPermission):
		kind = errkind.Config
	}
	return errkind.Errorf(kind, "%s %s: %w", verb, s.dir, err)
}

// rollInTime finishes files whose time has come.
func (s *Sender) rollInTime() {
	tick := time.NewTicker(max(s.every/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.mu.Lock()
			parts := make([]*part, 0, len(s.parts))
			for _, p := range s.parts {
				parts = append(parts, p)
			}
			s.mu.Unlock()
			for _, p := range parts {
				p.mu.Lock()
				if p.rows > 0 && now.Sub(p.since) >= s.every {
					if err := p.finish(); err != nil {
						s.logger.Warn("cannot finish a file", "folder", s.dir, "topic", p.topic, "partition", p.partition, "error", err)
					}
				}
				p.mu.Unlock()
			}
		}
	}
}

// Close implements bus.Sender: it finishes all files.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.ticker.Wait()
	s.calls.Wait()
	var err error
	for _, p := range s.parts {
		err = errors.Join(err, p.finish(), p.close())
	}
	err = errors.Join(err, s.lock.Close())
	if err != nil {
		return fmt.Errorf("close folder %s: %w", s.dir, err)
	}
	return nil
}
