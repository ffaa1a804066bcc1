package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

// latencies sends events at a fixed rate, whatever comes back, and takes the
// time from the instant at which each event should have been sent until its
// result, which is durable, has been read from the result topic. So a send that
// comes late counts against the pipeline. The first second warms up.
func latencies(ctx context.Context, s *scenario, base string, rate int, length time.Duration) (*hdrhistogram.Histogram, error) {
	total := min(int(float64(rate)*length.Seconds()), len(s.events))
	var h *hdrhistogram.Histogram
	_, err := inFreshDir(ctx, base, func(ctx context.Context, dir string) (out sample, err error) {
		b, err := openJournal(ctx, dir, sourceTopic, nil)
		if err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		p, err := newPipeline(filepath.Join(s.dir, "pipeline.yaml"), b)
		if err != nil {
			return sample{}, err
		}
		l := &liveLoop{
			b: b, source: sourceTopic, recs: s.records(0, total), results: []string{"scored", "alerts"},
			rate: rate, warm: rate, probe: min(200, total),
		}
		h, err = l.run(ctx, p)
		return sample{}, err
	})
	return h, err
}

// liveLoop sends recs, of which number i has the id i, to a pipeline that runs.
type liveLoop struct {
	b      *broker.Broker
	source string
	recs   []event.Record
	// results are the topics on which each event has one result.
	results []string
	rate    int // events a second
	warm    int // events that do not count
	// probe events, fewer than warm, are sent and answered before the others: by then
	// the tasks of all partitions have claimed and restored.
	probe int
}

func (l *liveLoop) run(ctx context.Context, p *pipeline.Pipeline) (*hdrhistogram.Histogram, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ran := make(chan error, 1)
	go func() {
		err := p.Run(runCtx, pipeline.RunOptions{})
		if err != nil {
			cancel(err) // nobody waits for results that will not come
		}
		ran <- err
	}()
	h, err := l.measure(ctx, cancel, p)
	stop()
	return h, errors.Join(err, <-ran)
}

func (l *liveLoop) measure(ctx context.Context, cancel context.CancelCauseFunc, p *pipeline.Pipeline) (*hdrhistogram.Histogram, error) {
	if err := awaitReady(ctx, p); err != nil {
		return nil, err
	}
	r := &resultReader{liveLoop: l, done: cancel}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.sendAll(ctx); err != nil {
		cancel(err)
		_, rerr := r.wait()
		return nil, errors.Join(err, rerr)
	}
	return r.wait()
}

// sendAll sends the probe, and when it has been answered the others at their rate.
func (r *resultReader) sendAll(ctx context.Context) error {
	if _, err := r.b.Publish(ctx, r.source, r.recs[:r.probe]); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for int(r.seen.Load()) < r.probe {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	// Event i is due at start + i/rate.
	start := time.Now().Add(-time.Duration(float64(r.probe) / float64(r.rate) * 1e9))
	r.start.Store(&start)
	return r.send(ctx, start)
}

func awaitReady(ctx context.Context, p *pipeline.Pipeline) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !p.Ready() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// send publishes event i at start + i/rate; what fell due during a publish goes with the next.
func (l *liveLoop) send(ctx context.Context, start time.Time) error {
	for sent := l.probe; sent < len(l.recs); {
		due := min(int(time.Since(start).Seconds()*float64(l.rate))+1, len(l.recs))
		if due <= sent {
			time.Sleep(time.Until(intended(start, sent, l.rate)))
			continue
		}
		if _, err := l.b.Publish(ctx, l.source, l.recs[sent:due]); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		sent = due
	}
	return nil
}

func intended(start time.Time, i, rate int) time.Time {
	return start.Add(time.Duration(float64(i) / float64(rate) * 1e9))
}

// errAllRead ends the readers.
var errAllRead = errors.New("all results read")

// resultReader follows all partitions of the result topics.
type resultReader struct {
	*liveLoop
	start atomic.Pointer[time.Time] // of the sending, once the probe has been answered
	done  func(error)

	group *errgroup.Group
	hists []*hdrhistogram.Histogram
	seen  atomic.Int64
}

func (r *resultReader) open(ctx context.Context) error {
	r.group, ctx = errgroup.WithContext(ctx)
	for _, topic := range r.results {
		t, err := r.b.Describe(ctx, topic, "")
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		for p := range t.Partitions {
			reader, err := r.b.Read(ctx, topic, p, t.Partitions[p].End)
			if err != nil {
				return fmt.Errorf("read results: %w", err)
			}
			h := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
			r.hists = append(r.hists, h)
			r.group.Go(func() error { return errors.Join(r.follow(ctx, reader, h), reader.Close()) })
		}
	}
	return nil
}

func (r *resultReader) follow(ctx context.Context, reader broker.Reader, h *hdrhistogram.Histogram) error {
	for {
		batch, err := reader.Fetch(ctx, 4096)
		if err != nil {
			if errors.Is(context.Cause(ctx), errAllRead) {
				return nil
			}
			return fmt.Errorf("read results: %w", err)
		}
		now := time.Now()
		for i := range batch.Records {
			n, err := sourceID(batch.Records[i].Value)
			if err != nil {
				return err
			}
			if n < r.warm {
				continue
			}
			if err := h.RecordValue(max(1, now.Sub(intended(*r.start.Load(), n, r.rate)).Microseconds())); err != nil {
				return err
			}
		}
		seen := r.seen.Add(int64(len(batch.Records)))
		batch.Release()
		if int(seen) >= len(r.recs) {
			r.done(errAllRead)
		}
	}
}

func (r *resultReader) wait() (*hdrhistogram.Histogram, error) {
	err := r.group.Wait()
	sum := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	for _, h := range r.hists {
		sum.Merge(h)
	}
	if err == nil && int(r.seen.Load()) != len(r.recs) {
		err = fmt.Errorf("%d results of %d events", r.seen.Load(), len(r.recs))
	}
	return sum, err
}

// sourceID is the number of the event that a result was made from.
func sourceID(result []byte) (int, error) {
	_, rest, ok := bytes.Cut(result, []byte(`"source_id":"`))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		return 0, fmt.Errorf("result without source_id: %s", result)
	}
	return strconv.Atoi(string(rest[:end]))
}
