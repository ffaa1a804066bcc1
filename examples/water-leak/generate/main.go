// Command generate writes simulated telemetry of a water network as one event a
// line, for freshet produce, and its leaks as CSV.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/freshet-io/freshet/examples/water-leak/network"
)

func main() {
	c := network.Config{Leaks: true}
	flag.IntVar(&c.Areas, "areas", 12, "district metered areas")
	flag.IntVar(&c.Days, "days", 42, "days; leaks begin after 14")
	flag.Uint64Var(&c.Seed, "seed", 1, "the simulation's seed; the same seed gives the same events")
	labels := flag.String("leaks", "", "file for the leaks: area, start, repair and flow, as CSV")
	flag.Parse()
	readings, leaks := network.Simulate(c)
	err := writeReadings(os.Stdout, readings)
	if err == nil && *labels != "" {
		err = writeLeaks(*labels, leaks)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func writeReadings(w io.Writer, readings []network.Reading) error {
	buffered := bufio.NewWriter(w)
	lines := json.NewEncoder(buffered)
	for i := range readings {
		if err := lines.Encode(&readings[i]); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

func writeLeaks(path string, leaks []network.Leak) error {
	text := "area_id,start,repaired,flow\n"
	for _, l := range leaks {
		text += fmt.Sprintf("%s,%s,%s,%g\n", l.Area, l.Start.Format(time.RFC3339), l.Repaired.Format(time.RFC3339), l.Flow)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
