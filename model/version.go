package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/state"
)

// Names that stand for a version.
const (
	// ChampionAlias is the version that State.Champion names.
	ChampionAlias = "champion"
	// LatestAlias is the version that was added last.
	LatestAlias = "latest"
	// PreviousAlias is the latest of State.Former.
	PreviousAlias = "previous"
)

// Formats of a version.
const (
	FormatONNX   = "onnx"
	FormatRule   = "rule"
	FormatRemote = "remote"
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
	Background string `json:"background,omitempty"`
	Golden     string `json:"golden,omitempty"`
	// Sums are the SHA-256 of the folder's files, by their names.
	Sums    map[string]string `json:"sums,omitempty"`
	Created time.Time         `json:"created"`
}

type (
	plainVersion  Version
	signatureJSON struct {
		Name   string   `json:"name"`
		Type   string   `json:"type"`
		Shape  []int    `json:"shape"`
		Labels []string `json:"labels,omitempty"`
	}
	complexityJSON struct {
		Bytes      int64 `json:"bytes,omitempty"`
		Nodes      int   `json:"nodes,omitempty"`
		Trees      int   `json:"trees,omitempty"`
		TreeNodes  int   `json:"tree_nodes,omitempty"`
		Depth      int   `json:"depth,omitempty"`
		Parameters int64 `json:"parameters,omitempty"`
	}
	versionJSON struct {
		*plainVersion
		Inputs     []signatureJSON `json:"inputs"`
		Outputs    []signatureJSON `json:"outputs"`
		Complexity complexityJSON  `json:"complexity"`
	}
)

// MarshalJSON writes version.json, with types of elements by their names.
func (v Version) MarshalJSON() ([]byte, error) {
	return json.Marshal(versionJSON{(*plainVersion)(&v), signaturesJSON(v.Inputs), signaturesJSON(v.Outputs), complexityJSON(v.Complexity)})
}

// UnmarshalJSON reads version.json.
func (v *Version) UnmarshalJSON(b []byte) error {
	w := versionJSON{plainVersion: &plainVersion{}}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*v = Version(*w.plainVersion)
	v.Complexity = inference.Complexity(w.Complexity)
	var err error
	if v.Inputs, err = signatures(w.Inputs); err != nil {
		return err
	}
	v.Outputs, err = signatures(w.Outputs)
	return err
}

func signaturesJSON(all []inference.Signature) []signatureJSON {
	out := make([]signatureJSON, len(all))
	for i, s := range all {
		out[i] = signatureJSON{s.Name, s.Type.String(), append([]int{}, s.Shape...), s.Labels}
	}
	return out
}

func signatures(all []signatureJSON) ([]inference.Signature, error) {
	var out []inference.Signature
	for _, s := range all {
		t := TypeOf(s.Type)
		if t == 0 {
			return nil, fmt.Errorf("signature of %q: unknown type %q", s.Name, s.Type)
		}
		out = append(out, inference.Signature{Name: s.Name, Type: t, Shape: s.Shape, Labels: s.Labels})
	}
	return out, nil
}

// TypeOf is the element type of that name; 0 for none.
func TypeOf(name string) inference.DataType {
	for t := inference.Float32; t <= inference.String; t++ {
		if t.String() == name {
			return t
		}
	}
	return 0
}

// SignatureText is a signature for people: "features float32[9] → label int64, probabilities float32[2]".
func SignatureText(in, out []inference.Signature) string {
	side := func(all []inference.Signature) string {
		if len(all) > 4 {
			all = append(slices.Clone(all[:3]), inference.Signature{Name: fmt.Sprintf("%d more", len(all)-3)})
		}
		texts := make([]string, len(all))
		for i, s := range all {
			texts[i] = s.Name
			if s.Type != 0 {
				texts[i] += " " + rowText(s)
			}
		}
		return strings.Join(texts, ", ")
	}
	return side(in) + " → " + side(out)
}

// rowText is the type and shape of one row; a single value has no shape.
func rowText(s inference.Signature) string {
	if len(s.Shape) == 0 || len(s.Shape) == 1 && s.Shape[0] == 1 {
		return s.Type.String()
	}
	sizes := make([]string, len(s.Shape))
	for i, n := range s.Shape {
		if sizes[i] = strconv.Itoa(n); n < 0 {
			sizes[i] = "?"
		}
	}
	return s.Type.String() + "[" + strings.Join(sizes, "×") + "]"
}

// CheckName returns an error of kind Config for a name that no model or version can have.
func CheckName(what, name string) error {
	if strings.Contains(name, "/") || strings.Contains(name, "..") || len(name) > 100 || state.CheckName(name) != nil {
		return errkind.Errorf(errkind.Config, "the %s %.100q: it takes up to 100 letters, digits, '_', and behind the first character '-' and '.'", what, name)
	}
	return nil
}

func checkVersionName(version string) error {
	if isAlias(version) {
		return errkind.Errorf(errkind.Config, "the version %q: the word stands for a version already; choose another name", version)
	}
	return CheckName("version", version)
}

func isAlias(version string) bool {
	return version == ChampionAlias || version == LatestAlias || version == PreviousAlias
}

// compareVersions orders versions by the time they were added, then by name,
// numbers by their values.
func compareVersions(a, b *Version) int {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	x, errX := strconv.Atoi(a.Version)
	y, errY := strconv.Atoi(b.Version)
	if errX == nil && errY == nil {
		return x - y
	}
	return strings.Compare(a.Version, b.Version)
}
