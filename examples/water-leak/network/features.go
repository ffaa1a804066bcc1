package network

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/examples/water-leak/telemetry"
	"github.com/freshet-io/freshet/feature"
)

// Inputs are the columns that Features adds for the model, in its order. It adds pressure_drop too.
var Inputs = []string{"flow_excess", "flow_excess_6h"}

const week = 7 * 24 * time.Hour

// Features computes what pipeline.yaml computes of the readings before its model.
func Features(readings []Reading) (*telemetry.Table, error) {
	n := len(readings)
	keys, times := make([]string, n), make([]int64, n)
	flow, pressure := &event.Column{Name: "flow"}, &event.Column{Name: "pressure"}
	flow.Reset(n)
	pressure.Reset(n)
	for i, r := range readings {
		keys[i], times[i] = r.Area, r.Time.UnixNano()
		for c, v := range map[*event.Column]*float64{flow: r.Flow, pressure: r.Pressure} {
			if v == nil {
				c.SetNull(i)
			} else {
				c.Floats[i] = *v
			}
		}
	}
	mean := func(name, field string, over, delay time.Duration) feature.Window {
		return feature.Window{Name: name, Aggregate: feature.Mean, Field: field, Over: over, Delay: delay}
	}
	count := func(name string, over, delay time.Duration) feature.Window {
		return feature.Window{Name: name, Aggregate: feature.Count, Over: over, Delay: delay}
	}
	t, err := telemetry.Compute(keys, times, []*event.Column{flow, pressure},
		feature.ResampleConfig{Every: 5 * time.Minute, Limit: 30 * time.Minute, Fields: []feature.ResampleField{
			{Name: "flow", Fill: feature.FillLinear}, {Name: "pressure", Fill: feature.FillLinear}}},
		[]feature.Window{
			mean("flow_1h", "flow", time.Hour, 0), mean("flow_1h_week", "flow", time.Hour, week),
			mean("pressure_1h", "pressure", time.Hour, 0), mean("pressure_1h_week", "pressure", time.Hour, week),
			mean("flow_6h", "flow", 6*time.Hour, 0), mean("flow_6h_week", "flow", 6*time.Hour, week),
			count("rows_1h", time.Hour, 0), count("rows_1h_week", time.Hour, week),
			count("rows_6h", 6*time.Hour, 0), count("rows_6h_week", 6*time.Hour, week),
		})
	if err != nil {
		return nil, err
	}
	c, err := t.Indices("flow_1h", "flow_1h_week", "pressure_1h", "pressure_1h_week", "flow_6h", "flow_6h_week",
		"rows_1h", "rows_1h_week", "rows_6h", "rows_6h_week")
	if err != nil {
		return nil, err
	}
	columns := make([][]float64, 3)
	for i := range t.Keys {
		v := t.Row(i, c)
		hour, hours := v[6] >= 11 && v[7] >= 11, v[8] >= 66 && v[9] >= 66
		columns[0] = append(columns[0], compare(hour, v[0]/v[1]-1))
		columns[1] = append(columns[1], compare(hours, v[4]/v[5]-1))
		columns[2] = append(columns[2], compare(hour, v[3]-v[2]))
	}
	t.Names = append(t.Names, Inputs[0], Inputs[1], "pressure_drop")
	t.Columns = append(t.Columns, columns...)
	return t, nil
}

// compare is v, or 0 where too much of either week is missing.
func compare(complete bool, v float64) float64 {
	if !complete || math.IsNaN(v) {
		return 0
	}
	return v
}
