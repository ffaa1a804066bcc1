package main

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed pipelines
var pipelineFiles embed.FS

// batchEvents are sent with one call. All of them lie on different terminals, so
// that the order in which the partitions show them does not matter.
const batchEvents = 10

// settings are the same for all cells.
type settings struct {
	program  string
	rate     int           // events a second
	sending  time.Duration // how long events are sent
	patience time.Duration // for what must happen afterwards
}

// run is one cell at work.
type run struct {
	settings
	place    *place
	fault    fault
	pipeline string
	name     string // of the pipeline; topics begin with it
	spec     workerSpec
	topics   topics
	workers  []*worker
	address  atomic.Pointer[string] // of worker 0
	began    time.Time
	acked    []numbered
}

// cell runs one cell and counts. What it returns as examples is wrong.
func (s settings) cell(ctx context.Context, p *place, f fault, pipeline string) (c counts, examples []string, err error) {
	dir, err := os.MkdirTemp("", "freshet-delivery-*")
	if err != nil {
		return c, nil, fmt.Errorf("make folder: %w", err)
	}
	r := &run{settings: s, place: p, fault: f, pipeline: pipeline, name: pipeline + "-" + strings.ToLower(rand.Text()[:8])}
	defer func() {
		for _, w := range r.workers {
			_ = w.signal(os.Kill) // those that were not stopped
			<-w.ended
		}
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("%w (logs in %s)", err, dir)
		}
	}()
	if err := r.prepare(ctx, dir); err != nil {
		return c, nil, err
	}
	defer func() { err = errors.Join(err, r.topics.close()) }()
	if err := r.work(ctx); err != nil {
		return c, nil, err
	}
	return r.count(ctx)
}

// prepare writes the pipeline's files and starts the first worker.
func (r *run) prepare(ctx context.Context, dir string) error {
	r.spec = workerSpec{program: r.program, pipeline: filepath.Join(dir, "pipeline.yaml"), broker: r.place.url, dir: dir}
	for from, to := range map[string]string{r.pipeline + ".yaml": "pipeline.yaml", "contract.schema.json": "contract.schema.json"} {
		text, err := pipelineFiles.ReadFile("pipelines/" + from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, to), []byte(strings.ReplaceAll(string(text), "NAME", r.name)), 0o600); err != nil {
			return fmt.Errorf("write pipeline: %w", err)
		}
	}
	r.workers = make([]*worker, 0, 2)
	if err := r.start(ctx, 0); err != nil {
		return err
	}
	if r.place.direct == "" {
		r.topics = &onJournal{dir: filepath.Join(dir, "data"), worker: func() string { return *r.address.Load() }}
		return nil
	}
	var err error
	r.topics, err = openTopics(ctx, r.place.direct)
	return err
}

// start starts worker n, in place of one that ended, and waits until it is ready.
func (r *run) start(ctx context.Context, n int) error {
	w, err := r.spec.start(n)
	if err != nil {
		return err
	}
	if n == len(r.workers) {
		r.workers = append(r.workers, w)
	} else {
		r.workers[n] = w
	}
	if n == 0 {
		r.address.Store(&w.address)
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	if err := w.ready(ctx); err != nil {
		return fmt.Errorf("worker %d: %w\n%s", n, err, w.tail())
	}
	return nil
}

// join adds a worker.
func (r *run) join(ctx context.Context) error { return r.start(ctx, len(r.workers)) }

// replace ends worker n and starts another one at once.
func (r *run) replace(ctx context.Context, n int, end func(*worker) error) error {
	if err := end(r.workers[n]); err != nil {
		return err
	}
	return r.start(ctx, n)
}

// until waits until that share of the sending time has passed.
func (r *run) until(ctx context.Context, share float64) error {
	return pause(ctx, time.Until(r.began.Add(time.Duration(share*float64(r.sending)))))
}

func (r *run) past(share float64) bool {
	return time.Since(r.began) > time.Duration(share*float64(r.sending))
}

// work sends the events while the fault is injected, waits for the results and stops the workers.
func (r *run) work(ctx context.Context) error {
	r.began = time.Now()
	var wg sync.WaitGroup
	var sent, broken error
	wg.Go(func() { sent = r.send(ctx) })
	wg.Go(func() {
		if broken = r.fault.inject(ctx, r); broken != nil {
			broken = fmt.Errorf("inject %s: %w", r.fault.name, broken)
		}
	})
	wg.Wait()
	if err := errors.Join(broken, sent); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	have := 0
	err := poll(limit, 200*time.Millisecond, func() (ok bool, err error) {
		have, err = r.topics.progress(limit, r.name+"-results")
		return have >= len(r.acked), err
	})
	if err != nil && limit.Err() == nil {
		return fmt.Errorf("follow results: %w", err)
	}
	if err != nil { // counted as lost, unless they come while the workers stop
		fmt.Fprintf(os.Stderr, "delivery: %d of %d events have a result %v after the last was sent\n%s\n", have, len(r.acked), r.patience, r.workers[0].tail())
	}
	for n, w := range r.workers {
		if err := w.stop(); err != nil {
			return fmt.Errorf("worker %d: %w", n, err)
		}
	}
	return nil
}

// send sends events open loop: when one is late those behind it keep their times.
func (r *run) send(ctx context.Context) error {
	step := time.Second / time.Duration(r.rate)
	total := int(r.sending/step) / batchEvents * batchEvents
	for from := 0; from < total; from += batchEvents {
		if err := pause(ctx, time.Until(r.began.Add(time.Duration(from)*step))); err != nil {
			return err
		}
		batch := make([]numbered, batchEvents)
		for i := range batch {
			batch[i] = eventOf(from+i, r.began, step)
		}
		limit, cancel := context.WithTimeout(ctx, r.patience)
		err := r.topics.send(limit, r.name+"-events", batch)
		cancel()
		if err != nil {
			return fmt.Errorf("send events from %d: %w", from, err)
		}
		r.acked = append(r.acked, batch...)
	}
	return nil
}

// count reads what is there when all has come to rest.
func (r *run) count(ctx context.Context) (counts, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	var read [3][]stored
	for i, suffix := range []string{"-events", "-results", "-dead-letters"} {
		var err error
		if read[i], err = r.topics.all(ctx, r.name+suffix); err != nil {
			return counts{}, nil, fmt.Errorf("read %s%s: %w", r.name, suffix, err)
		}
	}
	orderBy := func(n *numbered) string { return n.Customer }
	if r.pipeline == "shuffle" { // results keep the order of the last key
		orderBy = func(n *numbered) string { return n.Terminal }
	}
	c, examples := count(r.acked, read[0], read[1], orderBy, len(read[2]))
	return c, examples, nil
}
