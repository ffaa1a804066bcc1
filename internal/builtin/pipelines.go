package builtin

import (
	"log/slog"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/pipeline"
)

// PipelineDeps gives a pipeline this program's adapters.
func PipelineDeps(b *broker.Broker, log *slog.Logger) pipeline.Deps {
	return pipeline.Deps{Broker: b, Logger: log, OpenObjects: OpenObjects}
}
