package model

import "github.com/freshet-io/freshet/inference"

// ReadSample reads rows for a model's inputs from a CSV, JSON lines or Parquet
// file, as background samples are registered. names are those of the only input's
// values, in order; nil where the inputs have names of their own.
func ReadSample(path string, inputs []inference.Signature, names []string) ([]inference.Tensor, error) {
	return readBackground(path, &Version{Inputs: inputs, FeatureNames: names})
}
