package model_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/state/statetest"
)

func readModel(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testModels + name + ".onnx")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// linear is a stand-in for a runtime: the sum of each row, or what answer makes of it.
type linear struct {
	meta   inference.Metadata
	answer func(row []float32) float32
	size   inference.Complexity
}

func (l *linear) Metadata() inference.Metadata     { return l.meta }
func (l *linear) Concurrency() int                 { return 1 }
func (l *linear) Close() error                     { return nil }
func (l *linear) Complexity() inference.Complexity { return l.size }
func (l *linear) Infer(_ context.Context, in, out []inference.Tensor) error {
	n := in[0].Rows()
	width := len(in[0].F32) / n
	out[0] = inference.Tensor{Name: "score", Type: inference.Float32, Shape: []int{n, 1}}
	for r := range n {
		out[0].F32 = append(out[0].F32, l.answer(in[0].F32[r*width:(r+1)*width]))
	}
	return nil
}

func sum(row []float32) (s float32) {
	for _, x := range row {
		s += x
	}
	return s
}

// newLinear takes three values a row.
func newLinear() *linear {
	return &linear{answer: sum, meta: inference.Metadata{
		Inputs:  []inference.Signature{{Name: "x", Type: inference.Float32, Shape: []int{3}}},
		Outputs: []inference.Signature{{Name: "score", Type: inference.Float32, Shape: []int{1}}},
	}}
}

// admit adds a version that d evaluates.
func admit(t testing.TB, d inference.Driver, caps model.Caps, change func(*model.Submission)) (*model.Admitted, error) {
	t.Helper()
	r := model.NewRegistry(statetest.NewObjects(), model.RegistryOptions{
		Cache: t.TempDir(), Caps: caps, Open: func(string, *model.Version) (inference.Driver, error) { return d, nil },
	})
	s := model.Submission{Name: "risk", Path: write(t, "model.onnx", []byte("a model")), NoGolden: true, NaNOutputs: true}
	change(&s)
	return r.Add(t.Context(), s)
}

func goldenText(t testing.TB, text string) func(*model.Submission) {
	return func(s *model.Submission) { s.Golden, s.NaNOutputs = write(t, "golden.json", []byte(text)), false }
}

