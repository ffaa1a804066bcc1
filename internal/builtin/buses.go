package builtin

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/eventbridge"
	"github.com/freshet-io/freshet/bus/eventgrid"
	"github.com/freshet-io/freshet/bus/files"
	"github.com/freshet-io/freshet/bus/kinesis"
	"github.com/freshet-io/freshet/bus/mqtt"
	buspostgres "github.com/freshet-io/freshet/bus/postgres"
	"github.com/freshet-io/freshet/bus/pubsub"
	busrabbitmq "github.com/freshet-io/freshet/bus/rabbitmq"
	busredis "github.com/freshet-io/freshet/bus/redis"
	"github.com/freshet-io/freshet/bus/sqs"
	"github.com/freshet-io/freshet/bus/webhook"
	"github.com/freshet-io/freshet/errkind"
)

// BusOptions is what the program passes to whichever queue or bus is opened.
type BusOptions struct {
	Logger *slog.Logger
	// Env looks up the environment, for the secrets that a URL refers to.
	Env func(name string) (string, bool)
}

// buses lists queues and buses by the schemes of their URLs: receive is nil where
// messages cannot come from one, send where they cannot go there.
var buses = []struct {
	schemes []string
	receive func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error)
	send    func(ctx context.Context, url string, o BusOptions) (bus.Sender, error)
}{
	{
		[]string{"amqp", "amqps"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(busrabbitmq.OpenReceiver(ctx, url, bus.Limits{}, busrabbitmq.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(busrabbitmq.OpenSender(ctx, url, busrabbitmq.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"mqtt", "mqtts"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(mqtt.OpenReceiver(ctx, url, bus.Limits{}, mqtt.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(mqtt.OpenSender(ctx, url, mqtt.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"pubsub"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(pubsub.OpenReceiver(ctx, url, pubsub.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(pubsub.OpenSender(ctx, url, pubsub.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"sqs"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(sqs.OpenReceiver(ctx, url, sqs.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(sqs.OpenSender(ctx, url, sqs.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"kinesis"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(kinesis.OpenReceiver(ctx, url, kinesis.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(kinesis.OpenSender(ctx, url, kinesis.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"eventgrid"},
		func(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
			return receiver(eventgrid.OpenReceiver(ctx, url, eventgrid.Options{Logger: o.Logger, Env: o.Env}))
		},
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(eventgrid.OpenSender(ctx, url, eventgrid.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"eventbridge"}, nil,
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(eventbridge.OpenSender(ctx, url, eventbridge.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"redis", "rediss"}, nil,
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(busredis.OpenSender(ctx, url, busredis.Options{Env: o.Env}))
		},
	},
	{
		[]string{"postgres", "postgresql"}, nil,
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(buspostgres.OpenSender(ctx, url, buspostgres.Options{Env: o.Env}))
		},
	},
	{
		[]string{"file"}, nil,
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(files.OpenSender(ctx, url, files.Options{Logger: o.Logger, Env: o.Env}))
		},
	},
	{
		[]string{"http", "https"}, nil,
		func(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
			return sender(webhook.OpenSender(ctx, url, webhook.Options{Env: o.Env}))
		},
	},
}

// receiver and sender keep a nil adapter from becoming one that is not nil.
func receiver[R bus.Receiver](r R, err error) (bus.Receiver, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

func sender[S bus.Sender](s S, err error) (bus.Sender, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenReceiver opens what messages come from. A scheme that none come from is
// Config. No error holds a secret of the URL.
func OpenReceiver(ctx context.Context, url string, o BusOptions) (bus.Receiver, error) {
	var known []string
	for _, b := range buses {
		if b.receive == nil {
			continue
		}
		if hasScheme(url, b.schemes) {
			r, err := b.receive(ctx, url, o)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", RedactURL(url), err)
			}
			return r, nil
		}
		known = append(known, b.schemes...)
	}
	return nil, errkind.Errorf(errkind.Config, "open %s: messages can come from %s", RedactURL(url), strings.Join(known, ", "))
}

// OpenSender opens what results go to. A scheme that none go to is Config. No error
// holds a secret of the URL.
func OpenSender(ctx context.Context, url string, o BusOptions) (bus.Sender, error) {
	var known []string
	for _, b := range buses {
		if hasScheme(url, b.schemes) {
			s, err := b.send(ctx, url, o)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", RedactURL(url), err)
			}
			return s, nil
		}
		known = append(known, b.schemes...)
	}
	return nil, errkind.Errorf(errkind.Config, "open %s: results can go to %s", RedactURL(url), strings.Join(known, ", "))
}

func hasScheme(url string, schemes []string) bool {
	scheme, _, _ := strings.Cut(url, "://")
	for _, s := range schemes {
		if strings.TrimSuffix(scheme, "+tls") == s {
			return true
		}
	}
	return false
}
