package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/console"
)

func (a *app) brokerCommand() *cobra.Command {
	var l listenFlags
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Serve the journal of the data folder over HTTP, without a pipeline",
		Long: `Serve the topics of the data folder over HTTP until interrupted, without a pipeline:
POST /topics/TOPIC stores events, GET /topics/TOPIC streams them. While it runs, the
other commands on the same folder go through it. Topics are made before, with
freshet topics create.

` + listenHelp,
		Example: `  freshet broker --data /var/lib/freshet --listen 127.0.0.1:9000
  curl -d '{"id":1}' -H 'Content-Type: application/json' 'http://127.0.0.1:9000/topics/clicks?id=id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.broker(cmd.Context(), l) },
	}
	l.add(cmd.Flags())
	return cmd
}

func (a *app) broker(ctx context.Context, f listenFlags) (err error) {
	if f.address == "off" {
		return usagef("--listen off: a broker without an address serves nobody")
	}
	l, err := a.listen(ctx, f)
	if err != nil {
		return err
	}
	b, err := a.ownBroker(ctx, l.url())
	if err != nil {
		return errors.Join(err, l.close())
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	a.log.Info("listening", "address", l.url(), "broker", a.where())
	return l.serve(ctx, a.consoleOptions(b))
}

func (a *app) consoleOptions(b *broker.Broker) console.Options {
	return console.Options{Broker: b, Logger: a.log}
}
