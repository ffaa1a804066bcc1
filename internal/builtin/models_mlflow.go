package builtin

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/model/mlflow"
	"github.com/freshet-io/freshet/pipeline"
)

// mlflow opens MLflow's registry.
func (m *Models) mlflow(ctx context.Context, url string) (*mlflow.Source, error) {
	s, err := mlflow.Open(ctx, url, mlflow.Options{
		Cache: m.Cache, Logger: m.Logger, Env: m.Env,
		Open: func(path string, _ *model.Version) (inference.Driver, error) {
			return m.file(ctx, path, &pipeline.ModelRef{Model: path, Kind: pipeline.ModelFile})
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open the registry of models: %w", err)
	}
	m.closers = append(m.closers, s.Close)
	return s, nil
}
