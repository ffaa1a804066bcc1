// Package crashfs is a file system in memory that forgets. It tells what was
// synced from what was not, stops at any chosen operation as a power cut does,
// and then shows what a disk might hold: none of what was not synced, all of it,
// or some of it in torn pieces, names included. It also fails on demand and
// flips bits.
//
// It is for tests of whatever keeps its state in a journal.
package crashfs

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/freshet-io/freshet/broker/journal"
)

// ErrStopped is what every operation returns after the disk has stopped.
var ErrStopped = errors.New("the disk has stopped")

// Op is a kind of operation that changes something.
type Op string

// The operations that count as crash points.
const (
	Write    Op = "write"
	Sync     Op = "sync"
	Truncate Op = "truncate"
	Create   Op = "create"
	Rename   Op = "rename"
	Remove   Op = "remove"
	SyncDir  Op = "syncdir"
)

// Survivors says what of the data that was not synced a crash leaves.
type Survivors uint8

const (
	// None: only what was synced.
	None Survivors = iota
	// All: everything, as when only the process dies.
	All
	// Some: a random choice, writes torn at random places.
	Some
)

// Disk is a file system. It is safe for concurrent use.
type Disk struct {
	mu      sync.Mutex
	rng     *rand.Rand
	names   map[string]*inode
	durable map[string]*inode
	moves   []nameChange // of names, since the last SyncDir
	locked  map[string]*inode
	ops     int
	stopAt  int
	stopped bool
	fault   func(op Op, name string) error
}

type inode struct {
	data   []byte
	synced []byte
	writes []change // since the last Sync
}

// change is a write, or with data nil a truncation to off.
type change struct {
	off  int64
	data []byte
}

type nameChange struct {
	from, to string // from empty: created; to empty: removed
	node     *inode
}

// New returns an empty disk; its random choices follow seed.
func New(seed uint64) *Disk {
	return &Disk{rng: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, durable: map[string]*inode{}, locked: map[string]*inode{}}
}

// StopAt makes the n-th operation from the beginning the last, and unfinished. 0 never stops.
func (d *Disk) StopAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAt = n
}

// Ops is the number of operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Stopped reports whether the disk has stopped.
func (d *Disk) Stopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// Fail makes every operation ask f first; an error of f is the operation's. A
// failing write has written half. nil ends it.
func (d *Disk) Fail(f func(op Op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// Crash stops the disk and returns the one that the machine finds when it comes
// up again. The old one stays stopped.
func (d *Disk) Crash(s Survivors) *Disk {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	return d.Peek(s)
}

// Peek returns the disk that a machine would find if it crashed now, and goes on.
func (d *Disk) Peek(s Survivors) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := New(d.rng.Uint64())
	if s == All {
		for name, n := range d.names {
			after.put(name, n.data)
		}
		return after
	}
	names := map[string]*inode{}
	for name, n := range d.durable {
		names[name] = n
	}
	if s == Some {
		for _, m := range d.moves {
			if d.rng.IntN(2) == 0 {
				m.apply(names)
			}
		}
	}
	for name, n := range names {
		content := slices.Clone(n.synced)
		if s == Some {
			for _, c := range n.writes {
				content = d.survive(content, c)
			}
		}
		after.put(name, content)
	}
	return after
}

func (d *Disk) survive(content []byte, c change) []byte {
	switch d.rng.IntN(4) {
	case 0: // lost
		return content
	case 1: // torn: a piece of it
		if len(c.data) > 1 {
			a, b := d.rng.IntN(len(c.data)), d.rng.IntN(len(c.data))
			return change{c.off + int64(min(a, b)), c.data[min(a, b) : max(a, b)+1]}.apply(content)
		}
	}
	return c.apply(content)
}

func (d *Disk) put(name string, data []byte) {
	n := &inode{data: slices.Clone(data), synced: slices.Clone(data)}
	d.names[name], d.durable[name] = n, n
}

func (c change) apply(content []byte) []byte {
	end := c.off + int64(len(c.data))
	if c.data == nil {
		content = content[:min(int64(len(content)), c.off)]
	}
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	copy(content[c.off:], c.data)
	return content
}

func (m nameChange) apply(names map[string]*inode) {
	if m.from != "" {
		delete(names, m.from)
	}
	if m.to != "" {
		names[m.to] = m.node
	}
}

// Flip inverts the bits of mask in one byte, on disk and in memory.
func (d *Disk) Flip(name string, off int64, mask byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	n.data[off] ^= mask
	if off < int64(len(n.synced)) {
		n.synced[off] ^= mask
	}
}

// Size is the length of a file.
func (d *Disk) Size(name string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.names[name].data))
}