func TestGoldenRowsHaveToComeOutRight(t *testing.T) {
	for _, tc := range []struct {
		name, golden string
		kind         errkind.Kind // Unknown: let in
		words        string
	}{
		{"rows", `{"inputs": {"x": [[1,2,3],["NaN",0,0],["Infinity",0,1],["-Infinity",0,1]]}, "outputs": {"score": [6,"NaN","Infinity","-Infinity"]}}`, 0, ""},
		{"columns in order", `{"inputs": {"c": [1,null], "b": [2,"inf"], "a": [3,1]}, "outputs": {"score": [[6],["NaN"]]}, "tolerance": 0}`, 0, ""},
		{"declared", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"score": [6]}, "nan_outputs": true}`, 0, ""},
		{"within the tolerance", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"score": [6.0005]}, "tolerance": 1e-4, "nan_outputs": true}`, 0, ""},
		{"beyond the tolerance", `{"inputs": {"x": [[1,2,3],[1,1,1]]}, "outputs": {"score": [6, 3.001]}, "nan_outputs": true}`, errkind.Invalid, "1 of 2 golden rows come out wrong (tolerance 1e-05): row 2: output score is 3, expected 3.001"},
		{"a number for NaN", `{"inputs": {"x": [["NaN",2,3]]}, "outputs": {"score": [6]}}`, errkind.Invalid, "output score is NaN, expected 6"},
		{"NaN for a number", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"score": ["NaN"]}}`, errkind.Invalid, "output score is 6, expected NaN"},
		{"an infinity of the other sign", `{"inputs": {"x": [["Infinity",2,3]]}, "outputs": {"score": ["-Infinity"]}}`, errkind.Invalid, "output score is +Inf, expected -Inf"},
		{"NaN that nobody declared", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"score": [6]}}`, errkind.Invalid, "output score is NaN for a row with x[0] NaN"},
		{"another number of rows", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"score": [6,7]}}`, errkind.Invalid, "1 rows of inputs and 2 of outputs"},
		{"too few values", `{"inputs": {"x": [[1,2]]}, "outputs": {"score": [6]}}`, errkind.Invalid, "row 1: 2 values, expected 3"},
		{"too few columns", `{"inputs": {"a": [1], "b": [1]}, "outputs": {"score": [6]}}`, errkind.Invalid, "2 columns (a, b), and the input x has 3 values"},
		{"no such output", `{"inputs": {"x": [[1,2,3]]}, "outputs": {"sore": [6]}}`, errkind.Invalid, `no output "sore"`},
		{"no outputs", `{"inputs": {"x": [[1,2,3]]}, "outputs": {}}`, errkind.Invalid, "there are no rows"},
		{"no rows", `{"inputs": {"x": []}, "outputs": {"score": []}}`, errkind.Invalid, "there are no rows"},
		{"no number", `{"inputs": {"x": [[1,2,"many"]]}, "outputs": {"score": [1]}}`, errkind.Invalid, `"many" is no number`},
		{"a column twice", `{"inputs": {"x": [[1,2,3]], "x": [[1,2,3]]}, "outputs": {"score": [1]}}`, errkind.Invalid, "twice"},
		{"no JSON", `{"inputs"`, errkind.Invalid, "golden.json"},
		{"nothing", `{}`, errkind.Invalid, "expected an object of columns"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := admit(t, newLinear(), model.Caps{}, goldenText(t, tc.golden))
			if tc.kind != errkind.Unknown {
				wantKind(t, err, tc.kind, tc.words)
				return
			}
			if err != nil || a.GoldenRows == 0 || a.SpecialRows != 12 || a.Golden != "golden.json" {
				t.Errorf("admitted %+v, %v", a, err)
			}
		})
	}
}

func TestGoldenRowsAreAskedFor(t *testing.T) {
	_, err := admit(t, newLinear(), model.Caps{}, func(s *model.Submission) { s.NoGolden = false })
	wantKind(t, err, errkind.Config, "--golden", "--no-golden")
}

func TestAModelThatAnswersTwiceDifferentlyIsNotLetIn(t *testing.T) {
	d, calls := newLinear(), float32(0)
	d.answer = func([]float32) float32 { calls++; return calls }
	_, err := admit(t, d, model.Caps{}, func(*model.Submission) {})
	wantKind(t, err, errkind.Invalid, "asked twice for a row with x[0] NaN")
}

func TestAPanicAndWrongShapesAreErrors(t *testing.T) {
	d := newLinear()
	d.answer = func(row []float32) float32 {
		if math.IsInf(float64(row[1]), 1) {
			panic("index out of range")
		}
		return 1
	}
	_, err := admit(t, d, model.Caps{}, func(*model.Submission) {})
	wantKind(t, err, errkind.Invalid, "panic: index out of range")

	d = newLinear()
	d.meta.Outputs[0].Shape = []int{2}
	_, err = admit(t, d, model.Caps{}, func(*model.Submission) {})
	wantKind(t, err, errkind.Invalid, "output score has the shape [12 1] of float32 for 12 rows, expected float32[2] for each row")
}

func TestModelsBeyondTheCapsAreNotLetIn(t *testing.T) {
	for what, c := range map[string]inference.Complexity{
		"depth": {Depth: 11}, "trees": {Trees: 11}, "tree nodes": {TreeNodes: 11}, "graph nodes": {Nodes: 11}, "weights": {Parameters: 11},
	} {
		d := newLinear()
		d.size = c
		if what == "depth" {
			what = "levels of the deepest tree"
		}
		_, err := admit(t, d, model.Caps{Depth: 10, Trees: 10, TreeNodes: 10, Nodes: 10, Parameters: 10}, func(*model.Submission) {})
		wantKind(t, err, errkind.Exhausted, "11 "+what+", 10 are allowed")
		if _, err := admit(t, d, model.Caps{}, func(*model.Submission) {}); err != nil {
			t.Error(err)
		}
	}
	_, err := admit(t, newLinear(), model.Caps{Bytes: 6}, func(*model.Submission) {})
	wantKind(t, err, errkind.Exhausted, "more than 6 bytes")
}

func TestTheSignatureHasToFitTheFeatures(t *testing.T) {
	float, text, whole := inference.Float64, inference.String, inference.Int64
	give := func(names string, types ...inference.DataType) (all []inference.Signature) {
		for i, n := range strings.Fields(names) {
			all = append(all, inference.Signature{Name: n, Type: append(types, float, float, float, float)[i]})
		}
		return all
	}
	for _, tc := range []struct {
		known    string // names that the model carries
		features []inference.Signature
		words    string // empty: fits
	}{
		{"", give("a b c"), ""},
		{"a b c", give("a b c", whole), ""},
		{"", give("a b"), "the input x has 3 values a row, 2 are given: a, b"},
		{"", give("a b c d"), "3 values a row, 4 are given"},
		{"a b c", give("a c b"), "trained on a, b, c, in this order, and a, c, b are given"},
		{"", give("a b c", text), "a is string, and the input x takes float32"},
	} {
		d := newLinear()
		d.meta.FeatureNames = strings.Fields(tc.known)
		a, err := admit(t, d, model.Caps{}, func(s *model.Submission) { s.Features = tc.features })
		if tc.words != "" {
			wantKind(t, err, errkind.Invalid, tc.words)
		} else if err != nil || !slices.Equal(a.FeatureNames, []string{"a", "b", "c"}) {
			t.Errorf("admitted %+v, %v", a, err)
		}
	}
	several := newLinear()
	several.meta.Inputs = []inference.Signature{{Name: "a", Type: inference.Float32, Shape: []int{1}}, {Name: "b", Type: inference.Int64, Shape: []int{1}}}
	for features, words := range map[string]string{"b a": "b is float64, and the model takes int64", "a": "nothing is given for the input b int64", "a b c": ""} {
		_, err := admit(t, several, model.Caps{}, func(s *model.Submission) {
			s.Features = give(features, float, whole)
			if features == "b a" {
				s.Features = give(features, float, float)
			}
		})
		if features == "a b c" {
			words = "the model has no input c"
		}
		wantKind(t, err, errkind.Invalid, words)
	}
}

func TestTheSignatureHasToBeTheChampions(t *testing.T) {
	r := registry(t, statetest.NewObjects())
	mustAdd(t, r, submission(t, "xgboost-binary", "1"))
	mustPromote(t, r, "1")
	s := submission(t, "mlp-regressor", "2")
	s.NewSignature = false
	_, err := r.Add(t.Context(), s)
	wantKind(t, err, errkind.Invalid, "the signature is not that of the champion, version 1", "--new-signature")
	s = submission(t, "xgboost-binary", "2")
	s.NewSignature = false
	if a := mustAdd(t, r, s); a.Champion != "1" {
		t.Errorf("compared with %q", a.Champion)
	}
}

func TestADigestThatIsExpectedIsCompared(t *testing.T) {
	sound := readModel(t, "xgboost-binary")
	sum := sha256.Sum256(sound)
	r := registry(t, statetest.NewObjects())
	s := submission(t, "xgboost-binary", "")
	s.Digest = strings.ToUpper(hex.EncodeToString(sum[:]))
	mustAdd(t, r, s)
	sound[len(sound)/2] ^= 1
	s.Path = write(t, "model.onnx", sound)
	_, err := r.Add(t.Context(), s)
	wantKind(t, err, errkind.Corrupt, "expected "+s.Digest)
}

// One flipped bit makes many files that load all the same. Golden rows catch those
// that answer wrongly to them; the digest catches all.
func TestGoldenRowsCatchFlippedBits(t *testing.T) {
	flips := 120
	if testing.Short() {
		flips = 30
	}
	for _, name := range []string{"xgboost-binary", "logistic-scaled", "mlp-30-64-64-1"} {
		sound := readModel(t, name)
		rng := rand.New(rand.NewPCG(7, 7))
		good, err := openONNX(testModels+name+".onnx", nil)
		if err != nil {
			t.Fatal(err)
		}
		rows := inference.Tensor{Name: good.Metadata().Inputs[0].Name, Type: inference.Float32, Shape: append([]int{2000}, good.Metadata().Inputs[0].Shape...)}
		for range 2000 * rows.Shape[1] {
			rows.F32 = append(rows.F32, float32(rng.NormFloat64()*3))
		}
		wrong := func(d inference.Driver) (n int) {
			want, got := make([]inference.Tensor, 2), make([]inference.Tensor, 2)
			k := len(good.Metadata().Outputs) - 1
			if good.Infer(t.Context(), []inference.Tensor{rows}, want[:k+1]) != nil || d.Infer(t.Context(), []inference.Tensor{rows}, got[:k+1]) != nil ||
				len(want[k].F32) != len(got[k].F32) {
				return 2000
			}
			for i, x := range want[k].F32 {
				if math.Abs(float64(x-got[k].F32[i])) > 1e-3 {
					n++
				}
			}
			return n
		}
		golden := goldenRows(t, name)
		sum := sha256.Sum256(sound)
		loaded, bad, admitted, harmful := 0, 0, 0, 0
		r := registry(t, statetest.NewObjects())
		for range flips {
			bit := rng.IntN(8 * len(sound))
			flipped := bytes.Clone(sound)
			flipped[bit/8] ^= 1 << (bit % 8)
			s := model.Submission{Name: "risk", Path: write(t, "model.onnx", flipped), Golden: golden, NewSignature: true}
			d, err := openONNX(s.Path, nil)
			differs := false
			if err == nil {
				loaded++
				if differs = wrong(d) > 0; differs {
					bad++
				}
				_ = d.Close()
			}
			_, err = r.Add(t.Context(), s)
			switch {
			case err == nil:
				admitted++
				if differs {
					harmful++
				}
			case errkind.Is(err, errkind.Invalid), errkind.Is(err, errkind.Unsupported), errkind.Is(err, errkind.Exhausted):
			default:
				t.Errorf("bit %d: %v of kind %v", bit, err, errkind.Of(err))
			}
			s.Digest = hex.EncodeToString(sum[:])
			_, err = r.Add(t.Context(), s)
			wantKind(t, err, errkind.Corrupt)
		}
		t.Logf("%s: of %d files with one flipped bit %d load, %d of which answer some of 2,000 rows wrongly (by 0.001); %d pass golden rows, %d of which do so; none passes with its digest known",
			name, flips, loaded, bad, admitted, harmful)
		if 4*harmful > bad {
			t.Errorf("%s: golden rows let in %d of %d files that answer wrongly", name, harmful, bad)
		}
	}
}

func TestBackgroundSamplesOfEachFormatAreKept(t *testing.T) {
	lines := `{"c": 3, "a": 1, "more": "text", "b": 2}` + "\n" + `{"a": 4, "b": null, "c": "NaN", "nested": {"x": 1}}` + "\n"
	for name, content := range map[string][]byte{
		"sample.csv":     []byte("b,a,label,c\n2,1,x,3\n,4,y,NaN\n"),
		"sample.jsonl":   []byte(lines),
		"sample.parquet": sampleParquet(t),
	} {
		d := newLinear()
		d.meta.FeatureNames = []string{"a", "b", "c"}
		objects := statetest.NewObjects()
		r := model.NewRegistry(objects, model.RegistryOptions{Cache: t.TempDir(), Open: func(string, *model.Version) (inference.Driver, error) { return d, nil }})
		a, err := r.Add(t.Context(), model.Submission{Name: "risk", Path: write(t, "m.onnx", []byte("m")), NoGolden: true, NaNOutputs: true, Background: write(t, name, content)})
		if err != nil || a.BackgroundRows != 2 {
			t.Errorf("%s: %+v, %v", name, a, err)
			continue
		}
		dir, err := r.Fetch(t.Context(), a.Version)
		if err != nil {
			t.Fatal(err)
		}
		in, err := model.LoadBackground(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(in[0].Shape, in[0].F32); got != "[2 3] [1 2 3 4 NaN NaN]" || in[0].Name != "x" {
			t.Errorf("%s: the sample is %s", name, got)
		}
	}
	_, err := model.LoadBackground(t.TempDir())
	wantKind(t, err, errkind.NotFound)
}

func TestBadSamplesSayWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		file, content string
		kind          errkind.Kind
		words         string
	}{
		{"s.csv", "", errkind.Invalid, "header"},
		{"s.csv", "a,b,c\n", errkind.Invalid, "there are no rows"},
		{"s.csv", "a,b,c\n1,2\n", errkind.Invalid, "wrong number of fields"},
		{"s.csv", "a,b\n1,2\n", errkind.Invalid, "2 columns (a, b), and the input x has 3 values"},
		{"s.csv", "a,b,c\n1,2,many\n", errkind.Invalid, `"many" is no number`},
		{"s.csv", "a,a,c\n1,2,3\n", errkind.Invalid, "twice"},
		{"s.jsonl", "{\"a\":1}\n[]\n", errkind.Invalid, "row 2"},
		{"s.jsonl", "", errkind.Invalid, "there are no rows"},
		{"s.parquet", "PAR1 not really PAR1", errkind.Invalid, "s.parquet"},
		{"s.txt", "", errkind.Unsupported, "*.parquet"},
	} {
		_, err := admit(t, newLinear(), model.Caps{}, func(s *model.Submission) { s.Background = write(t, tc.file, []byte(tc.content)) })
		wantKind(t, err, tc.kind, tc.words)
	}
	_, err := admit(t, newLinear(), model.Caps{}, func(s *model.Submission) { s.Background = "/no/such.csv" })
	wantKind(t, err, errkind.NotFound)
}

func TestALongSampleIsThinned(t *testing.T) {
	var b strings.Builder
	b.WriteString("a,b,c\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "%d,0,0\n", i)
	}
	a, err := admit(t, newLinear(), model.Caps{}, func(s *model.Submission) { s.Background = write(t, "s.csv", []byte(b.String())) })
	if err != nil || a.BackgroundRows != 1000 {
		t.Errorf("%+v, %v", a, err)
	}
}

func sampleParquet(t testing.TB) []byte {
	t.Helper()
	double := func(name string, r parquet.Repetition) schema.Node {
		return schema.NewFloat64Node(name, r, -1)
	}
	group, err := schema.NewGroupNode("rows", parquet.Repetitions.Required, schema.FieldList{
		double("b", parquet.Repetitions.Optional), double("a", parquet.Repetitions.Required),
		schema.NewByteArrayNode("label", parquet.Repetitions.Required, -1), double("c", parquet.Repetitions.Required),
	}, -1)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := file.NewParquetWriter(&out, group)
	g, err := w.AppendRowGroupChecked()
	if err != nil {
		t.Fatal(err)
	}
	next := func(values []float64, levels []int16) {
		c, err := g.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		switch c := c.(type) {
		case *file.Float64ColumnChunkWriter:
			_, err = c.WriteBatch(values, levels, nil)
		case *file.ByteArrayColumnChunkWriter:
			_, err = c.WriteBatch([]parquet.ByteArray{[]byte("x"), []byte("y")}, nil, nil)
		}
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	next([]float64{2}, []int16{1, 0})
	next([]float64{1, 4}, nil)
	next(nil, nil)
	next([]float64{3, math.NaN()}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestServedVersionsAreAdmittedByTheirServer(t *testing.T) {
	d := newLinear()
	d.answer = func(row []float32) float32 { return row[0] + rand.Float32()*1e-7 } // as servers are
	var opened *model.Version
	objects := statetest.NewObjects()
	r := model.NewRegistry(objects, model.RegistryOptions{Cache: t.TempDir(), Open: func(path string, v *model.Version) (inference.Driver, error) {
		if path != "" {
			t.Errorf("a served model is opened at the path %s", path)
		}
		opened = v
		return d, nil
	}})
	s := model.Submission{Name: "risk", URL: "oip://triton:8001/fraud",
		Golden: write(t, "golden.json", []byte(`{"inputs": {"x": [[1,2,3],["NaN","Infinity",0]]}, "outputs": {"score": [1, "NaN"]}}`))}
	a, err := r.Add(t.Context(), s)
	if err != nil || a.Format != "remote" || a.File != "" || opened.URL != s.URL || len(a.Digest) != 64 {
		t.Fatalf("%+v, %v", a, err)
	}
	dir, err := r.Fetch(t.Context(), a.Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/golden.json"); err != nil {
		t.Error(err)
	}
	s.URL = "oip://user:hunter2@triton:8001/fraud"
	_, err = r.Add(t.Context(), s)
	wantKind(t, err, errkind.Config, "token_env")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error %q tells the password", err)
	}
}

func FuzzGoldenRows(f *testing.F) {
	f.Add([]byte(`{"inputs": {"x": [[1,2,3],["NaN",0,0]]}, "outputs": {"score": [6,"NaN"]}, "tolerance": 1e-3}`))
	f.Add([]byte(`{"inputs": {"a": [1,null], "b": [2,"inf"], "c": [3,true]}, "outputs": {"score": [[6],["NaN"]]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := admit(t, newLinear(), model.Caps{}, func(s *model.Submission) { s.Golden = write(t, "golden.json", b) })
		if err != nil && !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%v of kind %v", err, errkind.Of(err))
		}
	})
}
