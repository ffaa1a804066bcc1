// Command peers compares Freshet with its ceiling and its peers, all in one run
// on this machine, and writes the figures with a description of the host.
//
// It is a module of its own, so that the peers' dependencies stay out of the product's.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.root, "root", "../..", "folder of the product's module")
	flag.StringVar(&o.out, "out", "", "folder for NAME.json and NAME.md; empty writes none")
	flag.StringVar(&o.name, "name", "host", "name of the result files")
	flag.StringVar(&o.work, "work", "", "folder that the sides write to; empty for the system's temporary one")
	flag.StringVar(&o.only, "only", "abcdefghij", "letters of the comparisons to run")
	flag.IntVar(&o.brokerEvents, "broker-events", 100_000, "payments of comparison (k)")
	flag.StringVar(&o.brokerNames, "brokers", "", "brokers of comparison (k), by the names of their scripts in test/servers, with commas between; empty for all")
	flag.StringVar(&o.brokerParts, "broker-parts", "", "parts of comparison (k): clients, pipeline, Bento, latency; empty for all")
	flag.StringVar(&o.arrivals, "arrivals", "", "folder with the traces of comparison (n), which bench/batching names; empty takes generated arrivals alone")
	flag.IntVar(&o.keys, "keys", 1_000_000, "keys of comparison (h)")
	flag.IntVar(&o.slidingEvents, "sliding-events", 4_500_000, "events of comparison (h)")
	flag.Int64Var(&o.stateBytes, "state", 1_000_000_000, "bytes of state of comparison (i)")
	flag.StringVar(&o.sliding, "sliding", "", "run this engine of comparison (h) alone, in this process, and print its result as JSON")
	flag.IntVar(&o.runs, "runs", 3, "runs of each side")
	flag.IntVar(&o.events, "events", 1_000_000, "events of a run of the fast sides")
	flag.DurationVar(&o.limit, "limit", 3*time.Second, "longest run of the slow sides")
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the pipeline's last run in (b), or of the last restore in (i)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if o.sliding != "" {
		err = slidingChild(ctx, o)
	} else {
		err = compare(ctx, o, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "peers: %v\n", err)
		os.Exit(1)
	}
}
