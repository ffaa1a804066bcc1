package feature_test

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

func ExampleWindows() {
	windows := []feature.Window{
		{Name: "tx_1d", Aggregate: feature.Count, Over: 24 * time.Hour},
		{Name: "amount_1d", Aggregate: feature.Mean, Field: "amount", Over: 24 * time.Hour},
	}
	w, err := feature.NewWindows(feature.Config{Windows: windows})
	if err != nil {
		fmt.Println(err)
		return
	}
	hour := int64(time.Hour)
	amounts := &event.Column{Kind: event.Float, Floats: []float64{10, 20, 30}}
	out := []*event.Column{{}, {}}
	delta := w.Update(&feature.Batch{N: 3, Keys: []string{"ann", "ann", "ann"}, Times: []int64{0, hour, 24 * hour}, Fields: []*event.Column{amounts}}, out, nil)
	fmt.Println(out[0].Ints, out[1].Floats)

	// After a crash, the stored change brings the state back.
	again, err := feature.NewWindows(feature.Config{Windows: windows})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(again.ApplyDelta(delta), again.Keys())
	// Output:
	// [1 2 2] [10 15 25]
	// <nil> 1
}
