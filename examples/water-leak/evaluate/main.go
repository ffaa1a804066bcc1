// Command evaluate runs the pipelines of the water-leak example on labelled
// telemetry and compares their alerts with those of simpler methods.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/freshet-io/freshet/examples/water-leak/network"
)

func main() {
	recordings := flag.String("skab", "", "folder with recordings 0.csv, 1.csv, … of the Skoltech Anomaly Benchmark, as its valve1; without it, a simulated network is used")
	pipeline := flag.String("pipeline", "examples/water-leak/pipeline.yaml", "the pipeline of the simulated network")
	dir := flag.String("dir", "", "folder for files and topics; a temporary one if not given")
	seed := flag.Uint64("seed", 1, "of the simulation, or of which readings are left out")
	flag.Parse()
	if err := run(*recordings, *pipeline, *dir, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "evaluate:", err)
		os.Exit(1)
	}
}

func run(recordings, pipeline, dir string, seed uint64) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "water-leak-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	var err error
	if recordings == "" {
		_, err = evaluateNetwork(os.Stdout, pipeline, dir, network.Config{Areas: 12, Days: 42, Seed: seed})
	} else {
		_, _, err = evaluateTestbed(os.Stdout, recordings, dir, seed)
	}
	return err
}
