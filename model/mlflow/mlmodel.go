package mlflow

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

// maxMLmodel bounds an MLmodel file in bytes.
const maxMLmodel = 4 << 20

// mlmodel is an MLmodel file, as far as it is read.
type mlmodel struct {
	Flavors map[string]struct {
		Data string `yaml:"data"`
	} `yaml:"flavors"`
	Signature struct {
		Inputs  string `yaml:"inputs"`
		Outputs string `yaml:"outputs"`
	} `yaml:"signature"`
	Size int64 `yaml:"model_size_bytes"`
}

// spec is an input or output of MLflow's signatures: a tensor or a column.
type spec struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Tensor struct {
		DType string `json:"dtype"`
		Shape []int  `json:"shape"`
	} `json:"tensor-spec"`
}

var types = map[string]inference.DataType{
	"float32": inference.Float32, "float64": inference.Float64, "int64": inference.Int64, "int32": inference.Int32, "bool": inference.Bool, "str": inference.String,
	"float": inference.Float32, "double": inference.Float64, "long": inference.Int64, "integer": inference.Int32, "boolean": inference.Bool, "string": inference.String,
}

// describe reads a version's MLmodel. path is where its model file lies among its artifacts.
func (s *Source) describe(ctx context.Context, m *modelVersion) (v *model.Version, path string, err error) {
	v = m.plain()
	body, err := s.artifact(ctx, v, "MLmodel")
	var b []byte
	if err == nil {
		defer body.Close()
		if b, err = io.ReadAll(io.LimitReader(body, maxMLmodel+1)); err != nil {
			err = s.c.network(err)
		}
	}
	if err == nil {
		path, err = readMLmodel(b, v)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read version %s of model %s: %w", m.Version, m.Name, err)
	}
	return v, path, nil
}

// readMLmodel fills in what an MLmodel file says of a version.
func readMLmodel(b []byte, v *model.Version) (path string, err error) {
	var file mlmodel
	if len(b) > maxMLmodel {
		return "", errkind.Errorf(errkind.Corrupt, "MLmodel has more than %d bytes", maxMLmodel)
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		return "", errkind.Errorf(errkind.Corrupt, "MLmodel: %w", err)
	}
	flavor, ok := file.Flavors["onnx"]
	if !ok {
		var flavors []string
		for name := range file.Flavors {
			flavors = append(flavors, name)
		}
		slices.Sort(flavors)
		return "", errkind.Errorf(errkind.Unsupported, "it has the flavors %s and no onnx: log it with mlflow.onnx.log_model", strings.Join(flavors, ", "))
	}
	path = flavor.Data
	if path == "" || !strings.HasSuffix(strings.ToLower(path), ".onnx") || slices.Contains(strings.Split(path, "/"), "..") {
		return "", errkind.Errorf(errkind.Unsupported, "MLmodel names the model file %q, expected one *.onnx file", path)
	}
	v.File, v.Format, v.Size = "model.onnx", model.FormatONNX, file.Size
	if v.Inputs, err = signatures(file.Signature.Inputs); err == nil {
		v.Outputs, err = signatures(file.Signature.Outputs)
	}
	if err != nil {
		return "", errkind.Errorf(errkind.Corrupt, "MLmodel: signature: %w", err)
	}
	return path, nil
}

// signatures reads MLflow's list of tensors or columns; what it cannot say is missing.
func signatures(text string) (all []inference.Signature, err error) {
	if text == "" || text == "null" {
		return nil, nil
	}
	var specs []spec
	if err := json.Unmarshal([]byte(text), &specs); err != nil {
		return nil, err
	}
	for i, s := range specs {
		sig := inference.Signature{Name: s.Name, Type: types[s.Type], Shape: []int{1}}
		if s.Type == "tensor" {
			sig.Type, sig.Shape = types[s.Tensor.DType], []int{}
			if len(s.Tensor.Shape) > 0 {
				sig.Shape = s.Tensor.Shape[1:]
			}
		}
		if sig.Name == "" {
			sig.Name = strconv.Itoa(i)
		}
		if sig.Type == 0 {
			return nil, nil // of another kind: the file will say
		}
		all = append(all, sig)
	}
	return all, nil
}

// take makes the signature that of the loaded file. Columns of MLmodel are the
// names of the values of its only input, where their number is right.
func take(v *model.Version, meta inference.Metadata) {
	columns := v.Inputs
	v.Inputs, v.Outputs, v.FeatureNames = meta.Inputs, meta.Outputs, meta.FeatureNames
	if len(v.FeatureNames) > 0 || len(meta.Inputs) != 1 || len(columns) < 2 || len(meta.Inputs[0].Shape) != 1 || meta.Inputs[0].Shape[0] != len(columns) {
		return
	}
	for _, c := range columns {
		v.FeatureNames = append(v.FeatureNames, c.Name)
	}
}
