package sqs

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// Receiver is a bus.Receiver of one queue.
type Receiver struct{ *lease.Receiver }

// OpenReceiver finds a queue.
func OpenReceiver(ctx context.Context, url string, o Options) (*Receiver, error) {
	var visibility, wait time.Duration
	var receives int
	q, err := open(ctx, url, o, func(t *ours.Target) (err error) {
		if visibility, err = t.Duration("visibility", time.Minute); err != nil {
			return err
		}
		if wait, err = t.Duration("wait", 20*time.Second); err != nil {
			return err
		}
		if receives, err = t.Int("receives", 4, 1); err != nil {
			return err
		}
		if visibility < time.Second || visibility > 12*time.Hour || wait > 20*time.Second {
			return errkind.Errorf(errkind.Config, "%s: expected a visibility of 1s to 12h and a wait of 20s at most", t)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r := &receiver{queue: q, visibility: int32(visibility / time.Second), wait: wait}
	return &Receiver{lease.New(r, lease.Options{
		Lease: visibility.Truncate(time.Second), Pulls: receives, PullMax: batchSize, Batch: batchSize, Unacknowledged: o.Limits.Unacknowledged,
		CloseTimeout: q.Timeout, Logger: o.Logger, Where: q.String(),
	})}, nil
}

// receiver is a lease.Queue.
type receiver struct {
	*queue
	visibility int32 // in seconds
	wait       time.Duration
}

// Pull implements lease.Queue by a long poll, or, where less than a second is
// to be waited, by a short one and a pause.
func (r *receiver) Pull(ctx context.Context, limit int) ([]lease.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, r.wait+r.Timeout)
	defer cancel()
	answer, err := r.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: r.url, MaxNumberOfMessages: int32(min(limit, batchSize)),
		VisibilityTimeout: r.visibility, WaitTimeSeconds: int32(r.wait / time.Second),
		MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameMessageGroupId, types.MessageSystemAttributeNameMessageDeduplicationId,
		},
	})
	if err != nil {
		return nil, r.Failed("receive from", err)
	}
	if len(answer.Messages) == 0 && r.wait < time.Second {
		pause := time.NewTimer(r.wait)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
	got := make([]lease.Message, len(answer.Messages))
	for i := range answer.Messages {
		m := &answer.Messages[i]
		times, _ := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
		got[i] = lease.Message{Record: recordOf(m), Token: aws.ToString(m.ReceiptHandle), Redelivered: times > 1}
		if r.fifo {
			got[i].Group = m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]
		}
	}
	return got, nil
}

// Ack implements lease.Queue: it deletes.
func (r *receiver) Ack(ctx context.Context, tokens []string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	entries := make([]types.DeleteMessageBatchRequestEntry, len(tokens))
	for i := range tokens {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &tokens[i]}
	}
	answer, err := r.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: r.url, Entries: entries})
	if err != nil {
		return nil, r.Failed("acknowledge to", err)
	}
	return r.missing("acknowledge to", answer.Failed)
}

// Extend implements lease.Queue.
func (r *receiver) Extend(ctx context.Context, tokens []string) ([]int, error) {
	return r.change(ctx, "extend the visibility timeout at", tokens, r.visibility)
}

// Release implements lease.Queue.
func (r *receiver) Release(ctx context.Context, tokens []string) error {
	_, err := r.change(ctx, "give back to", tokens, 0)
	return err
}

func (r *receiver) change(ctx context.Context, verb string, tokens []string, seconds int32) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(tokens))
	for i := range tokens {
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &tokens[i], VisibilityTimeout: seconds}
	}
	answer, err := r.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: r.url, Entries: entries})
	if err != nil {
		return nil, r.Failed(verb, err)
	}
	return r.missing(verb, answer.Failed)
}

// missing are the entries that are no longer ours, and the first error of another.
func (r *receiver) missing(verb string, failed []types.BatchResultErrorEntry) (missing []int, first error) {
	for i := range failed {
		lost, err := r.verdict(verb, &failed[i])
		if err != nil && first == nil {
			first = err
		}
		if n, bad := strconv.Atoi(aws.ToString(failed[i].Id)); lost && bad == nil {
			missing = append(missing, n)
		}
	}
	return missing, first
}
