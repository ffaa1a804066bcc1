package pubsub

import (
	"context"
	"sync"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

const (
	// maxMessages and maxBytes are the service's limits of one request, the latter
	// with room for the topic's name.
	maxMessages = 1000
	maxBytes    = 10_000_000 - 1024
)

// Sender is a bus.Sender to topics of one project.
type Sender struct {
	target *target
	client *pubsub.TopicAdminClient
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	once   sync.Once
}

// OpenSender connects to the service and, where the URL names one, looks for the topic.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	t, err := parse(url, "topics", o)
	if err != nil {
		return nil, err
	}
	client, err := pubsub.NewTopicAdminClient(ctx, t.client...)
	if err != nil {
		return nil, t.failed("open", err)
	}
	client.CallOptions = &pubsub.TopicAdminCallOptions{} // repeating is the caller's
	if t.name != "" {
		check, cancel := context.WithTimeout(ctx, t.timeout)
		defer cancel()
		_, err = client.GetTopic(check, &pubsubpb.GetTopicRequest{Topic: t.path(t.name)})
		if err = t.opened(err); err != nil {
			_ = client.Close()
			return nil, err
		}
	}
	s := &Sender{target: t, client: client}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if s.ctx.Err() != nil {
		return s.closedError()
	}
	if err := ctx.Err(); err != nil {
		return s.target.failed("send to", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	topic := s.target.name
	if topic == "" {
		topic = b.Topic
	}
	var refused []bus.Refused
	request := &pubsubpb.PublishRequest{Topic: s.target.path(topic)}
	size := 0
	for i := range b.Records {
		m, err := messageOf(&b.Records[i], s.target.ordering)
		n := 0
		if err == nil {
			if n = proto.Size(m) + 8; n > maxBytes {
				err = errkind.Errorf(errkind.Invalid, "the message has %d bytes, Pub/Sub takes %d", n, maxBytes)
			}
		}
		if err != nil {
			refused = append(refused, bus.Refused{Index: i, Err: err})
			continue
		}
		if len(request.Messages) == maxMessages || size+n > maxBytes {
			if err := s.publish(ctx, request); err != nil {
				return err
			}
			request.Messages, size = nil, 0
		}
		request.Messages, size = append(request.Messages, m), size+n
	}
	if len(request.Messages) > 0 {
		if err := s.publish(ctx, request); err != nil {
			return err
		}
	}
	return bus.Refuse(refused)
}

func (s *Sender) publish(ctx context.Context, request *pubsubpb.PublishRequest) error {
	ctx, cancel := context.WithTimeout(ctx, s.target.timeout)
	defer cancel()
	answer, err := s.client.Publish(ctx, request)
	switch {
	case err != nil && s.ctx.Err() != nil:
		return s.closedError()
	case err != nil:
		return s.target.failed("send to", err)
	case len(answer.MessageIds) != len(request.Messages):
		return errkind.Errorf(errkind.Transient, "send to %s: %d of %d messages were confirmed", s.target.endpoint, len(answer.MessageIds), len(request.Messages))
	}
	return nil
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.once.Do(func() {
		s.cancel()
		_ = s.client.Close()
	})
	return nil
}

func (s *Sender) closedError() error {
	return errkind.Errorf(errkind.Closed, "%s: the sender is closed", s.target.endpoint)
}
