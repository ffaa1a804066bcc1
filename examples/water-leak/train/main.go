// Command train fits the model of the water-leak example to simulated telemetry
// without leaks and writes it as ONNX.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/freshet-io/freshet/examples/water-leak/anomaly"
	"github.com/freshet-io/freshet/examples/water-leak/network"
)

func main() {
	out := flag.String("out", "examples/water-leak/models/leak-anomaly.onnx", "the model's file")
	seed := flag.Uint64("seed", 7, "the simulation's seed")
	flag.Parse()
	if err := train(*out, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func train(out string, seed uint64) error {
	readings, _ := network.Simulate(network.Config{Areas: 12, Days: 42, Seed: seed})
	table, err := network.Features(readings)
	if err != nil {
		return err
	}
	columns, err := table.Indices(network.Inputs...)
	if err != nil {
		return err
	}
	// Before the second week there is nothing to compare with.
	begin := network.Start.Add(8 * 24 * time.Hour).UnixNano()
	var rows [][]float64
	for i, t := range table.Times {
		if t >= begin {
			rows = append(rows, table.Row(i, columns))
		}
	}
	model, err := anomaly.Fit(rows, 0.999)
	if err != nil {
		return err
	}
	data := model.ONNX("leak-anomaly", "1.0.0", network.Inputs)
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return err
	}
	fmt.Printf("%d readings, fitted to %d rows; a score of 1 is a distance of %.2f; wrote %s: %d bytes\n", len(readings), len(rows), model.Limit, out, len(data))
	return nil
}
