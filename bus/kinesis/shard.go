package kinesis

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

const (
	// readMax is how many records one call reads.
	readMax = 1000
	// troubled is the pause after a failure.
	troubled = time.Second
	// clockSkew is how far our clock may be ahead of the service's.
	clockSkew = 5 * time.Second
)

// shard is a shard that is being read. Its fields are guarded by the reader's lock.
type shard struct {
	id      string
	parents []string
	// pending are the messages from number first on that are not acknowledged, with
	// those behind them.
	first   int
	pending []pending
	// at is how far it is acknowledged without a gap, stored what of it is durable.
	at, stored string
	// read is what has been read, for the next iterator.
	read  string
	ended bool
	// roomy is signalled when pending gets shorter.
	roomy chan struct{}
}

type pending struct {
	message lease.Message
	// sequence is set on the last message of a record.
	sequence string
	done     bool
}

// done marks a message as acknowledged.
func (s *shard) done(n int) {
	p := &s.pending[n-s.first]
	p.done, p.message = true, lease.Message{}
	for len(s.pending) > 0 && s.pending[0].done {
		if seq := s.pending[0].sequence; seq != "" {
			s.at = seq
		}
		s.pending = s.pending[1:]
		s.first++
	}
	s.finish()
	select {
	case s.roomy <- struct{}{}:
	default:
	}
}

// finish notes that a shard that has ended is acknowledged whole.
func (s *shard) finish() {
	if s.ended && len(s.pending) == 0 {
		s.at = finished
	}
}

// discover starts to read the shards that may be read now: those whose parents
// have been read to their ends or are gone.
func (r *reader) discover(ctx context.Context) error {
	listed, err := r.stream.shards(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for i := range listed {
		there[aws.ToString(listed[i].ShardId)] = true
	}
	r.checkpoints.keep(there)
	r.mu.Lock()
	defer r.mu.Unlock()
	for changed := true; changed; { // a finished shard lets its children begin
		changed = false
		for i := range listed {
			x := &listed[i]
			id := aws.ToString(x.ShardId)
			if r.shards[id] != nil || !r.over(there, x.ParentShardId) || !r.over(there, x.AdjacentParentShardId) {
				continue
			}
			at := r.checkpoints.of(id)
			s := &shard{id: id, at: at, stored: at, read: at, ended: at == finished, roomy: make(chan struct{}, 1)}
			for _, p := range []*string{x.ParentShardId, x.AdjacentParentShardId} {
				if p != nil && there[*p] {
					s.parents = append(s.parents, *p)
				}
			}
			r.shards[id] = s
			changed = true
			if !s.ended {
				r.wg.Go(func() { r.run(s) })
			}
		}
	}
	return nil
}

// over reports whether a parent lets its children begin. The lock is held.
func (r *reader) over(there map[string]bool, parent *string) bool {
	if parent == nil || !there[*parent] {
		return true
	}
	s := r.shards[*parent]
	return s != nil && s.ended
}

// run reads a shard to its end.
func (r *reader) run(s *shard) {
	var iterator *string
	for r.ctx.Err() == nil {
		started := time.Now()
		pause := r.poll
		var err error
		if iterator == nil {
			iterator, err = r.iterator(s)
		}
		if err == nil {
			iterator, err = r.read(s, iterator)
			if err == nil && iterator == nil {
				if err = r.end(s); err == nil {
					return
				}
			}
		}
		switch {
		case r.ctx.Err() != nil:
			return
		case errkind.Is(err, errkind.Throttled):
			pause = troubled // the shard's limit is shared with other readers
		case err != nil:
			pause = troubled
			if !r.hand(batch{err: err}) {
				return
			}
		}
		timer := time.NewTimer(max(pause-time.Since(started), 0))
		select {
		case <-r.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// iterator begins behind what was read, else where the reader was told to begin;
// a child of a shard that was read begins at its first record.
func (r *reader) iterator(s *shard) (*string, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &r.stream.Path, ShardId: &s.id}
	switch {
	case s.read != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &s.read
	case len(s.parents) > 0 || r.from.IsZero():
		in.ShardIteratorType = types.ShardIteratorTypeTrimHorizon
	default:
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &r.from
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.stream.Timeout)
	defer cancel()
	out, err := r.stream.client.GetShardIterator(ctx, in)
	if err != nil {
		return nil, r.stream.Failed("receive from", err)
	}
	return out.ShardIterator, nil
}

// read hands on what comes next. It returns the iterator behind it: nil at the
// shard's end.
func (r *reader) read(s *shard, iterator *string) (*string, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.stream.Timeout)
	defer cancel()
	out, err := r.stream.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator, Limit: aws.Int32(readMax)})
	var expired *types.ExpiredIteratorException
	switch {
	case errors.As(err, &expired):
		return r.iterator(s)
	case err != nil && ours.KindOf(err) == errkind.Throttled:
		return iterator, r.stream.Failed("receive from", err)
	case err != nil:
		return nil, r.stream.Failed("receive from", err) // with another iterator, then
	}
	if len(out.Records) > 0 && !r.take(s, out.Records) {
		return nil, r.stream.Closed()
	}
	return out.NextShardIterator, nil
}

// take notes records as pending and hands them to Pull; false at Close.
func (r *reader) take(s *shard, records []types.Record) bool {
	var b batch
	r.mu.Lock()
	for len(s.pending) >= maxPending {
		r.mu.Unlock()
		select {
		case <-r.ctx.Done():
			return false
		case <-s.roomy:
		}
		r.mu.Lock()
	}
	for i := range records {
		x := &records[i]
		recs := recordsOf(s.id, x)
		for j := range recs {
			m := lease.Message{Record: recs[j], Token: tokenOf(s.id, s.first+len(s.pending))}
			p := pending{message: m}
			if j == len(recs)-1 {
				p.sequence = aws.ToString(x.SequenceNumber)
			}
			s.pending = append(s.pending, p)
			b.messages = append(b.messages, m)
		}
	}
	s.read = aws.ToString(records[len(records)-1].SequenceNumber)
	r.mu.Unlock()
	return r.hand(b)
}

func (r *reader) hand(b batch) bool {
	select {
	case r.batches <- b:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// end notes that a shard has been read and starts its children.
func (r *reader) end(s *shard) error {
	r.mu.Lock()
	s.ended = true
	s.finish()
	r.mu.Unlock()
	return r.discover(r.ctx)
}
