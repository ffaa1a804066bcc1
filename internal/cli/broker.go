package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/console"
	"github.com/freshet-io/freshet/internal/builtin"
)

type brokerFlags struct {
	listenFlags
	nats, mqtt, leafNodes string
}

func (a *app) brokerCommand() *cobra.Command {
	var f brokerFlags
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Serve topics over HTTP, or as a NATS server, without a pipeline",
		Long: `Serve the topics of the data folder over HTTP until interrupted, without a pipeline:
POST /topics/TOPIC stores events, GET /topics/TOPIC streams them. While it runs, the
other commands on the same folder go through it. Topics are made before, with
freshet topics create. With --broker, the topics are those of another broker.

With --nats this process is a NATS server with JetStream, and topics lie on it, in the
folder nats of the data folder: other processes use them with --broker nats://ADDRESS,
and any NATS client can. --mqtt takes MQTT 3.1.1 clients, --leaf-nodes other NATS servers.

` + listenHelp + `
The token and the certificate are those of --nats, --mqtt and --leaf-nodes too.`,
		Example: `  freshet broker --data /var/lib/freshet --listen 127.0.0.1:9000
  curl -d '{"id":1}' -H 'Content-Type: application/json' 'http://127.0.0.1:9000/topics/clicks?id=id'
  freshet broker --nats 127.0.0.1:4222 --mqtt 127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.broker(cmd.Context(), f) },
	}
	p := cmd.Flags()
	f.add(p)
	p.StringVar(&f.nats, "nats", "", "be a NATS server with JetStream at this address")
	p.StringVar(&f.mqtt, "mqtt", "", "with --nats: take MQTT clients at this address")
	p.StringVar(&f.leafNodes, "leaf-nodes", "", "with --nats: take leaf nodes at this address")
	return cmd
}

func (a *app) broker(ctx context.Context, f brokerFlags) (err error) {
	switch {
	case f.address == "off" && f.nats == "":
		return usagef("--listen off: a broker without an address serves nobody")
	case f.nats == "" && f.mqtt != "":
		return usagef("--mqtt %s: MQTT is served beside NATS; give --nats too", f.mqtt)
	case f.nats == "" && f.leafNodes != "":
		return usagef("--leaf-nodes %s: leaf nodes are served beside NATS; give --nats too", f.leafNodes)
	case f.nats != "" && a.brokerURL != "":
		return usagef("--nats %s: the topics would lie here and at --broker (or FRESHET_BROKER); give one of them", f.nats)
	}
	l, err := a.listen(ctx, f.listenFlags)
	if err != nil {
		return err
	}
	if f.nats != "" {
		stop, err := a.startNATS(f)
		if err != nil {
			return errors.Join(err, l.close())
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	b, err := a.ownBroker(ctx, l.url())
	if err != nil {
		return errors.Join(err, l.close())
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	a.log.Info("listening", "address", cmp.Or(l.url(), f.nats), "broker", a.where())
	o := a.consoleOptions(b)
	library := a.lineageLibrary(b, nil)
	defer func() { err = errors.Join(err, library.Close()) }()
	o.Lineage = library.Records
	return l.serve(ctx, o)
}

// startNATS makes this process a NATS server, and it the broker.
func (a *app) startNATS(f brokerFlags) (stop func() error, err error) {
	if err := a.checkData(); err != nil {
		return nil, err
	}
	o := builtin.NATSOptions{Dir: filepath.Join(a.data, "nats"), Address: f.nats, MQTT: f.mqtt, LeafNodes: f.leafNodes, Logger: a.log}
	o.Token, _ = a.lookupEnv("FRESHET_TOKEN")
	options := url.Values{}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, usagef("--tls-cert %s, --tls-key %s: %w", f.cert, f.key, err)
		}
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		// This process trusts its own certificate, whatever name it is reached by.
		options.Set("tls_ca", f.cert)
		if names := cert.Leaf.DNSNames; len(names) > 0 {
			options.Set("tls_server_name", strings.Replace(names[0], "*", "freshet", 1))
		}
	}
	if o.Token != "" {
		options.Set("token_env", "FRESHET_TOKEN")
	}
	s, err := builtin.StartNATS(o)
	if err != nil {
		return nil, err
	}
	a.brokerURL = s.URL()
	if len(options) > 0 {
		a.brokerURL += "/?" + options.Encode()
	}
	return s.Close, nil
}

func (a *app) consoleOptions(b *broker.Broker) console.Options {
	return console.Options{Broker: b, Logger: a.log}
}
