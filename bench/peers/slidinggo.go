package main

import (
	"context"
	"strings"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

func slidingEngines() []slidingEngine {
	return append([]slidingEngine{
		{
			name: "Freshet's windows",
			what: "one task's windows on one goroutine, batches of 1,024 rows; the change of the state is encoded for the changelog as well",
			open: newFreshetSliding,
		},
		{
			name: "Go maps with rings",
			what: "by hand on one goroutine: a map from key to a ring of times and amounts with running sums in float64; nothing that would survive the process",
			open: func(context.Context, *slidingWork, string) (slidingSide, error) {
				return &mapSliding{keys: map[string]*mapKey{}}, nil
			},
		},
		sqliteEngine(),
		redisEngine(),
	}, duckEngines()...)
}

// freshetSliding is package feature as a pipeline's task uses it.
type freshetSliding struct {
	windows feature.Aggregator
	batch   feature.Batch
	out     []*event.Column
	delta   []byte
}

func newFreshetSliding(context.Context, *slidingWork, string) (slidingSide, error) {
	var ws []feature.Window
	for _, over := range slidingSpans {
		ws = append(ws,
			feature.Window{Aggregate: feature.Count, Over: over},
			feature.Window{Aggregate: feature.Mean, Field: "amount", Kind: event.Float, Over: over})
	}
	w, err := feature.New(feature.Config{Windows: ws})
	if err != nil {
		return nil, err
	}
	s := &freshetSliding{windows: w}
	s.batch = feature.Batch{
		Keys: make([]string, slidingBatch), Times: make([]int64, slidingBatch),
		Fields: []*event.Column{{Kind: event.Float, Floats: make([]float64, slidingBatch)}},
	}
	for range ws {
		s.out = append(s.out, &event.Column{})
	}
	return s, nil
}

func (s *freshetSliding) take(w *slidingWork, from, to int, answers []slidingAnswer) error {
	b := &s.batch
	b.N = to - from
	for i := range b.N {
		b.Keys[i], b.Times[i] = w.names[w.keys[from+i]], w.at(from+i)
		b.Fields[0].Floats[i] = float64(w.cents[from+i]) / 100
	}
	s.delta = s.windows.Update(b, s.out, s.delta[:0])
	for i := range answers {
		a := &answers[i]
		for n := range slidingSpans {
			a.Counts[n], a.Means[n] = s.out[2*n].Ints[i], s.out[2*n+1].Floats[i]
		}
	}
	return nil
}

func (s *freshetSliding) close() error { return nil }

// mapSliding is what a good engineer writes by hand.
type mapSliding struct{ keys map[string]*mapKey }

type mapKey struct {
	ring []mapEntry // its length is a power of two
	// Entries are numbered; those of window n are heads[n] ≤ i < tail.
	heads [3]uint32
	tail  uint32
	sums  [3]float64
}

type mapEntry struct {
	at     int64
	amount float64
}

func (m *mapSliding) take(w *slidingWork, from, to int, answers []slidingAnswer) error {
	for i := from; i < to; i++ {
		name := w.names[w.keys[i]]
		k := m.keys[name]
		if k == nil {
			k = &mapKey{ring: make([]mapEntry, 2)}
			m.keys[strings.Clone(name)] = k // the name is part of a payload that does not stay
		}
		var a *slidingAnswer
		if answers != nil {
			a = &answers[i-from]
		}
		k.add(mapEntry{w.at(i), float64(w.cents[i]) / 100}, a)
	}
	return nil
}

func (k *mapKey) add(e mapEntry, a *slidingAnswer) {
	mask := uint32(len(k.ring) - 1)
	for n, over := range slidingSpans {
		for k.heads[n] != k.tail && e.at-k.ring[k.heads[n]&mask].at >= int64(over) {
			k.sums[n] -= k.ring[k.heads[n]&mask].amount
			k.heads[n]++
		}
		if k.heads[n] == k.tail {
			k.sums[n] = 0 // what rounding left
		}
		k.sums[n] += e.amount
	}
	oldest := k.heads[len(k.heads)-1]
	if k.tail-oldest == uint32(len(k.ring)) {
		grown := make([]mapEntry, 2*len(k.ring))
		for i := oldest; i != k.tail; i++ {
			grown[i&uint32(len(grown)-1)] = k.ring[i&mask]
		}
		k.ring, mask = grown, uint32(len(grown)-1)
	}
	k.ring[k.tail&mask] = e
	k.tail++
	if a == nil {
		return
	}
	for n := range slidingSpans {
		c := int64(k.tail - k.heads[n])
		a.Counts[n], a.Means[n] = c, k.sums[n]/float64(c)
	}
}

func (m *mapSliding) close() error { return nil }
