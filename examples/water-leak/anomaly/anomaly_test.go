package anomaly

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// cloud is rows of two columns that go together and a third.
func cloud(n int, seed uint64) [][]float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	rows := make([][]float64, n)
	for i := range rows {
		a := rng.NormFloat64()
		rows[i] = []float64{5 + a, 2*a + 0.1*rng.NormFloat64(), -1 + 3*rng.NormFloat64()}
	}
	return rows
}

func TestDistanceIsMahalanobis(t *testing.T) {
	// Two columns with variances 4 and 1 and covariance 1.2: the inverse is [1, −1.2; −1.2, 4] / 2.56.
	whiten, err := inverseFactor([][]float64{{4, 1.2}, {1.2, 1}})
	if err != nil {
		t.Fatal(err)
	}
	d := &Detector{Mean: []float64{10, 20}, Whiten: whiten, Limit: 2}
	for _, c := range [][2]float64{{1, 0}, {0, 1}, {3, -2}, {0, 0}} {
		want := math.Sqrt((c[0]*c[0]-2*1.2*c[0]*c[1]+4*c[1]*c[1])/2.56) / 2
		if got := d.Score([]float64{10 + c[0], 20 + c[1]}); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v: got %v, want %v", c, got, want)
		}
	}
}

func TestTheAskedShareOfUsualRowsIsBelowTheLimit(t *testing.T) {
	rows := cloud(2000, 1)
	d, err := Fit(rows, 0.99)
	if err != nil {
		t.Fatal(err)
	}
	above := 0
	for _, r := range rows {
		if d.Score(r) > 1 {
			above++
		}
	}
	if above != 20 {
		t.Errorf("%d of 2000 rows are above the limit: want 20", above)
	}
	// Each column is usual, the pair is not.
	if s := d.Score([]float64{6, -2, -1}); s < 5 {
		t.Errorf("a row against the correlation scores %v", s)
	}
}

func TestRowsThatSayTooLittleAreRefused(t *testing.T) {
	same := cloud(100, 1)
	for _, r := range same {
		r[2] = r[0] + r[1]
	}
	for name, rows := range map[string][][]float64{"none": nil, "fewer than columns": cloud(3, 1), "a column follows": same} {
		if d, err := Fit(rows, 0.99); err == nil {
			t.Errorf("%s: got %+v", name, d)
		}
	}
}

func TestTheWrittenModelGivesTheDetectorsScores(t *testing.T) {
	d, err := Fit(cloud(500, 2), 0.99)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cloud.onnx")
	if err := os.WriteFile(path, d.ONNX("cloud", "1.2.3", []string{"a", "b", "c"}), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Load(path, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	meta := m.Metadata()
	if meta.Version != "1.2.3" || len(meta.Inputs) != 1 || len(meta.Outputs) != 1 || meta.Outputs[0].Name != "score" {
		t.Errorf("metadata: %+v", meta)
	}
	rows := cloud(100, 3)
	in := inference.Tensor{Name: "features", Type: inference.Float32, Shape: []int{len(rows), 3}}
	for _, r := range rows {
		in.F32 = append(in.F32, float32(r[0]), float32(r[1]), float32(r[2]))
	}
	out := make([]inference.Tensor, 1)
	if err := m.Infer(context.Background(), []inference.Tensor{in}, out); err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		if want := d.Score(r); math.Abs(float64(out[0].F32[i])-want) > 1e-4*max(1, want) {
			t.Errorf("row %d: got %v, want %v", i, out[0].F32[i], want)
		}
	}
}

func TestForestScoresAreThoseOfThePaper(t *testing.T) {
	// Equation 1: c(256) = 2 H(255) − 2·255/256.
	if got := unsuccessful(256); math.Abs(got-10.244) > 0.001 {
		t.Errorf("c(256) = %v", got)
	}
	rows := cloud(1000, 4)
	f := GrowForest(rows, 100, 256, 1)
	inside, outside := f.Score([]float64{5, 0, -1}), f.Score([]float64{12, -9, 20})
	if inside > 0.45 || outside < 0.7 {
		t.Errorf("the middle scores %v, a row far away %v", inside, outside)
	}
	if again := GrowForest(rows, 100, 256, 1).Score(rows[0]); again != f.Score(rows[0]) {
		t.Error("the same seed gives other trees")
	}
	// Rows that cannot be divided end at the root: the depth that is expected of all, and 0.5.
	if got := GrowForest([][]float64{{1}, {1}, {1}, {1}}, 3, 256, 1).Score([]float64{9}); got != 0.5 {
		t.Errorf("equal rows: got %v", got)
	}
}

func TestRuleTakesTheFarthestColumn(t *testing.T) {
	r := FitRule([][]float64{{1, 10}, {3, 10.5}, {2, 9.5}})
	if diff := cmp.Diff([]float64{0, 2, 4}, []float64{r.Score([]float64{2, 10}), r.Score([]float64{4, 10.5}), r.Score([]float64{3, 8})}); diff != "" {
		t.Error(diff)
	}
}

func TestQuantilesLieBetweenTheNearest(t *testing.T) {
	v := []float64{4, 1, 3, 2}
	if diff := cmp.Diff([]float64{1, 2.5, 4, 3.4}, []float64{Quantile(v, 0), Quantile(v, 0.5), Quantile(v, 1), Quantile(v, 0.8)}, cmp.Comparer(near)); diff != "" {
		t.Error(diff)
	}
	if got := Quantile([]float64{7}, 0.3); got != 7 {
		t.Errorf("one value: got %v", got)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
