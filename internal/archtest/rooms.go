package archtest

import "strings"

// kind is what a room is, where it matters for the arrows.
type kind uint8

const (
	plain   kind = iota
	port         // broker, inference: shows no type of a dependency
	adapter      // a child of a port
	suite        // a port's exported conformance tests
)

// room is a package with everything below it. Rooms import rooms of lower layers.
type room struct {
	path  string
	layer int
	kind  kind
	// wordsOnly: standard library only.
	wordsOnly bool
	// seesAdapters: may import adapters outside of tests.
	seesAdapters bool
	// forTests: tests of every room may import it.
	forTests bool
}

// rooms is the picture, from the ground up. A child of a port that is not
// listed is an adapter. A new room is a line here and in docs/ARCHITECTURE.md.
var rooms = []room{
	{path: "errkind", layer: 0, wordsOnly: true},
	{path: "internal/histogram", layer: 0, wordsOnly: true},
	{path: "internal/spell", layer: 0, wordsOnly: true},
	{path: "internal/jsonscan", layer: 0, wordsOnly: true},
	{path: "internal/backoff", layer: 1, wordsOnly: true},
	{path: "internal/endpoint", layer: 1, wordsOnly: true},
	{path: "event", layer: 1, wordsOnly: true},
	{path: "contract", layer: 2},
	{path: "expr", layer: 2},
	{path: "broker", layer: 3, kind: port},
	{path: "bus", layer: 3, kind: port},
	{path: "inference", layer: 3, kind: port},
	{path: "lookup", layer: 3, kind: port},
	{path: "state", layer: 3, kind: port},
	{path: "broker/brokertest", layer: 4, kind: suite},
	{path: "bus/bustest", layer: 4, kind: suite},
	{path: "inference/inferencetest", layer: 4, kind: suite},
	{path: "lookup/lookuptest", layer: 4, kind: suite},
	{path: "state/statetest", layer: 4, kind: suite},
	{path: "feature", layer: 5},
	{path: "bridge", layer: 5},
	{path: "model", layer: 5},
	{path: "model/mlflow", layer: 6},
	{path: "lineage", layer: 5},
	{path: "pipeline", layer: 6},
	// The orchestrator knows no pipeline: it states the interfaces that it needs.
	{path: "orchestrator", layer: 4},
	{path: "orchestrator/trace", layer: 5},
	{path: "orchestrator/forecast", layer: 6},
	{path: "orchestrator/actuator", layer: 5, kind: port},
	{path: "orchestrator/actuator/actuatortest", layer: 6, kind: suite},
	// The clusters that tests of its adapters run on.
	{path: "orchestrator/actuator/internal/clustertest", layer: 11, forTests: true},
	{path: "orchestrator/observe", layer: 5},
	{path: "orchestrator/policy", layer: 6},
	{path: "orchestrator/simulate", layer: 6, forTests: true},
	{path: "orchestrator/learn", layer: 7},
	{path: "internal/builtin", layer: 7, seesAdapters: true, forTests: true},
	{path: "console", layer: 7},
	{path: "bench", layer: 8, seesAdapters: true},
	{path: "internal/cli", layer: 9},
	{path: "cmd", layer: 10},
	// The process beside freshet that an adapter starts.
	{path: "cmd/freshet-onnxruntime", layer: 10, seesAdapters: true},
	{path: "examples", layer: 10, seesAdapters: true},
	// The embedded example is data: the demo carries it.
	{path: "examples/card-fraud", layer: 0, wordsOnly: true},
	{path: "internal/archtest", layer: 10},
	// Starts the servers that tests talk to.
	{path: "test/servers", layer: 10, wordsOnly: true, forTests: true},
	// Models with their frameworks' predictions: tests of every runtime read them.
	{path: "test/frameworks", layer: 4, forTests: true},
	// Makes docs/DELIVERY.md.
	{path: "test/delivery", layer: 11},
	{path: "test/scaleout", layer: 10},
}

// emptyNames are package names that say nothing about what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "interfaces"}

// roomOf returns the innermost room that a package lies in; nil where it lies in none.
func roomOf(dir string) *room {
	var best *room
	for i := range rooms {
		r := &rooms[i]
		if dir == r.path || strings.HasPrefix(dir, r.path+"/") {
			if best == nil || len(r.path) > len(best.path) {
				best = r
			}
		}
	}
	if best == nil || best.kind != port || dir == best.path {
		return best
	}
	child, _, _ := strings.Cut(strings.TrimPrefix(dir, best.path+"/"), "/")
	if child == "internal" {
		return best // the port's own
	}
	return &room{path: best.path + "/" + child, layer: best.layer + 1, kind: adapter}
}

func isPort(dir string) bool {
	r := roomOf(dir)
	return r != nil && r.kind == port && r.path == dir
}
