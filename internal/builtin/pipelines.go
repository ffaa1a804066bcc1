package builtin

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/pipeline"
	"github.com/freshet-io/freshet/state"
)

// PipelineDeps gives a pipeline this program's adapters. Secrets of servers are
// taken from the environment. State that does not fit into memory lies in a
// folder below dir, which is emptied first.
func PipelineDeps(b *broker.Broker, log *slog.Logger, dir string) pipeline.Deps {
	return pipeline.Deps{
		Broker: b, Logger: log, OpenObjects: OpenObjects, OpenLookup: openTable,
		OpenReceiver: func(ctx context.Context, url string) (bus.Receiver, error) {
			return OpenReceiver(ctx, url, BusOptions{Logger: log, Env: os.LookupEnv})
		},
		OpenSender: func(ctx context.Context, url string) (bus.Sender, error) {
			return OpenSender(ctx, url, BusOptions{Logger: log, Env: os.LookupEnv})
		},
		OpenStore: func(kind, name string) (*state.Store, error) {
			return OpenStore(kind, filepath.Join(dir, name), StoreOptions{Logger: log})
		},
	}
}

func openTable(_ context.Context, t *pipeline.Table) (lookup.Driver, error) {
	o := lookup.Options{From: t.From, Key: t.Key, Time: t.Time, Timeout: t.Timeout}
	for _, f := range t.Fields {
		o.Fields = append(o.Fields, lookup.Field{Name: f.Name, Kind: f.Kind})
	}
	return OpenLookup(t.URL, o, os.Getenv)
}
