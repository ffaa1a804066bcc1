package kinesis

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

const (
	// forever is the lease of messages that nobody can take away.
	forever = 100 * 365 * 24 * time.Hour
	// ackBatch is how many acknowledgements one writing of the file is for.
	ackBatch = 1 << 16
	// maxPending bounds the messages of a shard behind one that is not acknowledged.
	maxPending = 1 << 16
)

// Receiver is a bus.Receiver of one stream.
type Receiver struct {
	*lease.Receiver
	reader *reader
}

// OpenReceiver finds a stream and reads the checkpoints.
func OpenReceiver(ctx context.Context, url string, o Options) (*Receiver, error) {
	r := &reader{batches: make(chan batch), shards: map[string]*shard{}, logger: o.Logger}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	var kept string
	var err error
	r.stream, err = open(ctx, url, o, func(t *ours.Target) (err error) {
		if r.poll, err = t.Duration("poll", 250*time.Millisecond); err != nil {
			return err
		}
		kept = t.Option("checkpoints", "")
		return r.readStart(t, kept)
	})
	if err != nil {
		return nil, err
	}
	if r.checkpoints, err = loadCheckpoints(kept, r.stream.String()); err != nil {
		return nil, errkind.Errorf(errkind.Of(err), "open %s: %w", r.stream.Target, err)
	}
	if r.latest {
		if r.from, err = r.checkpoints.since(time.Now().Add(-clockSkew)); err != nil {
			return nil, errkind.Errorf(errkind.Of(err), "open %s: %w", r.stream.Target, err)
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.discover(ctx); err != nil {
		r.cancel()
		r.wg.Wait()
		return nil, err
	}
	return &Receiver{lease.New(r, lease.Options{
		Lease: forever, Pulls: 1, PullMax: readMax, Batch: ackBatch, Unacknowledged: o.Limits.Unacknowledged,
		CloseTimeout: r.stream.Timeout, Logger: o.Logger, Where: r.stream.String(),
	}), r}, nil
}

// Close implements bus.Receiver.
func (r *Receiver) Close() error {
	err := r.Receiver.Close()
	r.reader.cancel()
	r.reader.wg.Wait()
	return err
}

// reader is a lease.Queue over all shards.
type reader struct {
	stream      *stream
	checkpoints *checkpoints
	logger      *slog.Logger
	poll        time.Duration
	latest      bool
	from        time.Time // where a shard without a checkpoint begins; zero is the earliest record

	ctx     context.Context // ends at Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup // of the shards
	batches chan batch

	mu     sync.Mutex
	shards map[string]*shard
	back   []lease.Message // given back, to be handed out again
}

// batch is what a shard has read, or why it could not.
type batch struct {
	messages []lease.Message
	err      error
}

// readStart reads the option start.
func (r *reader) readStart(t *ours.Target, kept string) error {
	absent := "latest"
	if kept == "" {
		absent = ""
	}
	switch v := t.Option("start", absent); v {
	case "earliest":
	case "latest":
		r.latest = true
	case "":
		return errkind.Errorf(errkind.Config, "%s: Kinesis keeps no acknowledgements: give checkpoints=file:///PATH, or say where each start begins by start=earliest, latest or a time", t)
	default:
		var err error
		if r.from, err = time.Parse(time.RFC3339, v); err != nil {
			return errkind.Errorf(errkind.Config, "%s: option start=%s: expected earliest, latest or a time as 2006-01-02T15:04:05Z", t, v)
		}
	}
	return nil
}

// Pull implements lease.Queue.
func (r *reader) Pull(ctx context.Context, limit int) ([]lease.Message, error) {
	if got := r.givenBack(limit); len(got) > 0 {
		return got, nil
	}
	wait := time.NewTimer(100 * time.Millisecond)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, nil
	case <-wait.C:
		return nil, nil // something may have been given back
	case b := <-r.batches:
		// What is over the limit waits where what was given back does.
		if n := len(b.messages); n > limit {
			r.mu.Lock()
			r.back = append(r.back, b.messages[limit:]...)
			r.mu.Unlock()
			b.messages = b.messages[:limit]
		}
		return b.messages, b.err
	}
}

func (r *reader) givenBack(limit int) []lease.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(limit, len(r.back))
	got := r.back[:n:n]
	if r.back = r.back[n:]; len(r.back) == 0 {
		r.back = nil
	}
	return got
}

// Ack implements lease.Queue.
func (r *reader) Ack(_ context.Context, tokens []string) ([]int, error) {
	r.mu.Lock()
	for _, token := range tokens {
		if s, n, ok := r.find(token); ok {
			s.done(n)
		}
	}
	// A position that could not be stored is tried again with the next one.
	moved := map[string]string{}
	for id, s := range r.shards {
		if s.at != s.stored {
			moved[id] = s.at
		}
	}
	r.mu.Unlock()
	if err := r.checkpoints.move(moved); err != nil {
		return nil, errkind.Errorf(errkind.Of(err), "acknowledge to %s: %w", r.stream.Target, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, at := range moved {
		if s := r.shards[id]; newer(at, s.stored) {
			s.stored = at
		}
	}
	return nil, nil
}

// newer reports whether a checkpoint lies behind another. Sequence numbers are
// decimal and of many digits.
func newer(a, b string) bool {
	switch {
	case a == b || b == finished:
		return false
	case a == finished || len(a) != len(b):
		return a == finished || len(a) > len(b)
	}
	return a > b
}

// Release implements lease.Queue.
func (r *reader) Release(_ context.Context, tokens []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	back := make([]lease.Message, 0, len(tokens)+len(r.back))
	for _, token := range tokens {
		if s, n, ok := r.find(token); ok {
			m := s.pending[n-s.first].message
			m.Redelivered = true
			back = append(back, m)
		}
	}
	r.back = append(back, r.back...)
	return nil
}

// Extend implements lease.Queue.
func (r *reader) Extend(context.Context, []string) ([]int, error) { return nil, nil }

// tokenOf names message n of a shard.
func tokenOf(shard string, n int) string { return shard + "/" + strconv.Itoa(n) }

// find is the message that a token names, unless it is acknowledged. The lock is held.
func (r *reader) find(token string) (s *shard, n int, ok bool) {
	id, number, _ := strings.Cut(token, "/")
	n, err := strconv.Atoi(number)
	s = r.shards[id]
	if err != nil || s == nil || n < s.first || n >= s.first+len(s.pending) || s.pending[n-s.first].done {
		return nil, 0, false
	}
	return s, n, true
}
