package main

import (
	"os"
	"testing"
	"time"

	"github.com/freshet-io/freshet/internal/cli"
)

// asProgram makes the test binary the program under test.
const asProgram = "FRESHET_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(cli.OS()))
	}
	os.Exit(m.Run())
}

// The machinery at work, on the broker that is always there.
func TestJournalLosesNothingWhenTheWorkerIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for several seconds")
	}
	t.Setenv(asProgram, "1")
	s := settings{program: os.Args[0], rate: 200, sending: 3 * time.Second, patience: time.Minute}
	p, err := brokers()[0].open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pipeline := range pipelines {
		c, examples, err := s.cell(t.Context(), p, faults()[1], pipeline)
		if err != nil {
			t.Fatalf("%s: %v", pipeline, err)
		}
		if f := (finding{Counts: c}); !f.sound() || c.Repeats != 0 {
			t.Errorf("%s: %+v %v", pipeline, c, examples)
		}
		t.Logf("%s, 3 kills of the worker: %d events in, %d lost, %d repeated, %d wrong", pipeline, c.In, c.Lost, c.Repeats, c.WrongFeatures)
	}
}
