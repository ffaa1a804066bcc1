package model

import (
	"time"

	"github.com/freshet-io/freshet/inference"
)

// Version is one version of a model, as a registry describes it (version.json).
// It never changes; stages are in State.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is the SHA-256 of the model file in hexadecimal; that of URL for a remote model.
	Digest string `json:"digest"`
	// File is the model file's name in the version's folder; empty for a remote model.
	File string `json:"file,omitempty"`
	// URL is where a remote model is served; empty for a file. It holds no secrets.
	URL    string `json:"url,omitempty"`
	Format string `json:"format"` // onnx, rule, remote
	Size   int64  `json:"size"`
	// Inputs and Outputs are the signature.
	Inputs  []inference.Signature `json:"inputs"`
	Outputs []inference.Signature `json:"outputs"`
	// FeatureNames are the names of the only input's values, in order, where known.
	FeatureNames []string             `json:"feature_names,omitempty"`
	Complexity   inference.Complexity `json:"complexity"`
	Owner        string               `json:"owner,omitempty"`
	// Data refers to the training data: a URL, a path, a query with a time.
	Data string `json:"data,omitempty"`
	// Metrics are the evaluation's, as the trainer gave them.
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Notes   string             `json:"notes,omitempty"`
	// Background and Golden are the names of files in the folder with the sample
	// of rows for explanations and the rows with known answers; empty without.
	Background string    `json:"background,omitempty"`
	Golden     string    `json:"golden,omitempty"`
	Created    time.Time `json:"created"`
}
