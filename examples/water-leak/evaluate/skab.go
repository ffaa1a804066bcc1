package main

import (
	"bufio"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// experiment is one recording of the Skoltech Anomaly Benchmark (SKAB): about
// twenty minutes of a pump loop, a reading a second, of which a part is anomalous.
type experiment struct {
	name     string
	times    []time.Time
	readings [][]float64 // by row, in the order of sensors
	anomaly  []bool
	lost     []bool // rows that the evaluation leaves out
}

// sensors are the columns of a recording.
var sensors = []string{"Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure",
	"Temperature", "Thermocouple", "Voltage", "Volume Flow RateRMS"}

const (
	pressureSensor = 3
	flowSensor     = 7
)

// readExperiments reads the recordings DIR/*.csv in the order of their numbers; of readings of one second, the first counts.
func readExperiments(dir string) ([]*experiment, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("read recordings: there is no *.csv in %q", dir)
	}
	number := func(path string) (n int) {
		n, _ = strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".csv"))
		return n
	}
	slices.SortStableFunc(paths, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	var all []*experiment
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path)) + "-" + strings.TrimSuffix(filepath.Base(path), ".csv")
		e, err := readExperiment(path, name)
		if err != nil {
			return nil, fmt.Errorf("read recording: %w", err)
		}
		all = append(all, e)
	}
	return all, nil
}

func readExperiment(path, name string) (*experiment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := &experiment{name: name}
	want := "datetime;" + strings.Join(sensors, ";") + ";anomaly;changepoint"
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		cells := strings.Split(strings.TrimSpace(lines.Text()), ";")
		if n == 1 {
			if strings.Join(cells, ";") != want {
				return nil, fmt.Errorf("%s: the first line must be %s", path, want)
			}
			continue
		}
		if len(cells) != len(sensors)+3 {
			return nil, fmt.Errorf("%s: line %d: %d columns, expected %d", path, n, len(cells), len(sensors)+3)
		}
		t, err := time.Parse(time.DateTime, cells[0])
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		values := make([]float64, len(cells)-1)
		for i, c := range cells[1:] {
			if values[i], err = strconv.ParseFloat(c, 64); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
			}
		}
		if k := len(e.times); k > 0 && !t.After(e.times[k-1]) {
			continue
		}
		e.times = append(e.times, t)
		e.readings = append(e.readings, values[:len(sensors)])
		e.anomaly = append(e.anomaly, values[len(sensors)] != 0)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(e.times) == 0 {
		return nil, fmt.Errorf("%s: no readings", path)
	}
	return e, nil
}

// lose marks a tenth of the rows, and three stretches of up to 30 s, as lost.
func (e *experiment) lose(rng *rand.Rand) {
	e.lost = make([]bool, len(e.times))
	for i := 1; i < len(e.lost)-1; i++ {
		e.lost[i] = rng.IntN(10) == 0
	}
	for range 3 {
		from := 1 + rng.IntN(len(e.lost)-32)
		for i := range 5 + rng.IntN(26) {
			e.lost[from+i] = true
		}
	}
}

// labelAt is the label of the newest row at or before t, lost or not.
func (e *experiment) labelAt(t int64) bool {
	label := false
	for i, at := range e.times {
		if at.UnixNano() > t {
			break
		}
		label = e.anomaly[i]
	}
	return label
}
