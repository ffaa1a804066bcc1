package builtin

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/jetstream"
	"github.com/freshet-io/freshet/broker/jetstream/server"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/kafka"
	"github.com/freshet-io/freshet/broker/postgres"
	"github.com/freshet-io/freshet/broker/pulsar"
	"github.com/freshet-io/freshet/broker/rabbitmq"
	streams "github.com/freshet-io/freshet/broker/redis"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/internal/spell"
)

// BrokerOptions is what the program passes to whichever broker is opened.
type BrokerOptions struct {
	Logger *slog.Logger
	// Env looks up the environment, for the secrets that a URL refers to.
	Env func(name string) (string, bool)
	// Address is where this process serves HTTP, for others to find; it may be empty.
	Address string
	// SyncEvery relaxes the journal: what is acknowledged is on disk that much
	// later at most. 0 syncs before each acknowledgement.
	SyncEvery time.Duration
}

// brokers lists the brokers by the scheme of their URL.
var brokers = []struct {
	scheme string
	open   func(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error)
}{
	{"journal", openJournal},
	{"kafka", func(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
		return driver(kafka.Open(ctx, url, kafka.Options{Logger: o.Logger, Env: o.Env}))
	}},
	{"nats", func(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
		return driver(jetstream.Open(ctx, url, jetstream.Options{Logger: o.Logger, Env: o.Env}))
	}},
	{"redis", openStreams},
	{"rediss", openStreams},
	{"pulsar", func(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
		return driver(pulsar.Open(ctx, url, pulsar.Options{Logger: o.Logger, Env: o.Env}))
	}},
	{"rabbitmq-stream", func(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
		return driver(rabbitmq.Open(ctx, url, rabbitmq.Options{Logger: o.Logger, Env: o.Env}))
	}},
	{"postgres", openRecords},
	{"postgresql", openRecords},
}

func openStreams(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
	return driver(streams.Open(ctx, url, streams.Options{Logger: o.Logger, Env: o.Env}))
}

func openRecords(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
	return driver(postgres.Open(ctx, url, postgres.Options{Logger: o.Logger, Env: o.Env}))
}

// driver keeps a nil adapter from becoming a driver that is not nil.
func driver[D broker.Driver](d D, err error) (broker.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// OpenBroker opens the broker that url names: journal:DIR, the embedded journal
// in a folder, or a server such as kafka://HOST:PORT. Another scheme is Config. No
// error holds a secret of the URL. One that is Transient may pass: nobody listens
// there yet.
func OpenBroker(ctx context.Context, url string, o BrokerOptions) (broker.Driver, error) {
	scheme, _, _ := strings.Cut(url, ":")
	base := strings.TrimSuffix(strings.TrimSuffix(scheme, "+tls"), "+ssl")
	var known []string
	for _, b := range brokers {
		if b.scheme != base {
			known = append(known, b.scheme)
			continue
		}
		d, err := b.open(ctx, url, o)
		if err != nil {
			return nil, fmt.Errorf("open broker %s: %w", RedactURL(url), err)
		}
		return d, nil
	}
	hint := ""
	if near := spell.Nearest(base, known); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	return nil, errkind.Errorf(errkind.Config, "open broker %s: this program has no broker %q; it has %s%s", RedactURL(url), scheme, strings.Join(known, ", "), hint)
}

// RedactURL is a URL as logs and messages may show it: without user, password and options.
func RedactURL(url string) string { return endpoint.Redact(url) }

// maxRecordBytes is the largest record of the journal. It is far above what
// pipelines take as a payload, so that an event that is too large for one can be
// stored and become a dead letter there.
const maxRecordBytes = 24 << 20

func openJournal(_ context.Context, url string, o BrokerOptions) (broker.Driver, error) {
	j, err := journal.Open(strings.TrimPrefix(url, "journal:"), journal.Options{Logger: o.Logger, Address: o.Address, Sync: journal.SyncEvery(o.SyncEvery), MaxRecordBytes: maxRecordBytes})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Owner is the process that holds a journal's folder.
type Owner = journal.Owner

// FindOwner says which process holds the journal in dir, if one does.
func FindOwner(dir string) (Owner, bool, error) { return journal.FindOwner(dir) }

// JournalReport is what CheckJournal found.
type JournalReport = journal.Report

// CheckJournal verifies every frame of the journal in dir and writes nothing.
func CheckJournal(dir string) (JournalReport, error) { return journal.Check(dir) }

// NATSOptions says what StartNATS serves.
type NATSOptions = server.Options

// StartNATS runs a NATS server in this process until it is closed.
func StartNATS(o NATSOptions) (*server.Server, error) { return server.Start(o) }
