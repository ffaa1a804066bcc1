package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

func TestWindowsAreThoseOfTheSeries(t *testing.T) {
	x := &event.Column{Name: "x", Floats: []float64{1, 4, 7}}
	c := feature.ResampleConfig{Every: 10, Limit: 100, Fields: []feature.ResampleField{{Name: "x", Fill: feature.FillLinear}}}
	table, err := Compute([]string{"k", "k", "k"}, []int64{0, 30, 200}, []*event.Column{x}, c,
		[]feature.Window{{Name: "mean", Aggregate: feature.Mean, Field: "x", Over: 20}, {Name: "spread", Aggregate: feature.StdDev, Field: "x", Over: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(table.Names, table.Times, table.Filled, table.Columns[:2])
	want := "[x mean spread] [0 10 20 30 200] [false true true false false] [[1 2 3 4 7] [1 1.5 2.5 3.5 7]]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if spread := table.Columns[2]; spread[0] == spread[0] || spread[1] == 0 {
		t.Errorf("spread: got %v, want null at first", spread)
	}
	if _, err := table.Indices("x", "y"); err == nil {
		t.Error("a column that is not there was found")
	}
	if _, err := Compute(nil, nil, []*event.Column{x}, c, []feature.Window{{Name: "m", Aggregate: feature.Mean, Field: "y", Over: 20}}); err == nil {
		t.Error("a window of a field that is not in the series was taken")
	}
}
