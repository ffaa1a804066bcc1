package lease

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Queue is what an adapter implements. All methods may be called concurrently
// and bound their calls in time by themselves.
type Queue interface {
	// Pull waits, some seconds at most, for messages and returns up to max of
	// them; none without an error is fine. When ctx ends it returns soon.
	Pull(ctx context.Context, max int) ([]Message, error)
	// Ack makes the queue forget messages. lost are indices of those that are no
	// longer ours. On error the others may be acknowledged again.
	Ack(ctx context.Context, tokens []string) (lost []int, err error)
	// Release makes messages come again at once.
	Release(ctx context.Context, tokens []string) error
	// Extend makes the leases last Options.Lease from now. lost is as in Ack.
	Extend(ctx context.Context, tokens []string) (lost []int, err error)
}

// Message is a message with its lease.
type Message struct {
	Record event.Record
	// Token names the lease.
	Token string
	// Group is within what messages are ordered; empty where there is no order.
	Group string
	// Redelivered says that it was handed out before.
	Redelivered bool
}

// Options of a Receiver.
type Options struct {
	// Lease is how long a lease lasts from Pull or Extend.
	Lease time.Duration
	// Pulls is how many Pull calls are in flight; PullMax is the most of one.
	Pulls, PullMax int
	// Batch is the most tokens of an Ack, Release or Extend.
	Batch int
	// Unacknowledged bounds the messages held, handed out or not.
	Unacknowledged int
	// CloseTimeout bounds how long Close gives messages back.
	CloseTimeout time.Duration
	// Logger hears of leases that could not be extended.
	Logger *slog.Logger
	// Where is the queue in errors.
	Where string
}

// calls is how many Ack, Release or Extend calls of one batch of messages are in flight.
const calls = 8

// held is a message between Pull and its end.
type held struct {
	message Message
	expiry  time.Time
	state   state
}

type state uint8

const (
	waiting state = iota // pulled, not handed out
	out                  // handed out
	lost                 // its lease ended while it was out
	done                 // acknowledged or given back
)

// Receiver implements bus.Receiver.
type Receiver struct {
	queue  Queue
	o      Options
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ended  chan struct{} // closed when Close has given everything back

	mu       sync.Mutex
	changed  *sync.Cond
	buffer   []*held // waiting, in order
	leases   map[*held]struct{}
	reserved int      // room for what Pulls in flight may bring
	orphans  []string // leases that the extender gives back
	resting  bool     // pullers wait for a Receive
	err      error    // of a Pull, for the next Receive
	closed   bool
}

// New starts to pull when Receive is called first.
func New(q Queue, o Options) *Receiver {
	if o.Unacknowledged <= 0 {
		o.Unacknowledged = bus.DefaultUnacknowledged
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{queue: q, o: o, leases: map[*held]struct{}{}, resting: true, ended: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.changed = sync.NewCond(&r.mu)
	r.wg.Add(o.Pulls + 1)
	for range o.Pulls {
		go r.pull()
	}
	go r.extend()
	return r
}

// Receive implements bus.Receiver.
func (r *Receiver) Receive(ctx context.Context, max int) ([]bus.Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resting {
		r.resting = false
		r.changed.Broadcast()
	}
	defer context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	})()
	for {
		if r.closed {
			return nil, r.closedError()
		}
		if err := ctx.Err(); err != nil {
			return nil, errkind.Errorf(errkind.Of(err), "receive from %s: %w", r.o.Where, err)
		}
		if got := r.take(max); len(got) > 0 {
			return got, nil
		}
		if err := r.err; err != nil {
			// The next attempt is made by the Receive that follows: so the caller's
			// pauses count.
			r.err, r.resting = nil, true
			return nil, err
		}
		r.changed.Wait()
	}
}

