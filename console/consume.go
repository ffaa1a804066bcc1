package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// query is what a GET of a topic asks for.
type query struct {
	from      string // earliest, latest, a position or a time
	follow    bool
	events    bool // format=event
	partition int  // −1 for all
	limit     int64
}

func parseQuery(v url.Values) (query, error) {
	q := query{from: "earliest", partition: -1, limit: -1}
	for name, values := range v {
		if len(values) != 1 {
			return q, errkind.Errorf(errkind.Invalid, "query parameter %s is given %d times", name, len(values))
		}
		value := values[0]
		var err error
		want := ""
		switch name {
		case "from":
			q.from = value
		case "follow":
			want = "true or false"
			q.follow, err = strconv.ParseBool(value)
		case "partition":
			want = "a partition's number"
			q.partition, err = strconv.Atoi(value)
			if q.partition < 0 {
				err = strconv.ErrRange
			}
		case "limit":
			want = "a number of records of at least 1"
			q.limit, err = strconv.ParseInt(value, 10, 64)
			if q.limit < 1 {
				err = strconv.ErrRange
			}
		case "format":
			want = "value or event"
			if q.events = value == "event"; !q.events && value != "value" {
				err = strconv.ErrSyntax
			}
		default:
			return q, errkind.Errorf(errkind.Invalid, "query parameter %q is not known; there are from, follow, partition, limit and format", name)
		}
		if err != nil {
			return q, errkind.Errorf(errkind.Invalid, "query parameter %s is %q, expected %s", name, value, want)
		}
	}
	return q, nil
}

// span is the part of a partition that a stream reads: up to end, or for ever where end is −1.
type span struct {
	partition int
	from, end int64
}

// spans finds where the stream begins and ends in each partition.
func (s *Server) spans(ctx context.Context, topic string, q query) ([]span, error) {
	t, err := s.o.Broker.Describe(ctx, topic, "")
	if err != nil {
		return nil, err
	}
	if q.partition >= len(t.Partitions) {
		return nil, errkind.Errorf(errkind.Invalid, "query parameter partition is %d, topic %q has %d, counted from 0", q.partition, topic, len(t.Partitions))
	}
	var out []span
	for p, st := range t.Partitions {
		if q.partition >= 0 && p != q.partition {
			continue
		}
		from, err := s.start(ctx, topic, p, &st, q, len(t.Partitions))
		if err != nil {
			return nil, err
		}
		sp := span{p, max(from, st.Start), st.End}
		if q.follow {
			sp.end = -1
		}
		out = append(out, sp)
	}
	return out, nil
}

func (s *Server) start(ctx context.Context, topic string, p int, st *broker.PartitionState, q query, partitions int) (int64, error) {
	switch q.from {
	case "earliest":
		return st.Start, nil
	case "latest":
		return st.End, nil
	}
	if pos, err := strconv.ParseInt(q.from, 10, 64); err == nil && pos >= 0 {
		if q.partition < 0 && partitions > 1 {
			return 0, errkind.Errorf(errkind.Invalid, "query parameter from is a position: say of which of the %d partitions, as in ?partition=0&from=%d", partitions, pos)
		}
		return pos, nil
	}
	at, err := time.Parse(time.RFC3339Nano, q.from)
	if err != nil {
		return 0, errkind.Errorf(errkind.Invalid, "query parameter from is %q, expected earliest, latest, a position or a time as in 2006-01-02T15:04:05Z", q.from)
	}
	return s.o.Broker.Seek(ctx, topic, p, at)
}

// consume streams a topic as NDJSON.
func (s *Server) consume(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	topic := r.PathValue("topic")
	spans, err := s.spans(r.Context(), topic, q)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !enter(w, s.streams) {
		return
	}
	defer func() { <-s.streams }()
	w.Header().Set("Content-Type", typeNDJSON)
	out := newStreamWriter(w, q, s.timeout)
	if r.Method == http.MethodHead || out.flush() != nil {
		return
	}
	err = s.stream(r.Context(), topic, spans, out)
	switch {
	case err == nil, errors.Is(err, errGone):
	case errkind.Is(err, errkind.Closed), errkind.Is(err, errkind.Canceled):
		if !q.follow { // a stream that follows ends like this, one that has an end must not look complete
			panic(http.ErrAbortHandler)
		}
	default:
		s.o.Logger.LogAttrs(r.Context(), slog.LevelError, "stream broken off", slog.String("topic", topic), slog.Any("error", err))
		panic(http.ErrAbortHandler) // the way to tell a client whose status line is sent already
	}
}

// errGone says that the client takes no more.
var errGone = errors.New("the client has gone")

// fetchRecords is how many records of a partition are held at a time.
const fetchRecords = 256

// stream reads each span in a goroutine of its own and writes what comes, until
// all are at their ends, the limit is reached, or the client or the server goes.
func (s *Server) stream(ctx context.Context, topic string, spans []span, out *streamWriter) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	batches := make(chan *broker.Batch)
	ends := make(chan error, len(spans))
	for _, sp := range spans {
		wg.Go(func() { ends <- s.readSpan(ctx, topic, sp, batches) })
	}
	for left := len(spans); left > 0; {
		select { // what is there comes first
		case b := <-batches:
			if err := out.batch(b); err != nil {
				return err
			}
			continue
		case err := <-ends:
			left--
			if err != nil {
				return err
			}
			continue
		default:
		}
		if err := out.flush(); err != nil {
			return err
		}
		select {
		case b := <-batches:
			if err := out.batch(b); err != nil {
				return err
			}
		case err := <-ends:
			left--
			if err != nil {
				return err
			}
		}
	}
	return out.flush()
}

// patience is how long a read that has an end waits before it looks whether
// what it waits for has been trimmed.
const patience = time.Second

func (s *Server) readSpan(ctx context.Context, topic string, sp span, batches chan<- *broker.Batch) error {
	if sp.end >= 0 && sp.from >= sp.end {
		return nil
	}
	rd, err := s.o.Broker.Read(ctx, topic, sp.partition, sp.from)
	if err != nil {
		return err
	}
	defer rd.Close()
	for next := sp.from; sp.end < 0 || next < sp.end; {
		n := fetchRecords
		if sp.end >= 0 {
			n = int(min(int64(n), sp.end-next))
		}
		b, err := s.fetch(ctx, rd, topic, sp, n)
		if b == nil || err != nil {
			return err
		}
		if next = b.Next(); sp.end >= 0 && b.Records[0].Position >= sp.end {
			b.Release() // all of the span was trimmed
			return nil
		}
		if sp.end >= 0 && next > sp.end { // some of it was
			b.Records = b.Records[:len(b.Records)-int(next-sp.end)]
		}
		select {
		case batches <- b:
		case <-ctx.Done():
			b.Release()
			return ctx.Err()
		}
	}
	return nil
}

// fetch returns nil where the rest of a span with an end has been trimmed away.
func (s *Server) fetch(ctx context.Context, rd broker.Reader, topic string, sp span, n int) (*broker.Batch, error) {
	if sp.end < 0 {
		return rd.Fetch(ctx, n)
	}
	for {
		wait, cancel := context.WithTimeout(ctx, patience)
		b, err := rd.Fetch(wait, n)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return b, err
		}
		t, err := s.o.Broker.Describe(ctx, topic, "")
		if err != nil {
			return nil, fmt.Errorf("look for what is left: %w", err)
		}
		if t.Partitions[sp.partition].Start >= sp.end {
			return nil, nil
		}
	}
}