// begin counts an operation. last means that it is the one in which the disk stops.
func (d *Disk) begin(op Op, name string) (last bool, err error) {
	if d.stopped {
		return false, ErrStopped
	}
	d.ops++
	if d.ops == d.stopAt {
		d.stopped = true
		return true, ErrStopped
	}
	if d.fault != nil {
		return false, d.fault(op, name)
	}
	return false, nil
}

func (d *Disk) rename(op Op, m nameChange) error {
	last, err := d.begin(op, filepath.Base(m.from+m.to))
	if err != nil && !last {
		return err
	}
	m.apply(d.names)
	d.moves = append(d.moves, m)
	return err
}

// OpenFile implements journal.FS.
func (d *Disk) OpenFile(name string, flag int) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, ErrStopped
	}
	n := d.names[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrExist}
	case n == nil:
		n = &inode{}
		if err := d.rename(Create, nameChange{to: name, node: n}); err != nil {
			return nil, err
		}
	}
	return &file{d: d, n: n, name: name}, nil
}

// ReadDir implements journal.FS.
func (d *Disk) ReadDir(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, ErrStopped
	}
	var names []string
	for name := range d.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements journal.FS; folders need not exist here.
func (d *Disk) MkdirAll(string) error { return nil }

// Rename implements journal.FS.
func (d *Disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[oldname]
	if n == nil {
		return &os.PathError{Op: "rename", Path: oldname, Err: os.ErrNotExist}
	}
	return d.rename(Rename, nameChange{from: oldname, to: newname, node: n})
}

// Remove implements journal.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names[name] == nil {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	}
	return d.rename(Remove, nameChange{from: name})
}

// SyncDir implements journal.FS.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.begin(SyncDir, dir); err != nil {
		return err
	}
	for _, m := range d.moves {
		m.apply(d.durable)
	}
	d.moves = nil
	return nil
}

// Lock implements journal.FS. It is no crash point.
func (d *Disk) Lock(name string) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil, ErrStopped
	}
	if d.locked[name] != nil {
		return nil, journal.ErrLocked
	}
	n := d.names[name]
	if n == nil {
		n = &inode{}
		d.names[name], d.durable[name] = n, n
	}
	d.locked[name] = n
	return &file{d: d, n: n, name: name, lock: true}, nil
}

type file struct {
	d    *Disk
	n    *inode
	name string
	lock bool
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.stopped {
		return 0, ErrStopped
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) change(op Op, c change) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.lock {
		f.n.data = c.apply(f.n.data)
		return nil
	}
	last, err := f.d.begin(op, filepath.Base(f.name))
	if err != nil && !last {
		if c.data == nil || f.d.stopped {
			return err
		}
		c.data = c.data[:len(c.data)/2]
	}
	f.n.data = c.apply(f.n.data)
	f.n.writes = append(f.n.writes, c)
	return err
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.change(Write, change{off, append([]byte{}, b...)}); err != nil {
		return len(b) / 2, err
	}
	return len(b), nil
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	n := int64(len(f.n.data))
	f.d.mu.Unlock()
	if size > n { // growing is a write of zeros
		return f.change(Truncate, change{n, make([]byte, size-n)})
	}
	return f.change(Truncate, change{size, nil})
}

func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if _, err := f.d.begin(Sync, filepath.Base(f.name)); err != nil {
		return err
	}
	for _, c := range f.n.writes {
		f.n.synced = c.apply(f.n.synced)
	}
	f.n.writes = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.lock {
		delete(f.d.locked, f.name)
	}
	return nil
}
