package batching

import (
	"context"
	"sync"
	"time"

	"github.com/freshet-io/freshet/inference"
)

// Policy is a way to batch.
type Policy struct {
	Name string
	// Size and Wait close a batch of a fixed policy when so many rows wait, or when
	// the oldest has waited so long; a zero Wait is for ever. A batch is taken when an
	// instance is free, with all that waits up to the largest batch; of exactly Size
	// without a Wait.
	Size int
	Wait time.Duration
	// Freshet batches by inference.Model, preferring Prefer.
	Freshet bool
	Prefer  inference.Preference
}

// sink takes rows and says when the last is answered.
type sink interface {
	put(r *inference.Request)
	finish()
}

// freshet is the model itself.
type freshet struct {
	m  *inference.Model
	rs []*inference.Request
}

func (f *freshet) put(r *inference.Request) {
	if err := f.m.Submit(context.Background(), r); err != nil {
		r.Err = err
		return
	}
	f.rs = append(f.rs, r)
}

func (f *freshet) finish() {
	for _, r := range f.rs {
		_ = r.Wait(context.Background())
	}
	_ = f.m.Close()
}

// fixed is a batcher with fixed limits, as model servers have them.
type fixed struct {
	p       Policy
	largest int
	d       inference.Driver

	mu    sync.Mutex
	work  sync.Cond
	queue []*inference.Request
	since []time.Time
	done  bool
	all   sync.WaitGroup
}

func newFixed(p Policy, d inference.Driver, largest int) *fixed {
	f := &fixed{p: p, d: d, largest: largest}
	f.work.L = &f.mu
	for range d.Concurrency() {
		f.all.Go(f.run)
	}
	return f
}

func (f *fixed) put(r *inference.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue, f.since = append(f.queue, r), append(f.since, time.Now())
	f.work.Broadcast()
}

func (f *fixed) finish() {
	f.mu.Lock()
	f.done = true
	f.work.Broadcast()
	f.mu.Unlock()
	f.all.Wait()
}

func (f *fixed) run() {
	for {
		batch := f.take()
		if batch == nil {
			return
		}
		in := []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{len(batch), 1}, F32: make([]float32, len(batch))}}
		_ = f.d.Infer(context.Background(), in, make([]inference.Tensor, 1))
		for _, r := range batch {
			r.Answered = time.Now()
		}
	}
}

func (f *fixed) take() []*inference.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		n := len(f.queue)
		switch {
		case n == 0:
			if f.done {
				return nil
			}
			f.work.Wait()
			continue
		case f.done, n >= f.p.Size, n >= f.largest:
		default:
			if f.p.Wait == 0 {
				f.work.Wait()
				continue
			}
			if rest := f.p.Wait - time.Since(f.since[0]); rest > 0 {
				timer := time.AfterFunc(rest, func() {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.work.Broadcast()
				})
				f.work.Wait()
				timer.Stop()
				continue
			}
		}
		n = min(n, f.largest)
		if f.p.Wait == 0 && !f.done {
			n = min(n, f.p.Size)
		}
		batch := append([]*inference.Request(nil), f.queue[:n]...)
		f.queue, f.since = f.queue[n:], f.since[n:]
		return batch
	}
}
