package redis

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

const (
	// blockFor is how long one XREAD waits. Then the reader looks whether its
	// topic is still there.
	blockFor = 2 * time.Second
	// fetchBytes is about how much one Fetch brings; what it asks for is bounded
	// by the size of the records before.
	fetchBytes = 8 << 20
	// firstRecords is what the first Fetch asks for, whose records' size nobody knows.
	firstRecords = 64
)

// reconnect is the pause between attempts to reach a server that is away.
var reconnect = backoff.Retry{Min: 20 * time.Millisecond, Max: time.Second}.Or(backoff.Retry{})

// reader reads one partition. It waits for a server that is away.
type reader struct {
	d         *Driver
	t         *topic
	partition int
	// refused says why reading has ended: closed, or the claim revoked.
	refused func() error

	next    atomic.Int64
	reached int64 // the stream is known to go up to here
	decode  decoder
	average int  // bytes of a record, of the last batch
	asked   int  // records of the XREAD that is under way; 0 where none is
	withEnd bool // and whether the stream's last entry is asked for behind it
	full    bool // the last batch had all that was asked for
	scratch []byte

	mu     sync.Mutex
	w      *wire
	broken bool // interrupt was called
	away   chan struct{}
}

func (d *Driver) newReader(t *topic, partition int, from int64, refused func() error) *reader {
	r := &reader{d: d, t: t, partition: partition, refused: refused, full: true, away: make(chan struct{})}
	r.decode.topic = t
	r.next.Store(max(from, 0))
	return r
}

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, partition int, from int64) (broker.Reader, error) {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := t.check(partition); err != nil {
		return nil, err
	}
	return d.newReader(t, partition, from, func() error { return nil }), nil
}

// Position implements broker.Positioner.
func (r *reader) Position() int64 { return r.next.Load() }

// Close implements broker.Reader.
func (r *reader) Close() error {
	r.interrupt()
	return nil
}

// interrupt ends a Fetch in progress and all later ones.
func (r *reader) interrupt() {
	r.mu.Lock()
	w, first := r.w, !r.broken
	r.w, r.broken = nil, true
	r.mu.Unlock()
	if first {
		close(r.away)
	}
	if w != nil {
		w.close()
	}
}

// drop gives the connection up.
func (r *reader) drop() {
	r.asked = 0
	r.mu.Lock()
	w := r.w
	r.w = nil
	r.mu.Unlock()
	if w != nil {
		w.close()
	}
}

// seekTo makes the next Fetch begin at position.
func (r *reader) seekTo(position int64) {
	if r.asked > 0 {
		r.drop()
	}
	r.next.Store(max(position, 0))
	r.reached, r.decode.last, r.full = 0, 0, true
}

// ready says why nothing can be fetched; nil where it can.
func (r *reader) ready(ctx context.Context) error {
	if r.d.ended() {
		return r.d.errClosed()
	}
	if err := r.refused(); err != nil {
		return err
	}
	r.mu.Lock()
	broken := r.broken
	r.mu.Unlock()
	if broken {
		return errkind.New(errkind.Closed, "the reader is closed")
	}
	return ctx.Err()
}

// Fetch implements broker.Reader.
func (r *reader) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	for failures := 0; ; {
		if err := r.ready(ctx); err != nil {
			return nil, err
		}
		b, err := r.try(ctx, limit)
		if b != nil {
			return b, nil
		}
		if err == nil { // nothing came for a while
			failures = 0
			if err = r.look(ctx); err == nil {
				continue
			}
		}
		if ended := r.ready(ctx); ended != nil {
			return nil, ended
		}
		r.drop()
		k := kindOf(err)
		if !k.Retryable() && k != errkind.Canceled && k != errkind.Closed {
			return nil, errkind.Errorf(k, "read topic %s partition %d on %s: %w", r.t.config.Name, r.partition, r.d.where, err)
		}
		if failures == 0 {
			r.d.log.WarnContext(ctx, "a connection is lost; reading goes on when the server is back",
				"broker", r.d.where, "topic", r.t.config.Name, "partition", r.partition, "error", err)
		}
		r.pause(ctx, reconnect.Wait(failures, errkind.Transient))
		failures = min(failures+1, 20)
	}
}

func (r *reader) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-r.away:
	case <-r.d.done:
	}
}

// try asks for records and waits for the answer. Neither a batch nor an error
// says that none came within blockFor.
func (r *reader) try(ctx context.Context, limit int) (*broker.Batch, error) {
	w, err := r.wire(ctx)
	if err != nil {
		return nil, err
	}
	if r.asked > limit {
		r.drop()
		return nil, nil
	}
	if r.asked == 0 {
		if err := r.ask(w, limit); err != nil {
			return nil, err
		}
	}
	deadline := time.Now().Add(blockFor + r.d.timeout)
	for {
		err := w.await(ctx, deadline)
		if err == nil {
			break
		}
		// A timeout before its time is left over from a context that ended before.
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || time.Now().After(deadline) {
			return nil, err
		}
	}
	if err := w.nc.SetReadDeadline(time.Now().Add(r.d.timeout)); err != nil {
		return nil, err
	}
	f := newFetched()
	if err := r.answer(w.in, f); err != nil || len(f.recs) == 0 {
		if len(f.recs) == 0 {
			f.free()
			return nil, err
		}
		r.drop() // some records came before what went wrong
	}
	return r.deliver(ctx, f, limit)
}

