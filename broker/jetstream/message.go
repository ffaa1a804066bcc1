package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/errkind"
)

// message is one of a stream's.
type message struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Data []byte    `json:"data"`
}

// errNoMessage says that a stream has no such message.
var errNoMessage = errkind.New(errkind.NotFound, "there is no such message")

// lastOf asks for the last message on a subject, and nextFrom for the first one at
// or behind a sequence. The stream's leader answers: what its followers
// have may be a moment old.
func (d *Driver) lastOf(ctx context.Context, stream, subject string) (message, error) {
	return d.message(ctx, stream, map[string]any{"last_by_subj": subject})
}

func (d *Driver) nextFrom(ctx context.Context, stream string, seq uint64) (message, error) {
	return d.message(ctx, stream, map[string]any{"seq": seq, "next_by_subj": ">"})
}

func (d *Driver) message(ctx context.Context, stream string, request map[string]any) (message, error) {
	b, err := json.Marshal(request)
	if err != nil {
		return message{}, err
	}
	answer, err := d.nc.RequestWithContext(ctx, d.api+"STREAM.MSG.GET."+stream, b)
	if err != nil {
		return message{}, err
	}
	var a struct {
		Error   *jetstream.APIError `json:"error"`
		Message *message            `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return message{}, errkind.Errorf(errkind.Transient, "the answer cannot be read: %w", err)
	}
	switch {
	case a.Error != nil && a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return message{}, errNoMessage
	case a.Error != nil:
		return message{}, a.Error
	case a.Message == nil:
		return message{}, errors.New("an answer without a message")
	}
	return *a.Message, nil
}
