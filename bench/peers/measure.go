package main

import (
	"context"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// sample is what one run of one side took.
type sample struct {
	// Events counts what was done: events, or keys where state is restored.
	Events int           `json:"events"`
	Wall   time.Duration `json:"wall_ns"`
	// CPU is user plus system time of the whole process, the side's embedded server included.
	CPU     time.Duration `json:"cpu_ns"`
	Mallocs uint64        `json:"mallocs"`
	Syncs   int64         `json:"syncs,omitempty"`
	// First is when a pipeline had its first result, where it was looked at.
	First time.Duration `json:"first_ns,omitempty"`
	// HeapPerKey is the live memory of a key, PeakPerKey what the process took at most for it.
	HeapPerKey float64 `json:"heap_bytes_per_key,omitempty"`
	PeakPerKey float64 `json:"peak_bytes_per_key,omitempty"`
}

func (s sample) rate() float64 { return float64(s.Events) / s.Wall.Seconds() }

// cpuPerMillion is CPU seconds per million events.
func (s sample) cpuPerMillion() float64 { return s.CPU.Seconds() / float64(s.Events) * 1e6 }

func (s sample) allocsPerEvent() float64 { return float64(s.Mallocs) / float64(s.Events) }

// meter takes time, processor time and allocations from start to stop.
type meter struct {
	at      time.Time
	cpu     time.Duration
	mallocs uint64
}

func startMeter() meter {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return meter{mallocs: m.Mallocs, cpu: cpuTime(), at: time.Now()}
}

func (m meter) stop(events int) sample {
	s := sample{Events: events, Wall: time.Since(m.at), CPU: cpuTime() - m.cpu}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	s.Mallocs = ms.Mallocs - m.mallocs
	return s
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// side is one way of doing the work.
type side struct {
	Name string `json:"name"`
	// What says what is done, so that a reader can judge whether it is the same.
	What string `json:"what"`
	run  func(ctx context.Context, dir string) (sample, error)
	// once: one run is enough for a side that takes long and is far from the others.
	once bool
}

// spread is the median of some figures with the least and the greatest.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	v = slices.Sorted(slices.Values(v))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{Median: mid, Min: v[0], Max: v[len(v)-1]}
}

// single is a figure that was taken once.
func single(v float64) spread { return spread{Median: v, Min: v, Max: v} }

// inFreshDir gives run a folder of its own and removes it afterwards.
func inFreshDir(ctx context.Context, base string, run func(context.Context, string) (sample, error)) (sample, error) {
	dir, err := os.MkdirTemp(base, "side-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	return run(ctx, dir)
}