// wire returns the connection, a new one where there is none.
func (r *reader) wire(ctx context.Context) (*wire, error) {
	r.mu.Lock()
	w := r.w
	r.mu.Unlock()
	if w != nil {
		return w, nil
	}
	r.asked = 0
	var (
		mu        sync.Mutex
		fresh     *wire
		abandoned bool
	)
	err := r.d.call(ctx, func(ctx context.Context) error {
		w, err := r.d.dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		if abandoned && w != nil {
			w.close()
		}
		fresh = w
		return err
	})
	mu.Lock()
	abandoned = true
	w = fresh
	mu.Unlock()
	if err != nil {
		if w != nil {
			w.close()
		}
		return nil, err
	}
	r.mu.Lock()
	if r.broken {
		r.mu.Unlock()
		w.close()
		return nil, errkind.New(errkind.Closed, "the reader is closed")
	}
	r.w = w
	r.mu.Unlock()
	return w, nil
}

// ask sends an XREAD for up to limit records behind what was read, and where
// there is a backlog, a question for the last entry.
func (r *reader) ask(w *wire, limit int) error {
	n := min(limit, firstRecords)
	if r.average > 0 {
		n = min(limit, max(1, fetchBytes/r.average))
	}
	key := r.t.streams[r.partition]
	r.scratch = appendCommand(r.scratch[:0], "XREAD", "COUNT", strconv.Itoa(n), "BLOCK", strconv.FormatInt(blockFor.Milliseconds(), 10),
		"STREAMS", key, r.t.before(r.next.Load()).String())
	r.withEnd = r.full
	if r.withEnd {
		r.scratch = appendCommand(r.scratch, "XREVRANGE", key, "+", "-", "COUNT", "1")
	}
	if err := w.nc.SetWriteDeadline(time.Now().Add(r.d.timeout)); err != nil {
		return err
	}
	if _, err := w.nc.Write(r.scratch); err != nil {
		return err
	}
	r.asked = n
	return nil
}

// answer reads what ask asked for. With an error there may be records all the
// same; the connection is of no use then.
func (r *reader) answer(in *bufio.Reader, f *fetched) error {
	streams, err := array(in)
	if err != nil {
		return err
	}
	if streams > 0 {
		if n, err := array(in); err != nil || n != 2 {
			return errors.Join(errReply, err)
		}
		if f.buf, err = bulk(in, f.buf[:0]); err != nil {
			return err
		}
		if err := f.entries(in, &r.decode); err != nil {
			return err
		}
	}
	end := int64(0)
	if r.withEnd {
		last := fetched{}
		if err := last.entries(in, &decoder{topic: r.t}); err != nil {
			return err
		}
		if len(last.recs) > 0 {
			end = last.recs[0].Position + 1
		}
	}
	f.full = len(f.recs) >= r.asked
	f.end = end
	r.asked = 0
	return nil
}

// deliver makes a batch of what was read, and asks for more where more is known
// to be there: the server gathers it while the caller works.
func (r *reader) deliver(ctx context.Context, f *fetched, limit int) (*broker.Batch, error) {
	last := &f.recs[len(f.recs)-1]
	next := last.Position + 1
	r.next.Store(next)
	r.reached = max(r.reached, next)
	r.full = f.full
	r.average = max(1, len(f.buf)/len(f.recs))
	b := &f.batch
	*b = broker.Batch{Topic: r.t.config.Name, Partition: r.partition, Records: f.recs, End: max(next, f.end), Free: f.release}
	if f.full {
		r.mu.Lock()
		w := r.w
		r.mu.Unlock()
		if w != nil && r.ask(w, limit) != nil {
			r.drop()
		}
	}
	return b, nil
}

// look is called while nothing comes: it tells a topic that is gone, and a
// stream that ends before records that were seen, from one where nothing happens.
func (r *reader) look(ctx context.Context) error {
	answer, err := r.d.script(ctx, scriptLook, []string{r.t.meta(), r.t.streams[r.partition]}, r.t.uid)
	if err != nil {
		return err
	}
	if len(answer) != 2 {
		return errMissing(r.t.config.Name)
	}
	last, _ := answer[1].(string)
	_, end, err := r.t.bounds("", last)
	if err == nil && end < r.reached {
		err = errkind.Errorf(errkind.Corrupt, "the partition ends at %d, and there were records up to %d: the server has lost what it acknowledged", end, r.reached)
	}
	return err
}
