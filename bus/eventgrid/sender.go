package eventgrid

import (
	"context"
	"net/url"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// maxBytes is the service's limit of an event and of a call, with room for commas.
const maxBytes = 1_000_000 - 1024

// Sender is a bus.Sender to one topic.
type Sender struct {
	*namespace
	path   string
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
}

// OpenSender finds a topic.
func OpenSender(ctx context.Context, raw string, o Options) (*Sender, error) {
	n, names, err := open(ctx, raw, o, 1, func(*endpoint.Endpoint) error { return nil })
	if err != nil {
		return nil, err
	}
	s := &Sender{namespace: n, path: "/topics/" + url.PathEscape(names[0]) + ":publish"}
	if err := asked(s.publish(ctx, []byte("[]"))); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if s.ctx.Err() != nil {
		return s.closed()
	}
	if err := ctx.Err(); err != nil {
		return errkind.Errorf(errkind.Of(err), "send to %s: %w", s, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var refused []bus.Refused
	from, body := 0, []byte("[")
	flush := func(to int) error {
		if len(body) == 1 {
			return nil
		}
		body[len(body)-1] = ']'
		bad, err := s.send(ctx, b.Records, from, to, body)
		refused = append(refused, bad...)
		body = []byte("[") // the connection may still read the old one
		return err
	}
	for i := range b.Records {
		before := len(body)
		body = append(envelope.AppendStructured(body, &b.Records[i]), ',')
		if len(body) > maxBytes && before > 1 {
			next := append([]byte("["), body[before:]...)
			body = body[:before]
			if err := flush(i); err != nil {
				return s.ended(err)
			}
			from, body = i, next
		}
		if len(body) > maxBytes {
			refused = append(refused, bus.Refused{Index: i, Err: errkind.Errorf(errkind.Invalid, "the event has %d bytes, Event Grid takes %d", len(body), maxBytes)})
			from, body = i+1, body[:1]
		}
	}
	if err := flush(len(b.Records)); err != nil {
		return s.ended(err)
	}
	return bus.Refuse(refused)
}

// send publishes records from to to, which body holds. Where the service calls
// them invalid it finds out which are.
func (s *Sender) send(ctx context.Context, recs []event.Record, from, to int, body []byte) (refused []bus.Refused, err error) {
	err = s.publish(ctx, body)
	if !errkind.Is(err, errkind.Invalid) {
		return nil, err
	}
	for i := from; i < to; i++ {
		err := s.publish(ctx, append(envelope.AppendStructured([]byte("["), &recs[i]), ']'))
		switch {
		case errkind.Is(err, errkind.Invalid):
			refused = append(refused, bus.Refused{Index: i, Err: err})
		case err != nil:
			return refused, err
		}
	}
	return refused, nil
}

func (s *Sender) publish(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.call(ctx, "send to", s.path, nil, event.TypeBatch+"; charset=utf-8", body)
	return err
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.cancel()
	s.client.CloseIdleConnections()
	return nil
}

func (s *Sender) ended(err error) error {
	if s.ctx.Err() != nil {
		return s.closed()
	}
	return err
}

func (s *Sender) closed() error { return errkind.Errorf(errkind.Closed, "%s is closed", s) }
