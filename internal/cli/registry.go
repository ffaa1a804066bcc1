package cli

import (
	"fmt"
	"path/filepath"

	"github.com/freshet-io/freshet/internal/builtin"
)

// models opens what pipelines name; it is closed when the command ends.
func (a *app) models() *builtin.Models {
	if a.opened == nil {
		a.opened = &builtin.Models{Registry: a.registryURL(), Cache: filepath.Join(a.data, "model-cache"), Logger: a.log, Env: a.lookupEnv}
	}
	return a.opened
}

// registryURL is that of --models, or of the folder models in the data folder.
func (a *app) registryURL() string {
	if a.modelsURL != "" {
		return a.modelsURL
	}
	folder := filepath.Join(a.data, "models")
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	return "file://" + filepath.ToSlash(folder)
}

func (a *app) closeModels() error {
	if a.opened == nil {
		return nil
	}
	if err := a.opened.Close(); err != nil {
		return fmt.Errorf("close the registry of models: %w", err)
	}
	return nil
}
