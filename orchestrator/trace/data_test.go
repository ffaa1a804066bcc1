package trace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// publicTraces is the folder of the public traces, which are not part of the repository.
func publicTraces() string {
	if d := os.Getenv("FRESHET_SHARED_DATA"); d != "" {
		return filepath.Join(d, "arrivals")
	}
	return filepath.Join("..", "..", "..", "shared", "data", "arrivals")
}

func TestPublicTracesAreRead(t *testing.T) {
	dataDir := publicTraces()
	if _, err := os.Stat(dataDir); err != nil {
		if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
			t.Fatalf("FRESHET_REQUIRE wants the public traces: %v", err)
		}
		t.Skipf("NOT RUN: no public traces: %v", err)
	}
	for _, tc := range []struct {
		file  string
		step  time.Duration
		steps int
		mean  float64 // events a second
		holes int
	}{
		{"alibaba-llm-small-rate.csv", 10 * time.Minute, 2016, 1174.4, 0},
		{"autothrottle-bursty-per-second.txt", time.Second, 3600, 0, 0},
		{"azure-functions-total-per-minute.csv", time.Minute, 1440, 643.939 / 60, 0},
		{"azure-llm-conversation.csv", time.Second, 0, 0, 0},
		{"nasa-http-per-minute.csv", time.Minute, 84332, 41.0472 / 60, 0},
		{"nyc-taxi-half-hourly.csv", 30 * time.Minute, 10320, 0, 0},
		{"twitter-2021-first-half-per-minute.csv", time.Minute, 15825, 3835.73 / 60, 0},
	} {
		t.Run(tc.file, func(t *testing.T) {
			start := time.Now()
			tr, err := Read(filepath.Join(dataDir, tc.file))
			if err != nil {
				t.Fatal(err)
			}
			read := time.Since(start)
			d := tr.Scale(4324).Draw(1, 0)
			t.Logf("%s: %d steps of %s from %s, %.3f/s, %d holes, notes %q; read in %s, %d ticks drawn in %s, mean %.1f", tr.Name, len(tr.Counts), tr.Step, tr.Start, tr.Mean(), tr.Holes(), tr.Notes, read, len(d.Counts), time.Since(start)-read, d.Mean())
			if tr.Step != tc.step || tc.steps > 0 && len(tr.Counts) != tc.steps || tr.Holes() != tc.holes {
				t.Errorf("%d steps of %s with %d holes, expected %d of %s with %d", len(tr.Counts), tr.Step, tr.Holes(), tc.steps, tc.step, tc.holes)
			}
			if m := tr.Mean(); tc.mean > 0 && (m < 0.999*tc.mean || m > 1.001*tc.mean) {
				t.Errorf("mean %f, expected %f", m, tc.mean)
			}
		})
	}
}