// take hands out up to limit messages whose leases last. The lock is held.
func (r *Receiver) take(limit int) []bus.Message {
	if len(r.buffer) == 0 {
		return nil
	}
	if room := r.o.Unacknowledged - (len(r.leases) - len(r.buffer)); limit > room {
		limit = room // a queue may bring more than it was asked for
	}
	now := time.Now()
	for {
		i := slices.IndexFunc(r.buffer[:min(len(r.buffer), max(limit, 0))], func(h *held) bool { return !h.expiry.After(now) })
		if i < 0 {
			break
		}
		h := r.buffer[i]
		r.forget(h)
		r.dropGroup(h.message.Group)
	}
	n := min(len(r.buffer), limit)
	if n <= 0 {
		return nil
	}
	got := make([]bus.Message, n)
	for i, h := range r.buffer[:n] {
		h.state = out
		got[i] = bus.Message{Record: h.message.Record, Token: h, Redelivered: h.message.Redelivered}
	}
	clear(r.buffer[:n])
	if r.buffer = r.buffer[n:]; len(r.buffer) == 0 {
		r.buffer = nil
	}
	return got
}

// forget ends a message without telling the queue. The lock is held.
func (r *Receiver) forget(h *held) {
	if h.state == waiting {
		r.buffer = slices.DeleteFunc(r.buffer, func(x *held) bool { return x == h })
	}
	h.state = done
	delete(r.leases, h)
	r.changed.Broadcast()
}

// dropGroup gives the waiting messages of a group back. The lock is held.
func (r *Receiver) dropGroup(group string) {
	if group == "" {
		return
	}
	var dropped []*held
	for _, h := range r.buffer {
		if h.message.Group == group {
			dropped = append(dropped, h)
		}
	}
	for _, h := range dropped {
		r.forget(h)
		r.orphans = append(r.orphans, h.message.Token)
	}
}

// pull is one puller.
func (r *Receiver) pull() {
	defer r.wg.Done()
	for {
		room := r.room()
		if room == 0 {
			return
		}
		got, err := r.queue.Pull(r.ctx, room)
		r.arrived(room, got, err)
	}
}

// room waits until messages may be pulled, and reserves the place; 0 after Close.
func (r *Receiver) room() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.closed {
			return 0
		}
		n := min(r.o.PullMax, r.o.Unacknowledged-len(r.leases)-r.reserved)
		if n > 0 && r.err == nil && !r.resting {
			r.reserved += n
			return n
		}
		r.changed.Wait()
	}
}

func (r *Receiver) arrived(room int, got []Message, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= room
	if err != nil && !r.closed {
		r.err = err
	}
	expiry := time.Now().Add(r.o.Lease)
	entries := make([]held, len(got))
	for i := range got {
		entries[i] = held{message: got[i], expiry: expiry}
		r.leases[&entries[i]] = struct{}{}
		r.buffer = append(r.buffer, &entries[i])
	}
	r.changed.Broadcast()
}

// Ack implements bus.Receiver.
func (r *Receiver) Ack(ctx context.Context, messages []bus.Message) error {
	entries, gone, err := r.entries(messages)
	if err != nil {
		return err
	}
	err = r.call(ctx, entries, r.queue.Ack, func(h *held, missing bool) {
		if missing {
			gone++
		}
		r.forget(h)
	})
	switch {
	case err != nil:
		return err
	case gone > 0:
		return errkind.Errorf(errkind.Conflict, "acknowledge to %s: %d of %d messages were taken back meanwhile; they come again", r.o.Where, gone, len(messages))
	}
	return nil
}

// Nack implements bus.Receiver. A message whose release fails comes again when
// its lease has ended.
func (r *Receiver) Nack(ctx context.Context, messages []bus.Message) error {
	entries, _, err := r.entries(messages)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, h := range entries {
		r.dropGroup(h.message.Group)
		r.forget(h)
	}
	r.mu.Unlock()
	return r.call(ctx, entries, r.release, func(*held, bool) {})
}

func (r *Receiver) release(ctx context.Context, tokens []string) ([]int, error) {
	return nil, r.queue.Release(ctx, tokens)
}

// entries are the messages that are still out, and how many have been lost.
func (r *Receiver) entries(messages []bus.Message) (entries []*held, gone int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, r.closedError()
	}
	entries = make([]*held, 0, len(messages))
	for i := range messages {
		h, ok := messages[i].Token.(*held)
		if !ok {
			return nil, 0, errkind.Errorf(errkind.Invalid, "%s: message %d is another receiver's", r.o.Where, i)
		}
		switch h.state {
		case out:
			entries = append(entries, h)
		case lost:
			h.state = done
			gone++
		}
	}
	return entries, gone, nil
}

