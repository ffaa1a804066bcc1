package sqs

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/freshet-io/freshet/bus"
	ours "github.com/freshet-io/freshet/bus/internal/aws"
	"github.com/freshet-io/freshet/errkind"
)

// Options is what the program passes.
type Options struct {
	Logger *slog.Logger
	// Env looks up the environment; nil means an empty one. Amazon's own client
	// looks at the process's.
	Env    func(string) (string, bool)
	Limits bus.Limits
}

const (
	// batchSize is the service's limit of entries a call.
	batchSize = 10
	// defaultMessageBytes is what a queue takes that does not say.
	defaultMessageBytes = 256 << 10
)

// queue is a queue that was found.
type queue struct {
	*ours.Target
	client *sqs.Client
	url    *string
	fifo   bool
	// messageBytes bounds a message, and a call too, which is below the service's limit.
	messageBytes int
}

// open finds the queue; own takes the caller's options of the URL.
func open(ctx context.Context, raw string, o Options, own func(*ours.Target) error) (*queue, error) {
	t, err := ours.Parse(raw, o.Env)
	if err != nil {
		return nil, err
	}
	account := t.Option("account", "")
	if err := own(t); err != nil {
		return nil, err
	}
	if err := t.Done(); err != nil {
		return nil, err
	}
	if t.Path == "" || strings.Contains(t.Path, "/") {
		return nil, errkind.Errorf(errkind.Config, "%s: expected sqs://REGION/QUEUE", t)
	}
	c, err := t.Config(ctx)
	if err != nil {
		return nil, err
	}
	q := &queue{Target: t, client: sqs.NewFromConfig(c), fifo: strings.HasSuffix(t.Path, ".fifo"), messageBytes: defaultMessageBytes}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	find := &sqs.GetQueueUrlInput{QueueName: &t.Path}
	if account != "" {
		find.QueueOwnerAWSAccountId = &account
	}
	found, err := q.client.GetQueueUrl(ctx, find)
	if err != nil {
		return nil, t.Failed("open", err)
	}
	q.url = found.QueueUrl
	about, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameMaximumMessageSize},
	})
	switch {
	case errkind.Is(t.Failed("open", err), errkind.Config):
		// Whoever may use a queue need not be allowed to ask about it.
	case err != nil:
		return nil, t.Failed("open", err)
	default:
		if n, err := strconv.Atoi(about.Attributes[string(types.QueueAttributeNameMaximumMessageSize)]); err == nil && n > 0 {
			q.messageBytes = n
		}
	}
	return q, nil
}

// verdict is what a batch call says about one entry: lost for one that is no
// longer ours, or an error.
func (q *queue) verdict(verb string, f *types.BatchResultErrorEntry) (lost bool, err error) {
	code := aws.ToString(f.Code)
	kind := ours.KindOfCode(code)
	switch {
	case kind == errkind.Unknown && f.SenderFault:
		return true, nil
	case kind == errkind.Unknown:
		kind = errkind.Transient
	}
	return false, errkind.Errorf(kind, "%s %s: %s: %s", verb, q.Target, code, aws.ToString(f.Message))
}
