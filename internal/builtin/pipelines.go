package builtin

import (
	"context"
	"log/slog"
	"os"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/pipeline"
)

// PipelineDeps gives a pipeline this program's adapters. Secrets of servers are
// taken from the environment.
func PipelineDeps(b *broker.Broker, log *slog.Logger) pipeline.Deps {
	return pipeline.Deps{Broker: b, Logger: log, OpenObjects: OpenObjects, OpenLookup: openTable}
}

func openTable(_ context.Context, t *pipeline.Table) (lookup.Driver, error) {
	o := lookup.Options{From: t.From, Key: t.Key, Time: t.Time, Timeout: t.Timeout}
	for _, f := range t.Fields {
		o.Fields = append(o.Fields, lookup.Field{Name: f.Name, Kind: f.Kind})
	}
	return OpenLookup(t.URL, o, os.Getenv)
}