// call is a call of the caller's: it ends at Close.
func (r *Receiver) call(ctx context.Context, entries []*held, do func(context.Context, []string) ([]int, error), settle func(h *held, missing bool)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	err := r.each(ctx, entries, do, settle)
	if err != nil && r.ctx.Err() != nil {
		return r.closedError()
	}
	return err
}

// each calls do for batches of tokens, several at a time, and settle, with the
// lock held, for every message of which the queue has said what became of it.
// It returns the first error.
func (r *Receiver) each(ctx context.Context, entries []*held, do func(context.Context, []string) ([]int, error), settle func(h *held, missing bool)) error {
	var first error
	batch := func(chunk []*held) {
		tokens := make([]string, len(chunk))
		for i, h := range chunk {
			tokens[i] = h.message.Token
		}
		missing, err := do(ctx, tokens)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil && first == nil {
			first = err
		}
		for i, h := range chunk {
			if is := slices.Contains(missing, i); is || err == nil {
				settle(h, is)
			}
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, calls)
	for chunk := range slices.Chunk(entries, r.o.Batch) {
		if len(entries) <= r.o.Batch {
			batch(chunk)
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			batch(chunk)
			<-slots
		})
	}
	wg.Wait()
	return first
}

// extend keeps the leases alive and gives orphans back.
func (r *Receiver) extend() {
	defer r.wg.Done()
	tick := time.NewTicker(min(max(r.o.Lease/12, 10*time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		r.giveOrphansBack(r.ctx)
		r.extendDue()
	}
}

func (r *Receiver) giveOrphansBack(ctx context.Context) {
	r.mu.Lock()
	tokens := r.orphans
	r.orphans = nil
	r.mu.Unlock()
	for chunk := range slices.Chunk(tokens, r.o.Batch) {
		if err := r.queue.Release(ctx, chunk); err != nil {
			return // their leases end by themselves
		}
	}
}

// extendDue extends the leases of which a third has passed.
func (r *Receiver) extendDue() {
	now := time.Now()
	var due []*held
	r.mu.Lock()
	for h := range r.leases {
		if h.expiry.Sub(now) < r.o.Lease*2/3 {
			due = append(due, h)
		}
	}
	// The most pressing first, in case that not all succeed in time.
	slices.SortFunc(due, func(a, b *held) int { return a.expiry.Compare(b.expiry) })
	r.mu.Unlock()
	err := r.each(r.ctx, due, r.queue.Extend, func(h *held, missing bool) {
		switch {
		case !missing:
			h.expiry = now.Add(r.o.Lease)
		case h.state == waiting:
			r.forget(h)
			r.dropGroup(h.message.Group)
		case h.state == out:
			r.forget(h)
			h.state = lost
		}
	})
	if err != nil && r.ctx.Err() == nil {
		r.o.Logger.Warn("leases of messages could not be extended; they are tried again", "queue", r.o.Where, "messages", len(due), "error", err)
	}
}

// Close implements bus.Receiver.
func (r *Receiver) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.ended
		return nil
	}
	r.closed = true
	r.changed.Broadcast()
	r.mu.Unlock()
	defer close(r.ended)
	r.cancel()
	r.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), r.o.CloseTimeout)
	defer cancel()
	r.giveOrphansBack(ctx)
	r.mu.Lock()
	rest := make([]*held, 0, len(r.leases))
	for h := range r.leases {
		rest = append(rest, h)
	}
	r.mu.Unlock()
	err := r.each(ctx, rest, r.release, func(h *held, _ bool) { r.forget(h) })
	if err != nil {
		r.o.Logger.Warn("messages could not be given back; they come again when their leases end", "queue", r.o.Where, "messages", len(rest), "error", err)
	}
	return nil
}

func (r *Receiver) closedError() error {
	return errkind.Errorf(errkind.Closed, "%s: the receiver is closed", r.o.Where)
}
