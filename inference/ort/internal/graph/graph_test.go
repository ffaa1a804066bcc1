package graph

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func model(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "onnx", "testdata", "models", name+".onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestZipMapIsLeftOut(t *testing.T) {
	for _, name := range []string{"logistic-zipmap-strings", "random-forest-zipmap", "lightgbm-zipmap"} {
		data := model(t, name)
		m, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte("ZipMap")) || bytes.Contains(m.Bytes, []byte("\x22\x06ZipMap")) {
			t.Errorf("%s: ZipMap is there, or was not", name)
		}
		again, err := Read(m.Bytes)
		if err != nil || !bytes.Equal(again.Bytes, m.Bytes) {
			t.Errorf("%s: %v", name, err)
		}
		for i, o := range again.Outputs {
			if o.Name != m.Outputs[i].Name || len(m.Labels[o.Name]) > 0 && o.Type != inference.Float32 {
				t.Errorf("%s: output %+v", name, o)
			}
		}
	}
}

func TestFilesWithoutZipMapStayAsTheyAre(t *testing.T) {
	data := model(t, "hist-boosting")
	m, err := Read(data)
	if err != nil || &m.Bytes[0] != &data[0] {
		t.Errorf("%v", err)
	}
	if !slices.Equal(m.Labels["probabilities"], []string{"0", "1"}) {
		t.Errorf("%v", m.Labels)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"logistic-zipmap", "mlp-matmul-softmax", "linear-regression"} {
		f.Add(model(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(data)
		if err != nil {
			if k := errkind.Of(err); k != errkind.Invalid && k != errkind.Unsupported {
				t.Fatalf("%v: %v", k, err)
			}
			return
		}
		again, err := Read(m.Bytes)
		if err != nil {
			t.Fatalf("without ZipMap: %v", err)
		}
		if len(again.Outputs) != len(m.Outputs) || len(again.Inputs) != len(m.Inputs) {
			t.Fatalf("without ZipMap: %+v and %+v", m, again)
		}
	})
}
