package eventgrid

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/bus/internal/lease"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// batchSize is the service's limit of events a call.
const batchSize = 100

// Receiver is a bus.Receiver of one subscription.
type Receiver struct {
	*lease.Receiver
	queue *subscription
}

// OpenReceiver finds a subscription.
func OpenReceiver(ctx context.Context, raw string, o Options) (*Receiver, error) {
	s := &subscription{}
	var lock time.Duration
	var receives int
	n, names, err := open(ctx, raw, o, 2, func(e *endpoint.Endpoint) (err error) {
		if lock, err = e.Duration("lock", time.Minute); err != nil {
			return err
		}
		if s.wait, err = e.Duration("wait", 30*time.Second); err != nil {
			return err
		}
		if receives, err = e.Int("receives", 2, 1); err != nil {
			return err
		}
		if s.wait > 2*time.Minute || s.wait < 10*time.Second {
			return errkind.Errorf(errkind.Config, "%s: option wait=%v: expected 10s to 120s", e, s.wait)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.namespace, s.path = n, "/topics/"+url.PathEscape(names[0])+"/eventsubscriptions/"+url.PathEscape(names[1])
	_, err = s.settle(ctx, "open", "renewLock", []string{"none"}, nil)
	if err := asked(err); err != nil {
		return nil, err
	}
	return &Receiver{lease.New(s, lease.Options{
		Lease: lock, Pulls: receives, PullMax: batchSize, Batch: batchSize, Unacknowledged: o.Limits.Unacknowledged,
		CloseTimeout: n.timeout, Logger: o.Logger, Where: n.String(),
	}), s}, nil
}

// Close implements bus.Receiver.
func (r *Receiver) Close() error {
	err := r.Receiver.Close()
	r.queue.client.CloseIdleConnections()
	return err
}

// subscription is a lease.Queue.
type subscription struct {
	*namespace
	path string
	wait time.Duration
}

// received is the answer to a receive call.
type received struct {
	Value []struct {
		BrokerProperties struct {
			LockToken     string `json:"lockToken"`
			DeliveryCount int    `json:"deliveryCount"`
		} `json:"brokerProperties"`
		Event json.RawMessage `json:"event"`
	} `json:"value"`
}

// Pull implements lease.Queue.
func (s *subscription) Pull(ctx context.Context, limit int) ([]lease.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, s.wait+s.timeout)
	defer cancel()
	b, err := s.call(ctx, "receive from", s.path+":receive", url.Values{
		"maxEvents": {strconv.Itoa(min(limit, batchSize))}, "maxWaitTime": {strconv.Itoa(int(s.wait / time.Second))},
	}, "", nil)
	if err != nil {
		return nil, err
	}
	var answer received
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, errkind.Errorf(errkind.Transient, "receive from %s: read the answer: %w", s, err)
	}
	got := make([]lease.Message, 0, len(answer.Value))
	for i := range answer.Value {
		v := &answer.Value[i]
		got = append(got, lease.Message{Record: recordOf(v.Event), Token: v.BrokerProperties.LockToken, Redelivered: v.BrokerProperties.DeliveryCount > 1})
	}
	return got, nil
}

// recordOf reads an event. One that is none is handed on as it is, for who reads
// it to judge.
func recordOf(b []byte) event.Record {
	if r, ok := envelope.FromStructured(b); ok {
		return r
	}
	return event.Record{Value: b, Headers: event.Headers(nil).AppendString(event.HeaderContentType, event.TypeStructured)}
}

// Ack implements lease.Queue.
func (s *subscription) Ack(ctx context.Context, tokens []string) ([]int, error) {
	return s.settle(ctx, "acknowledge to", "acknowledge", tokens, nil)
}

// Extend implements lease.Queue.
func (s *subscription) Extend(ctx context.Context, tokens []string) ([]int, error) {
	return s.settle(ctx, "renew locks at", "renewLock", tokens, nil)
}

// Release implements lease.Queue.
func (s *subscription) Release(ctx context.Context, tokens []string) error {
	_, err := s.settle(ctx, "give back to", "release", tokens, url.Values{"releaseDelayInSeconds": {"0"}})
	return err
}

// settled is the answer to what is done to locks.
type settled struct {
	Failed []struct {
		LockToken string `json:"lockToken"`
		Error     struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"failedLockTokens"`
}

// settle does something to locks and returns those that are no longer ours.
func (s *subscription) settle(ctx context.Context, verb, action string, tokens []string, query url.Values) (lost []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	body, err := json.Marshal(map[string][]string{"lockTokens": tokens})
	if err != nil {
		return nil, errkind.Errorf(errkind.Permanent, "%s %s: %w", verb, s, err)
	}
	b, err := s.call(ctx, verb, s.path+":"+action, query, typeJSON, body)
	if err != nil {
		return nil, err
	}
	var answer settled
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, errkind.Errorf(errkind.Transient, "%s %s: read the answer: %w", verb, s, err)
	}
	for i := range answer.Failed {
		f := &answer.Failed[i]
		switch n := slices.Index(tokens, f.LockToken); {
		case f.Error.Code != "TokenLost" && f.Error.Code != "BadToken":
			if err == nil {
				err = errkind.Errorf(errkind.Transient, "%s %s: %s: %s", verb, s, f.Error.Code, f.Error.Message)
			}
		case n >= 0:
			lost = append(lost, n)
		}
	}
	return lost, err
}
