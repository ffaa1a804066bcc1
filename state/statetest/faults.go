package statetest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Outcome is what becomes of the operation at which Objects stops.
type Outcome uint8

const (
	// Undone: the operation has no effect.
	Undone Outcome = iota
	// Done: the operation has its effect, and its caller never hears of it.
	Done
)

// Objects is an object store in memory. It counts the operations that change
// something, dies at a chosen one, fails once at one, and flips bits. It is safe
// for concurrent use.
type Objects struct {
	mu      sync.Mutex
	objects map[string][]byte
	ops     int
	stopAt  int // 0: never
	outcome Outcome
	dead    bool
	failAt  int
	kind    errkind.Kind
	closed  bool
	calls   map[string]int
}

// NewObjects returns an empty store.
func NewObjects() *Objects {
	return &Objects{objects: map[string][]byte{}, calls: map[string]int{}}
}

// StopAt makes operation n, counted from 1 from now on, the last: it has outcome
// o and an error, and so has every call after it, until Revive.
func (o *Objects) StopAt(n int, out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ops, o.stopAt, o.outcome, o.failAt = 0, n, out, 0
}

// FailAt makes operation n, counted from 1 from now on, fail with a kind and outcome.
func (o *Objects) FailAt(n int, kind errkind.Kind, out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ops, o.failAt, o.kind, o.outcome, o.stopAt = 0, n, kind, out, 0
}

// Revive lets calls through again and returns how many operations there were.
func (o *Objects) Revive() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead, o.stopAt, o.failAt = false, 0, 0
	return o.ops
}

// Dead says whether the store has stopped.
func (o *Objects) Dead() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dead
}

// Names lists what is stored.
func (o *Objects) Names() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	names := make([]string, 0, len(o.objects))
	for n := range o.objects {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Change replaces an object's bytes by what change makes of a copy; nil deletes it.
func (o *Objects) Change(name string, change func(b []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := change(bytes.Clone(o.objects[name]))
	if b == nil {
		delete(o.objects, name)
		return
	}
	o.objects[name] = b
}

// Clone returns a copy of what is stored, without faults.
func (o *Objects) Clone() *Objects {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := NewObjects()
	for n, b := range o.objects {
		c.objects[n] = bytes.Clone(b)
	}
	return c
}

// Calls is how often a method was called.
func (o *Objects) Calls(method string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[method]
}

func (o *Objects) gate(ctx context.Context, method string) error {
	o.calls[method]++
	switch {
	case o.closed:
		return errkind.New(errkind.Closed, "the objects are closed")
	case o.dead:
		return errkind.New(errkind.Permanent, "the process is dead")
	}
	return ctx.Err()
}

// change runs f as an operation.
func (o *Objects) change(f func() error) error {
	o.ops++
	switch o.ops {
	case o.stopAt:
		o.dead = true
		if o.outcome == Done {
			_ = f()
		}
		return errkind.New(errkind.Permanent, "the process dies here")
	case o.failAt:
		if o.outcome == Done {
			_ = f()
		}
		return errkind.New(o.kind, "this operation fails")
	}
	return f()
}

// Put is in state.Objects.
func (o *Objects) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := state.CheckName(name); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return err
	}
	if int64(len(b)) != size {
		return errkind.Errorf(errkind.Invalid, "object %s is to have %d bytes, its reader gave %d", name, size, len(b))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.gate(ctx, "Put"); err != nil {
		return err
	}
	return o.change(func() error {
		o.objects[name] = b
		return nil
	})
}

// Create is in state.Objects.
func (o *Objects) Create(ctx context.Context, name string, data []byte) error {
	if err := state.CheckName(name); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.gate(ctx, "Create"); err != nil {
		return err
	}
	return o.change(func() error {
		if _, there := o.objects[name]; there {
			return errkind.Errorf(errkind.Conflict, "object %s is there", name)
		}
		o.objects[name] = bytes.Clone(data)
		return nil
	})
}

// Get is in state.Objects.
func (o *Objects) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := state.CheckName(name); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.gate(ctx, "Get"); err != nil {
		return nil, err
	}
	b, ok := o.objects[name]
	if !ok {
		return nil, errkind.Errorf(errkind.NotFound, "there is no object %s", name)
	}
	return &ended{ctx: ctx, Reader: bytes.NewReader(b)}, nil
}

// ended ends with its context.
type ended struct {
	ctx context.Context
	*bytes.Reader
}

func (e *ended) Read(b []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.Reader.Read(b)
}

// WriteTo would pass the context by.
func (e *ended) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{e})
}

func (e *ended) Close() error { return nil }

// List is in state.Objects.
func (o *Objects) List(ctx context.Context, prefix string) ([]state.Object, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.gate(ctx, "List"); err != nil {
		return nil, err
	}
	var all []state.Object
	for n, b := range o.objects {
		if strings.HasPrefix(n, prefix) {
			all = append(all, state.Object{Name: n, Size: int64(len(b))})
		}
	}
	slices.SortFunc(all, func(a, b state.Object) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Delete is in state.Objects.
func (o *Objects) Delete(ctx context.Context, name string) error {
	if err := state.CheckName(name); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.gate(ctx, "Delete"); err != nil {
		return err
	}
	return o.change(func() error {
		delete(o.objects, name)
		return nil
	})
}

// Close is in state.Objects.
func (o *Objects) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	return nil
}
