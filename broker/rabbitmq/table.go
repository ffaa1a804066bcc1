package rabbitmq

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// table is a small map with compare-and-set: the fold of a stream of conditional
// changes. Everybody who reads the stream comes to the same map, because the
// stream has one order; a change has taken effect, or not, where it stands in
// it. So a Put is one message, and its outcome is known when it is read back.
//
// The stream keeps a bounded length. Who finds that it has grown by a limit
// since the last snapshot writes one, and readers begin with one that is whole.
type table struct {
	d      *Driver
	stream string
	writer string // tells our changes from those of others

	opening chan struct{} // held while the table is opened
	wg      sync.WaitGroup
	stop    context.CancelFunc

	mu      sync.Mutex
	running bool // the tail is read
	loaded  bool
	changed chan struct{} // closed and replaced at each change of next, loaded or running
	entries map[string]entry
	size    int   // of keys and values
	next    int64 // offset of the next message of the stream
	grown   int   // bytes read since the last snapshot
	writing bool  // a snapshot is being written here
	seq     uint64
	waiting map[uint64]chan outcome
}

type entry struct {
	value   string
	version uint64
}

type outcome struct {
	version uint64
	err     error
}

// change is one message of the stream.
type change struct {
	Writer string `json:"w,omitempty"`
	Seq    uint64 `json:"s,omitempty"`
	Op     string `json:"op"`
	Key    string `json:"k,omitempty"`
	Value  string `json:"v,omitempty"`
	// If is the version that the key must have; 0 is none.
	If uint64 `json:"if,omitempty"`
	// Of a snapshot: it is Entries of part Part of Parts, as of the message before Base.
	Base    int64           `json:"base,omitempty"`
	Part    int             `json:"part,omitempty"`
	Parts   int             `json:"parts,omitempty"`
	Entries []snapshotEntry `json:"entries,omitempty"`
}

type snapshotEntry struct {
	Key     string `json:"k"`
	Value   string `json:"v,omitempty"`
	Version uint64 `json:"n"`
}

const (
	opPut      = "put"
	opDelete   = "delete"
	opSnapshot = "snapshot"

	// The stream's length and that of its segments, in bytes. Some segments
	// always lie between a whole snapshot and the stream's beginning.
	tableLength  = 64 << 20
	tableSegment = 8 << 20
	// snapshotEvery is after how many bytes there is another snapshot, at least.
	snapshotEvery = 2 << 20
	snapshotPart  = 256 << 10
)

func newTable(d *Driver, stream string) *table {
	return &table{
		d: d, stream: stream, writer: rand.Text(), opening: make(chan struct{}, 1),
		changed: make(chan struct{}), entries: map[string]entry{}, waiting: map[uint64]chan outcome{},
	}
}

// open makes sure that the table is read; false where it does not exist. With
// create it is made.
func (t *table) open(ctx context.Context, create bool) (bool, error) {
	t.mu.Lock()
	ok := t.loaded && t.running
	t.mu.Unlock()
	if ok {
		return true, nil
	}
	select {
	case t.opening <- struct{}{}:
	case <-ctx.Done():
		return false, contextError(ctx)
	}
	defer func() { <-t.opening }()
	t.mu.Lock()
	running := t.running
	t.mu.Unlock()
	if !running {
		if _, err := t.d.lookAt(ctx, t.stream, last); errkind.Is(err, errkind.NotFound) {
			if !create {
				return false, nil
			}
			if err := t.d.createStream(ctx, t.stream, []string{
				"max-length-bytes", itoa(tableLength), "stream-max-segment-size-bytes", itoa(tableSegment),
			}); err != nil && !errkind.Is(err, errkind.Conflict) {
				return false, err
			}
		} else if err != nil {
			return false, err
		}
		t.mu.Lock()
		tail, stop := context.WithCancel(context.Background())
		t.running, t.stop = true, stop
		t.mu.Unlock()
		t.wg.Go(func() { t.tail(tail) })
	}
	// What is there now must have been read.
	return true, t.sync(ctx)
}

func (t *table) close() {
	t.mu.Lock()
	stop := t.stop
	t.mu.Unlock()
	if stop != nil {
		stop()
	}
	t.wg.Wait()
}

// sync waits until all that the stream holds now has been read.
func (t *table) sync(ctx context.Context) error {
	k, err := t.d.lookAt(ctx, t.stream, last)
	if err != nil {
		return err
	}
	return t.await(ctx, k)
}

