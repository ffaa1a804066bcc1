package pubsub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2/apierror"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

const (
	// outstandingBytes bounds what the service sends without acknowledgements.
	outstandingBytes = 64 << 20
	// ackBatch keeps a request below the service's 512 KiB.
	ackBatch = 1000
	// pingEvery keeps proxies from taking an idle stream for a dead one.
	pingEvery = 30 * time.Second
	// settled is how long a stream has to have been open for its end to be
	// nothing special: the service ends streams every now and then.
	settled = 5 * time.Second
	// repeatPause is between acknowledgements that the service wants repeated.
	repeatPause = 200 * time.Millisecond
)

// Receiver is a bus.Receiver of one subscription.
type Receiver struct {
	*lease.Receiver
	queue *subscription
}

// OpenReceiver connects to a subscription.
func OpenReceiver(ctx context.Context, url string, o Options) (*Receiver, error) {
	t, err := parse(url, "subscriptions", o)
	if err != nil {
		return nil, err
	}
	client, err := pubsub.NewSubscriptionAdminClient(ctx, t.client...)
	if err != nil {
		return nil, t.failed("open", err)
	}
	client.CallOptions = &pubsub.SubscriptionAdminCallOptions{} // repeating is the caller's
	if o.Limits.Unacknowledged <= 0 {
		o.Limits.Unacknowledged = bus.DefaultUnacknowledged
	}
	s := &subscription{target: t, client: client, name: t.path(t.name), limit: o.Limits.Unacknowledged}
	check, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	_, err = client.GetSubscription(check, &pubsubpb.GetSubscriptionRequest{Subscription: s.name})
	if err = t.opened(err); err != nil {
		_ = client.Close()
		return nil, err
	}
	r := lease.New(s, lease.Options{
		Lease: t.lease, Pulls: 1, PullMax: s.limit, Batch: ackBatch, Unacknowledged: s.limit,
		CloseTimeout: t.timeout, Logger: o.Logger, Where: t.endpoint.String(),
	})
	return &Receiver{r, s}, nil
}

// Close implements bus.Receiver.
func (r *Receiver) Close() error {
	err := r.Receiver.Close()
	r.queue.end()
	return err
}

// subscription is a lease.Queue with one Pull at a time.
type subscription struct {
	target *target
	client *pubsub.SubscriptionAdminClient
	name   string
	limit  int
	stream *stream // of Pull alone
	pings  sync.WaitGroup
	closed sync.Once
}

// stream is a streaming pull.
type stream struct {
	pubsubpb.Subscriber_StreamingPullClient
	cancel context.CancelFunc
	since  time.Time
}

func (s *subscription) end() {
	s.closed.Do(func() {
		s.drop()
		_ = s.client.Close()
		s.pings.Wait()
	})
}

func (s *subscription) drop() {
	if s.stream != nil {
		s.stream.cancel()
		s.stream = nil
	}
}

// Pull implements lease.Queue: it waits until the service has something. The
// service sends no more than was asked for at the stream's beginning.
func (s *subscription) Pull(ctx context.Context, _ int) ([]lease.Message, error) {
	if s.stream == nil {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, s.stream.cancel)()
	answer, err := s.stream.Recv()
	if err != nil {
		old := s.stream
		s.drop()
		err = s.target.failed("receive from", err)
		if errkind.Is(err, errkind.Transient) && time.Since(old.since) > settled {
			return nil, nil // the next Pull opens another
		}
		return nil, err
	}
	got := make([]lease.Message, 0, len(answer.ReceivedMessages))
	for _, m := range answer.ReceivedMessages {
		if m.GetMessage() == nil {
			continue
		}
		got = append(got, lease.Message{
			Record: recordOf(m.Message), Token: m.AckId, Group: m.Message.OrderingKey, Redelivered: m.DeliveryAttempt > 1,
		})
	}
	return got, nil
}

// open opens the stream, which outlives the Pull.
func (s *subscription) open(pull context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer context.AfterFunc(pull, cancel)()
	opening := time.AfterFunc(s.target.timeout, cancel)
	defer opening.Stop()
	grpc, err := s.client.StreamingPull(ctx)
	if err == nil {
		err = grpc.Send(&pubsubpb.StreamingPullRequest{
			Subscription: s.name, StreamAckDeadlineSeconds: s.seconds(),
			MaxOutstandingMessages: int64(s.limit), MaxOutstandingBytes: outstandingBytes,
		})
	}
	if err == nil && !opening.Stop() {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return s.target.failed("receive from", err)
	}
	s.stream = &stream{grpc, cancel, time.Now()}
	s.pings.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if grpc.Send(&pubsubpb.StreamingPullRequest{}) != nil {
					return // Recv says why
				}
			}
		}
	})
	return nil
}

func (s *subscription) seconds() int32 { return int32(s.target.lease / time.Second) }

// Ack implements lease.Queue.
func (s *subscription) Ack(ctx context.Context, tokens []string) ([]int, error) {
	return s.settle(ctx, "acknowledge to", tokens, func(ctx context.Context, ids []string) error {
		return s.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: s.name, AckIds: ids})
	})
}

// Extend implements lease.Queue.
func (s *subscription) Extend(ctx context.Context, tokens []string) ([]int, error) {
	return s.settle(ctx, "extend leases at", tokens, func(ctx context.Context, ids []string) error {
		return s.client.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: s.name, AckIds: ids, AckDeadlineSeconds: s.seconds()})
	})
}

// Release implements lease.Queue.
func (s *subscription) Release(ctx context.Context, tokens []string) error {
	_, err := s.settle(ctx, "give back to", tokens, func(ctx context.Context, ids []string) error {
		return s.client.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: s.name, AckIds: ids})
	})
	return err
}

// settle makes a call until the service has said of every token what became of
// it. A subscription with exactly-once delivery answers for each by itself: those
// that it wants repeated are, until the deadline.
func (s *subscription) settle(ctx context.Context, verb string, tokens []string, call func(context.Context, []string) error) (lost []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	rest := tokens
	for {
		err := call(ctx, rest)
		if err == nil {
			return lost, nil
		}
		said := verdicts(err)
		var again []string
		for _, id := range rest {
			switch v, ok := said[id]; {
			case ok && strings.HasPrefix(v, "TRANSIENT_"):
				again = append(again, id)
			case ok:
				lost = append(lost, slices.Index(tokens, id))
			}
		}
		if len(said) == 0 {
			return lost, s.target.failed(verb, err)
		}
		if len(again) == 0 {
			return lost, nil
		}
		rest = again
		pause := time.NewTimer(repeatPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return lost, errkind.Errorf(errkind.Transient, "%s %s: the service wants %d of %d repeated: %w", verb, s.target.endpoint, len(again), len(tokens), err)
		case <-pause.C:
		}
	}
}

// verdicts are what the service says about single acknowledgement ids.
func verdicts(err error) map[string]string {
	if e, ok := apierror.FromError(err); ok {
		said := e.Metadata()
		for _, v := range said {
			if strings.HasPrefix(v, "TRANSIENT_FAILURE_") || strings.HasPrefix(v, "PERMANENT_FAILURE_") {
				return said
			}
		}
	}
	return nil
}
