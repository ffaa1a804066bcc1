package state

import (
	"fmt"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
)

// Space is the part of a Store that belongs to one step of one task. Its keys
// are its own. Load, Apply, Scan and Expire belong to the task's goroutine;
// Stats and Counters may be called from others.
type Space struct {
	// Task and Step are the names that the space was opened with.
	Task, Step string

	store  *Store
	name   string
	prefix []byte
	end    []byte // behind the last key of the space
	sweep  []byte // where Expire goes on; nil at the beginning

	buf    []byte // of keys for Load
	keys   [][]byte
	closed atomic.Bool
	counts Counters
}

// Counters counts what a space did; its fields may be read at any time.
type Counters struct {
	Wanted       atomic.Int64 // keys asked for by Load
	Found        atomic.Int64
	LoadedBytes  atomic.Int64 // of values
	Changed      atomic.Int64 // changes applied
	AppliedBytes atomic.Int64 // of keys and values
}

// Counters returns the space's counters.
func (p *Space) Counters() *Counters { return &p.counts }

func (p *Space) fail(verb string, err error) error {
	return fmt.Errorf("%s state of step %s of %s: %w", verb, p.Step, p.Task, err)
}

func (p *Space) alive() error {
	if p.closed.Load() {
		return errkind.New(errkind.Closed, "the space is closed")
	}
	return p.store.alive()
}

// NewBatch returns an empty batch of changes of this space.
func (p *Space) NewBatch() *Batch { return &Batch{prefix: p.prefix, space: p} }

// Load calls found for each key that is there, with its index in keys, in any
// order. The value is valid during the call of found.
func (p *Space) Load(keys [][]byte, found func(i int, value []byte)) error {
	if err := p.alive(); err != nil {
		return p.fail("load", err)
	}
	p.buf, p.keys = p.buf[:0], p.keys[:0]
	need := 0
	for _, k := range keys {
		need += len(p.prefix) + len(k)
	}
	if cap(p.buf) < need {
		p.buf = make([]byte, 0, need+need/4)
	}
	for _, k := range keys {
		at := len(p.buf)
		p.buf = append(append(p.buf, p.prefix...), k...)
		p.keys = append(p.keys, p.buf[at:len(p.buf):len(p.buf)])
	}
	hits, size := 0, 0
	err := p.store.driver.Load(p.keys, func(i int, value []byte) {
		hits++
		size += len(value)
		found(i, value)
	})
	p.counts.Wanted.Add(int64(len(keys)))
	p.counts.Found.Add(int64(hits))
	p.counts.LoadedBytes.Add(int64(size))
	if err != nil {
		return p.fail("load", err)
	}
	return nil
}

// Apply makes all changes of b, which NewBatch of this space returned, or none.
// A key or value over the store's limits is Invalid, a store that is full is
// Exhausted; a batch without a Put is never refused for room.
func (p *Space) Apply(b *Batch) error {
	if err := p.apply(b); err != nil {
		return p.fail("change", err)
	}
	return nil
}

func (p *Space) apply(b *Batch) error {
	if err := p.alive(); err != nil {
		return err
	}
	c := &p.store.config
	switch {
	case b.space != p:
		return errkind.New(errkind.Invalid, "the batch is of another space")
	case b.Len() == 0:
		return nil
	case b.maxKey-len(p.prefix) > c.MaxKeyBytes:
		return errkind.Errorf(errkind.Invalid, "a key has %d bytes, %d are allowed", b.maxKey-len(p.prefix), c.MaxKeyBytes)
	case b.maxVal > c.MaxValueBytes:
		return errkind.Errorf(errkind.Invalid, "a value has %d bytes, %d are allowed", b.maxVal, c.MaxValueBytes)
	}
	if b.puts > 0 {
		if err := p.store.room(b.Size()); err != nil {
			return err
		}
	}
	if err := p.store.driver.Apply(b); err != nil {
		return err
	}
	p.counts.Changed.Add(int64(b.Len()))
	p.counts.AppliedBytes.Add(int64(b.Size()))
	return nil
}

// Scan calls visit for the keys from ≤ key in order until it returns false; it
// shows the space as of the call.
func (p *Space) Scan(from []byte, visit func(key, value []byte) bool) error {
	if err := p.alive(); err != nil {
		return p.fail("scan", err)
	}
	start := append(append([]byte(nil), p.prefix...), from...)
	err := p.store.driver.Scan(start, p.end, func(key, value []byte) bool { return visit(key[len(p.prefix):], value) })
	if err != nil {
		return p.fail("scan", err)
	}
	return nil
}

// Expire looks at the next limit entries of the space and drops those that have
// expired at now, in nanoseconds of event time. Calls go round the space; done
// says that this one came to its end.
func (p *Space) Expire(now int64, limit int) (done bool, err error) {
	if err := p.alive(); err != nil {
		return false, p.fail("expire", err)
	}
	from := p.sweep
	if from == nil {
		from = p.prefix
	}
	next, err := p.store.driver.Expire(from, p.end, now, limit)
	if err != nil {
		return false, p.fail("expire", err)
	}
	p.sweep = next
	return next == nil, nil
}

// Stats is the size of the space.
func (p *Space) Stats() (Stats, error) {
	if err := p.alive(); err != nil {
		return Stats{}, p.fail("measure", err)
	}
	return p.store.driver.Stats(p.prefix, p.end)
}

// Drop deletes the space's keys and closes it: the task has gone elsewhere, or
// begins anew.
func (p *Space) Drop() error {
	if err := p.alive(); err != nil {
		return p.fail("drop", err)
	}
	var b Batch
	b.DeleteRange(p.prefix, p.end)
	b.Delete(append([]byte{0}, p.name...))
	if err := p.store.driver.Apply(&b); err != nil {
		return p.fail("drop", err)
	}
	p.store.mu.Lock()
	delete(p.store.ids, p.name)
	p.store.mu.Unlock()
	return p.Close()
}

// Close gives the space back and keeps its keys in the store; a second Close returns nil.
func (p *Space) Close() error {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if !p.closed.Swap(true) {
		delete(p.store.spaces, p.name)
	}
	return nil
}
