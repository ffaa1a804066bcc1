package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/examples/water-leak/anomaly"
	"github.com/freshet-io/freshet/examples/water-leak/telemetry"
	"github.com/freshet-io/freshet/feature"
)

//go:embed testbed
var testbedFiles embed.FS

const (
	// calibration is how long each recording is known to be usual: SKAB's own split.
	calibration = 400 * time.Second
	// warmUp is left out of the calibration, for windows are short there.
	warmUp = 30 * time.Second
)

// inputs are the model's, in the order of testbed/pipeline.yaml.
var inputs = []string{"z_flow", "z_flow_spread", "z_pressure", "z_pressure_spread"}

// testbed is the recordings and the rows that the pipeline computes of them.
type testbed struct {
	study
	experiments []*experiment
}

// newTestbed reads the recordings below dir and leaves out readings at random.
func newTestbed(dir string, seed uint64) (*testbed, error) {
	b := &testbed{study: study{share: 0.99}}
	var err error
	if b.experiments, err = readExperiments(dir); err != nil {
		return nil, err
	}
	var keys []string
	var times []int64
	columns := make([]*event.Column, len(sensors))
	c := feature.ResampleConfig{Every: time.Second, Limit: time.Minute}
	for i, s := range sensors {
		columns[i] = &event.Column{Name: s}
		c.Fields = append(c.Fields, feature.ResampleField{Name: s, Fill: feature.FillLinear})
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	number := map[string]int{}
	for n, e := range b.experiments {
		e.lose(rng)
		number[e.name] = n
		for i, t := range e.times {
			if e.lost[i] {
				continue
			}
			keys, times = append(keys, e.name), append(times, t.UnixNano())
			for s, v := range e.readings[i] {
				columns[s].Floats = append(columns[s].Floats, v)
			}
		}
	}
	flow, pressure := sensors[flowSensor], sensors[pressureSensor]
	b.table, err = telemetry.Compute(keys, times, columns, c, []feature.Window{
		{Name: "flow_1m", Aggregate: feature.Mean, Field: flow, Over: time.Minute},
		{Name: "flow_1m_spread", Aggregate: feature.StdDev, Field: flow, Over: time.Minute},
		{Name: "pressure_1m", Aggregate: feature.Mean, Field: pressure, Over: time.Minute},
		{Name: "pressure_1m_spread", Aggregate: feature.StdDev, Field: pressure, Over: time.Minute},
	})
	if err != nil {
		return nil, err
	}
	for i, key := range b.table.Keys {
		e := b.experiments[number[key]]
		age := time.Duration(b.table.Times[i] - e.times[0].UnixNano())
		b.group = append(b.group, number[key])
		b.usual = append(b.usual, age >= warmUp && age < calibration)
		b.tested = append(b.tested, age >= calibration)
		b.truth = append(b.truth, e.labelAt(b.table.Times[i]))
	}
	return b, nil
}

// calibrate adds the model's inputs to the table and returns the lookup table
// that lets the pipeline compute the same: a header and a line for each recording.
func (b *testbed) calibrate() ([][]string, error) {
	windows, err := b.table.Indices("flow_1m", "flow_1m_spread", "pressure_1m", "pressure_1m_spread")
	if err != nil {
		return nil, err
	}
	first := len(b.table.Columns)
	for _, name := range inputs {
		b.table.Names = append(b.table.Names, name)
		b.table.Columns = append(b.table.Columns, make([]float64, len(b.table.Keys)))
	}
	lines := [][]string{{"rig", "flow", "flow_spread", "flow_sd", "pressure", "pressure_spread", "pressure_sd"}}
	for n, e := range b.experiments {
		var centre, deviation [4]float64
		for j, c := range windows {
			centre[j], _ = moments(b.only(b.usual, n, []int{c}))
		}
		_, deviation[0] = moments(b.only(b.usual, n, []int{flowSensor}))
		_, deviation[2] = moments(b.only(b.usual, n, []int{pressureSensor}))
		deviation[1], deviation[3] = deviation[0], deviation[2]
		line := []string{e.name}
		for _, v := range []float64{centre[0], centre[1], deviation[0], centre[2], centre[3], deviation[2]} {
			line = append(line, fmt.Sprint(v))
		}
		lines = append(lines, line)
		for i := range b.group {
			for j, c := range windows {
				if b.group[i] != n {
					continue
				}
				v := b.table.Columns[c][i]
				if math.IsNaN(v) {
					v = 0 // the spread of one row, as the pipeline's default says
				}
				b.table.Columns[first+j][i] = (v - centre[j]) / deviation[j]
			}
		}
	}
	return lines, nil
}

func moments(rows [][]float64) (mean, deviation float64) {
	for _, r := range rows {
		mean += r[0] / float64(len(rows))
	}
	for _, r := range rows {
		deviation += (r[0] - mean) * (r[0] - mean) / float64(len(rows)-1)
	}
	// A sensor that stands still has a resolution all the same.
	return mean, max(math.Sqrt(deviation), 1e-3*math.Abs(mean), 1e-9)
}

// install writes the pipeline with its table and its model below dir.
func (b *testbed) install(dir string, rigs [][]string, model *anomaly.Detector) (pipeline string, err error) {
	for _, d := range []string{"tables", "models"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	var csv []byte
	for _, line := range rigs {
		for i, cell := range line {
			if i > 0 {
				csv = append(csv, ',')
			}
			csv = append(csv, cell...)
		}
		csv = append(csv, '\n')
	}
	files := map[string][]byte{
		"tables/rigs.csv":     csv,
		"models/testbed.onnx": model.ONNX("testbed", "1.0.0", inputs),
	}
	for _, name := range []string{"pipeline.yaml", "telemetry.schema.json"} {
		if files[name], err = testbedFiles.ReadFile("testbed/" + name); err != nil {
			return "", err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "pipeline.yaml"), nil
}

// readings writes the readings that are not lost as events.
func (b *testbed) readings(w *json.Encoder) error {
	for _, e := range b.experiments {
		for i, t := range e.times {
			if e.lost[i] {
				continue
			}
			err := w.Encode(map[string]any{
				"reading_id": e.name + "@" + t.Format(time.RFC3339), "rig": e.name, "time": t.Format(time.RFC3339),
				"flow": e.readings[i][flowSensor], "pressure": e.readings[i][pressureSensor],
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// others scores the tested rows with the methods to compare with.
func (b *testbed) others() ([]method, error) {
	own, err := b.table.Indices(inputs...)
	if err != nil {
		return nil, err
	}
	all := make([]int, len(sensors))
	for i := range all {
		all[i] = i
	}
	two := []int{flowSensor, pressureSensor}
	return []method{
		b.try("threshold rule, flow and pressure, 3 deviations", rule, two, false, 3),
		b.try("threshold rule, all 8 sensors, 3 deviations", rule, all, false, 3),
		b.try("isolation forest, flow and pressure, 0.5", forest, two, false, 0.5),
		b.try("isolation forest, all 8 sensors, 0.5", forest, all, false, 0.5),
		b.try("threshold rule, flow and pressure", rule, two, false, 0),
		b.try("threshold rule, all 8 sensors", rule, all, false, 0),
		b.try("isolation forest, flow and pressure", forest, two, false, 0),
		b.try("isolation forest, all 8 sensors", forest, all, false, 0),
		b.try("threshold rule, the model's inputs", rule, own, true, 0),
		b.try("isolation forest, the model's inputs", forest, own, true, 0),
	}, nil
}

// evaluateTestbed fits the model, runs the pipeline in dir and prints what came out.
func evaluateTestbed(w io.Writer, recordings, dir string, seed uint64) ([]method, []bool, error) {
	b, err := newTestbed(recordings, seed)
	if err != nil {
		return nil, nil, err
	}
	rigs, err := b.calibrate()
	if err != nil {
		return nil, nil, err
	}
	columns, err := b.table.Indices(inputs...)
	if err != nil {
		return nil, nil, err
	}
	model, err := anomaly.Fit(b.only(b.usual, -1, columns), b.share)
	if err != nil {
		return nil, nil, err
	}
	pipeline, err := b.install(dir, rigs, model)
	if err != nil {
		return nil, nil, err
	}
	results, err := stream(dir, pipeline, "testbed-scored", b.readings)
	if err != nil {
		return nil, nil, err
	}
	ours, err := b.join(results, model)
	if err != nil {
		return nil, nil, err
	}
	b.print(w, results)
	methods, err := b.others()
	if err != nil {
		return nil, nil, err
	}
	methods = append([]method{ours}, methods...)
	truth := b.truths()
	report(w, methods, truth)
	return methods, truth, nil
}

// join returns the pipeline's scores of the tested rows. Every row of the series
// must have a result, with the score and the flag that the row should have.
func (b *testbed) join(results []result, model *anomaly.Detector) (method, error) {
	columns, err := b.table.Indices(inputs...)
	if err != nil {
		return method{}, err
	}
	ours := method{name: "the pipeline", limit: 1}
	if len(results) != len(b.table.Keys) {
		return ours, fmt.Errorf("%d results for %d rows of the series", len(results), len(b.table.Keys))
	}
	for i, r := range results {
		want := model.Score(b.table.Row(i, columns))
		if r.Key != b.table.Keys[i] || r.Time.UnixNano() != b.table.Times[i] || r.filled() != b.table.Filled[i] ||
			math.Abs(r.Score-want) > 1e-3*max(1, want) {
			return ours, fmt.Errorf("result %d is %+v; expected key %s, time %d, filled %v, score %v", i, r, b.table.Keys[i], b.table.Times[i], b.table.Filled[i], want)
		}
		if b.tested[i] {
			ours.scores = append(ours.scores, r.Score)
		}
	}
	return ours, nil
}
