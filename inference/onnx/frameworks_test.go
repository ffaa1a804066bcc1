package onnx

import (
	"context"
	"math"
	"testing"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/test/frameworks"
)

// TestPredictionsAreTheFrameworks compares with scikit-learn, LightGBM and XGBoost on 10,000 rows each.
func TestPredictionsAreTheFrameworks(t *testing.T) {
	for _, c := range frameworks.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			m, err := Parse(c.Name, c.ONNX, Options{Instances: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check(context.Background(), m, 256); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShapleyValuesAreTheFrameworks compares with XGBoost's own contributions and with the shap package.
func TestShapleyValuesAreTheFrameworks(t *testing.T) {
	explained := 0
	for _, c := range frameworks.Cases(t) {
		if c.Explainer == "" {
			continue
		}
		explained++
		t.Run(c.Name, func(t *testing.T) {
			m, err := Parse(c.Name, c.ONNX, Options{Instances: 1})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.SetBackground([]inference.Tensor{c.Background}); err != nil {
				t.Fatal(err)
			}
			target := inference.Target{Output: len(m.Metadata().Outputs) - 1}
			for len(m.Methods(inference.Target{Output: target.Output, Element: target.Element + 1})) > 0 {
				target.Element++
			}
			const width = frameworks.Features + 1
			n := len(c.Explained) / width
			in := []inference.Tensor{{Type: inference.Float32, Shape: []int{n, frameworks.Features}, F32: c.Input.F32[:n*frameworks.Features]}}
			var a inference.Attributions
			if err := m.Explain(context.Background(), in, target, inference.TreeSHAP, &a); err != nil {
				t.Fatal(err)
			}
			for r := range n {
				want := c.Explained[r*width : (r+1)*width]
				for i, v := range append(a.Values[r*a.Width:(r+1)*a.Width:(r+1)*a.Width], a.Base[r]) {
					// The frameworks' models and sums are float32.
					if math.Abs(v-want[i]) > 2e-6*max(1, math.Abs(want[i])) {
						t.Fatalf("row %d, feature %d of %d: %v, %s says %v", r, i, a.Width, v, c.Explainer, want[i])
					}
				}
			}
		})
	}
	if explained < 4 {
		t.Errorf("%d cases are explained, expected at least 4", explained)
	}
}