// await waits until the stream has been read up to the chunk.
func (t *table) await(ctx context.Context, k *chunk) error {
	end := int64(0)
	if k != nil {
		end = k.end()
	}
	timer := time.NewTimer(t.d.timeout)
	defer timer.Stop()
	for {
		t.mu.Lock()
		done, running, changed := t.next >= end && (t.loaded || end == 0), t.running, t.changed
		if done {
			t.loaded = true
		}
		t.mu.Unlock()
		if done {
			return nil
		}
		if !running {
			return errkind.Errorf(errkind.Transient, "stream %q cannot be read at the moment", t.stream)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return contextError(ctx)
		case <-timer.C:
			return errkind.Errorf(errkind.Transient, "stream %q was not read within %v", t.stream, t.d.timeout)
		}
	}
}

func (t *table) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// tail reads the stream until ctx ends.
func (t *table) tail(ctx context.Context) {
	defer func() {
		t.mu.Lock()
		t.running = false
		t.notify()
		t.mu.Unlock()
	}()
	wait := 20 * time.Millisecond
	for ctx.Err() == nil {
		err := t.follow(ctx)
		if errkind.Is(err, errkind.NotFound) { // it was deleted
			t.mu.Lock()
			t.entries, t.next, t.loaded, t.size, t.grown = map[string]entry{}, 0, false, 0, 0
			t.mu.Unlock()
			return
		}
		if ctx.Err() == nil {
			t.d.log.Warn("rabbitmq: reading the table is interrupted", "stream", t.stream, "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, time.Second)
	}
}

// follow reads from where the map stands, or from the beginning where what
// follows is no longer there.
func (t *table) follow(ctx context.Context) error {
	t.mu.Lock()
	from, whole := t.next, t.loaded
	t.mu.Unlock()
	// Not among what others read: commits wait for what comes here.
	sub, err := t.d.subscribe(ctx, &t.d.tabling, t.stream, at(from))
	if err != nil {
		return err
	}
	defer sub.close()
	load := loading{}
	for {
		k, err := sub.take()
		if err != nil {
			return err
		}
		if k == nil {
			select {
			case <-sub.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if !load.begun {
			load.begun = true
			if load.active = k.first > from || (!whole && from > 0); load.active {
				t.mu.Lock()
				t.loaded = false
				t.mu.Unlock()
				load.from = k.first
			}
		}
		if err := t.take(k, &load); err != nil {
			return err
		}
	}
}

// loading gathers what is read before the first whole snapshot.
type loading struct {
	begun, active bool
	from          int64
	held          []heldChange
	parts         map[string][]change // by base and writer
}

type heldChange struct {
	change   change
	position int64
}

// take applies a chunk.
func (t *table) take(k *chunk, load *loading) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var r event.Record
	var d decoder
	for {
		m, position, ok, err := k.cut()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if position < t.next && !load.active {
			continue
		}
		d.decode(m, &r)
		var c change
		if json.Unmarshal(r.Value, &c) != nil {
			continue // nobody of us wrote it
		}
		t.grown += len(m)
		if load.active {
			t.load(load, c, position)
		} else {
			t.apply(c, position)
		}
	}
	t.next = max(t.next, k.end())
	if !load.active {
		t.loaded = true
	}
	t.notify()
	return nil
}

// load holds changes back until a snapshot is whole that is not older than the first of them.
func (t *table) load(load *loading, c change, position int64) {
	if c.Op != opSnapshot {
		load.held = append(load.held, heldChange{c, position})
		return
	}
	if c.Base < load.from || c.Parts < 1 {
		return
	}
	id := c.Writer + "/" + itoa(int(c.Base))
	if load.parts == nil {
		load.parts = map[string][]change{}
	}
	load.parts[id] = append(load.parts[id], c)
	if len(load.parts[id]) < c.Parts {
		return
	}
	t.entries, t.size = map[string]entry{}, 0
	for _, p := range load.parts[id] {
		for _, e := range p.Entries {
			t.set(e.Key, entry{e.Value, e.Version})
		}
	}
	for _, h := range load.held {
		if h.position >= c.Base {
			t.apply(h.change, h.position)
		}
	}
	*load = loading{begun: true}
	t.grown = 0
}

func (t *table) set(key string, e entry) {
	if old, ok := t.entries[key]; ok {
		t.size -= len(key) + len(old.value)
	}
	t.entries[key] = e
	t.size += len(key) + len(e.value)
}

// apply makes one change take effect, or not. The version that a key gets is
// that of the change's place in the stream.
func (t *table) apply(c change, position int64) {
	var o outcome
	now, exists := t.entries[c.Key]
	switch c.Op {
	case opSnapshot:
		t.grown = 0
	case opPut:
		if now.version != c.If {
			o.err = errkind.Errorf(errkind.Conflict, "key %s has version %d, not %d", c.Key, now.version, c.If)
			break
		}
		o.version = uint64(position) + 1
		t.set(c.Key, entry{c.Value, o.version})
	case opDelete:
		switch {
		case exists && now.version != c.If:
			o.err = errkind.Errorf(errkind.Conflict, "key %s has version %d, not %d", c.Key, now.version, c.If)
		case exists:
			t.size -= len(c.Key) + len(now.value)
			delete(t.entries, c.Key)
		}
	}
	if c.Writer == t.writer {
		if ch := t.waiting[c.Seq]; ch != nil {
			delete(t.waiting, c.Seq)
			ch <- o
		}
	}
}

// propose writes a change and waits until it is read back.
func (t *table) propose(ctx context.Context, c change) (uint64, error) {
	if ok, err := t.open(ctx, true); err != nil || !ok {
		return 0, err
	}
	ch := make(chan outcome, 1)
	t.mu.Lock()
	t.seq++
	c.Writer, c.Seq = t.writer, t.seq
	t.waiting[c.Seq] = ch
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.waiting, c.Seq)
		t.mu.Unlock()
	}()
	written, err := t.write(ctx, c)
	if err != nil {
		return 0, err
	}
	timer := time.NewTimer(t.d.timeout)
	defer timer.Stop()
	confirmed := written.done
	for {
		select {
		case o := <-ch:
			t.maybeSnapshot()
			return o.version, o.err
		case <-confirmed:
			if written.err != nil {
				return 0, written.err
			}
			confirmed = nil
		case <-ctx.Done():
			return 0, contextError(ctx)
		case <-timer.C:
			return 0, errkind.Errorf(errkind.Transient, "a change of stream %q was not read back within %v", t.stream, t.d.timeout)
		}
	}
}

func (t *table) write(ctx context.Context, changes ...change) (*publication, error) {
	p, err := t.d.publisher(ctx, t.stream)
	if err != nil {
		return nil, err
	}
	var m messages
	for _, c := range changes {
		b, err := json.Marshal(c)
		if err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "write to stream %q: %w", t.stream, err)
		}
		m.b = appendMessage(m.b, &event.Record{Value: b})
		m.ends = append(m.ends, len(m.b))
	}
	return p.send(ctx, &m)
}

