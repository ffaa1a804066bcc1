package sqs

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/freshet-io/freshet/bus"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/errkind"
)

// calls is how many calls of one batch are in flight on a standard queue.
const calls = 8

// Sender is a bus.Sender to one queue.
type Sender struct {
	queue  *queue
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
}

// OpenSender finds a queue.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	q, err := open(ctx, url, o, func(*ours.Target) error { return nil })
	if err != nil {
		return nil, err
	}
	s := &Sender{queue: q}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if s.ctx.Err() != nil {
		return s.queue.Closed()
	}
	if err := ctx.Err(); err != nil {
		return s.queue.Failed("send to", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var refused []bus.Refused
	var chunks [][]types.SendMessageBatchRequestEntry
	bytes := 0
	for i := range b.Records {
		e, n := s.queue.entryOf(&b.Records[i], b.Partition)
		if n > s.queue.messageBytes {
			refused = append(refused, bus.Refused{Index: i, Err: errkind.Errorf(errkind.Invalid, "the message has %d bytes, the queue takes %d", n, s.queue.messageBytes)})
			continue
		}
		last := len(chunks) - 1
		if last < 0 || len(chunks[last]) == batchSize || bytes+n > s.queue.messageBytes {
			chunks, bytes, last = append(chunks, nil), 0, last+1
		}
		e.Id = aws.String(strconv.Itoa(i))
		chunks[last], bytes = append(chunks[last], e), bytes+n
	}
	inFlight := calls
	if s.queue.fifo {
		inFlight = 1
	}
	var mu sync.Mutex
	err := ours.Each(chunks, inFlight, func(entries []types.SendMessageBatchRequestEntry) error {
		bad, err := s.call(ctx, entries)
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, bad...)
		return err
	})
	switch {
	case err != nil && s.ctx.Err() != nil:
		return s.queue.Closed()
	case err != nil:
		return err
	}
	slices.SortFunc(refused, func(a, b bus.Refused) int { return cmp.Compare(a.Index, b.Index) })
	return bus.Refuse(refused)
}

// call sends one batch of SQS's.
func (s *Sender) call(ctx context.Context, entries []types.SendMessageBatchRequestEntry) (refused []bus.Refused, first error) {
	ctx, cancel := context.WithTimeout(ctx, s.queue.Timeout)
	defer cancel()
	answer, err := s.queue.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: s.queue.url, Entries: entries})
	if err != nil {
		return nil, s.queue.Failed("send to", err)
	}
	if n := len(answer.Failed) + len(answer.Successful); n != len(entries) {
		first = errkind.Errorf(errkind.Transient, "send to %s: the answer is about %d of %d messages", s.queue.Target, n, len(entries))
	}
	for i := range answer.Failed {
		f := &answer.Failed[i]
		invalid, err := s.queue.verdict("send to", f)
		if n, bad := strconv.Atoi(aws.ToString(f.Id)); invalid && bad == nil {
			refused = append(refused, bus.Refused{Index: n, Err: errkind.Errorf(errkind.Invalid, "%s: %s", aws.ToString(f.Code), aws.ToString(f.Message))})
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return refused, first
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.cancel()
	return nil
}
