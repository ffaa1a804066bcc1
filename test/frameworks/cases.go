package frameworks

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

//go:embed cases
var files embed.FS

// Case is a model, rows, and what its framework predicts for them.
type Case struct {
	// Name begins with the framework: "xgboost-binary".
	Name, About string
	// ONNX is the model as its exporter wrote it.
	ONNX []byte
	// Input is Rows rows for the model's only input, float32, NaN among them in some cases.
	Input inference.Tensor
	// Outputs are the predictions, [Rows, columns] of float32, by the output's name. Other outputs of
	// the model, the labels, are not judged.
	Outputs map[string]inference.Tensor
	// Background is the rows that the model was trained on; explanations take covers from it.
	Background inference.Tensor
	// Explainer says who explained the first rows; empty for none.
	Explainer string
	// Explained has, for the last class of each explained row, one Shapley value a feature, then the base value.
	Explained []float64
}

// File writes the model to a temporary folder and returns its path.
func (c *Case) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), c.Name+".onnx")
	if err := os.WriteFile(path, c.ONNX, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Cases reads all cases, in the order of their names.
func Cases(t testing.TB) []Case {
	t.Helper()
	var index map[string]struct {
		About, Explainer    string
		Missing, Complement bool
		Outputs             map[string]int
	}
	if err := json.Unmarshal(read(t, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	var out []Case
	for _, name := range slices.Sorted(maps.Keys(index)) {
		e := index[name]
		c := Case{
			Name: name, About: e.About, Explainer: e.Explainer, ONNX: read(t, name+".onnx"),
			Input: table("X", rows(Rows, 0, e.Missing), Features), Background: table("X", rows(Train, Rows, e.Missing), Features),
			Outputs: map[string]inference.Tensor{},
		}
		for output, columns := range e.Outputs {
			var y []float32
			for b := unzip(t, fmt.Sprintf("%s.%s.f32.gz", name, output)); len(b) > 0; b = b[4:] {
				v := math.Float32frombits(binary.LittleEndian.Uint32(b))
				if e.Complement {
					y = append(y, 1-v)
				}
				y = append(y, v)
			}
			if e.Complement {
				columns++
			}
			c.Outputs[output] = table(output, y, columns)
		}
		if e.Explainer != "" {
			for b := unzip(t, name+".explained.f64.gz"); len(b) > 0; b = b[8:] {
				c.Explained = append(c.Explained, math.Float64frombits(binary.LittleEndian.Uint64(b)))
			}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		t.Fatal("no cases")
	}
	return out
}

func table(name string, x []float32, columns int) inference.Tensor {
	return inference.Tensor{Name: name, Type: inference.Float32, Shape: []int{len(x) / columns, columns}, F32: x}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := files.ReadFile("cases/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(read(t, name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return data
}