// maybeSnapshot writes a snapshot where it is time.
func (t *table) maybeSnapshot() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writing || !t.running || t.grown < max(snapshotEvery, min(4*t.size, tableLength/3)) {
		return
	}
	t.writing = true
	var parts []change
	var part change
	size := 0
	flush := func() {
		parts = append(parts, part)
		part, size = change{}, 0
	}
	for k, e := range t.entries {
		part.Entries = append(part.Entries, snapshotEntry{k, e.value, e.version})
		if size += len(k) + len(e.value) + 32; size > snapshotPart {
			flush()
		}
	}
	flush()
	for i := range parts {
		parts[i].Op, parts[i].Writer, parts[i].Base, parts[i].Part, parts[i].Parts = opSnapshot, t.writer, t.next, i, len(parts)
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.d.timeout)
		defer cancel()
		if w, err := t.write(ctx, parts...); err == nil {
			select {
			case <-w.done:
			case <-ctx.Done():
			}
		}
		t.mu.Lock()
		t.writing = false
		t.mu.Unlock()
	})
}

// get looks a key up in what has been read.
func (t *table) get(key string) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	return e, ok
}

// List implements lease.Table.
func (t *table) List(ctx context.Context, prefix string) ([]lease.Entry, error) {
	if ok, err := t.open(ctx, false); err != nil || !ok {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []lease.Entry
	for k, e := range t.entries {
		if strings.HasPrefix(k, prefix) {
			out = append(out, lease.Entry{Key: k, Value: []byte(e.value), Version: e.version})
		}
	}
	return out, nil
}

// Put implements lease.Table.
func (t *table) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	return t.propose(ctx, change{Op: opPut, Key: key, Value: string(value), If: version})
}

// Delete implements lease.Table.
func (t *table) Delete(ctx context.Context, key string, version uint64) error {
	_, err := t.propose(ctx, change{Op: opDelete, Key: key, If: version})
	return err
}
