package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
)

const (
	killDir     = "FRESHET_JOURNAL_KILL_DIR"
	killWriters = 4
)

// TestMain runs the victim of TestKillLosesNothingAcknowledged where it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		os.Exit(publishUntilKilled(dir))
	}
	os.Exit(m.Run())
}

// publishUntilKilled publishes from several goroutines, each its own numbers in
// order, in transactions over two topics, and prints what was acknowledged.
func publishUntilKilled(dir string) int {
	ctx := context.Background()
	j, err := journal.Open(dir, journal.Options{SegmentBytes: 256 << 10, Interval: 20 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, name := range []string{"a", "b"} {
		if err := j.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: killWriters}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for w := range killWriters {
		wg.Go(func() {
			s, err := j.Describe(ctx, "a", "")
			for n := s.Partitions[w].End; err == nil; n++ {
				recs := []event.Record{{Value: fmt.Appendf(nil, "%d %s", n, strings.Repeat("v", rand.IntN(500)))}}
				err = j.Commit(ctx, &broker.Tx{Publish: []broker.Publication{
					{Topic: "a", Partition: w, Records: recs}, {Topic: "b", Partition: w, Records: recs},
				}})
				out.Lock()
				fmt.Printf("%d %d\n", w, n)
				out.Unlock()
			}
			fmt.Fprintln(os.Stderr, err)
		})
	}
	wg.Wait()
	return 1
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := [killWriters]int64{}
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(pipe)
		stop := 50 + rand.IntN(600) // acknowledgements until the kill
		for n := 0; ; n++ {
			if n == stop {
				_ = cmd.Process.Kill()
			}
			line, err := lines.ReadString('\n')
			if err != nil { // what was printed before the kill counts
				if err != io.EOF || n < stop {
					t.Fatalf("round %d: the victim ended by itself: %v", round, err)
				}
				break
			}
			var w, v int64
			if _, err := fmt.Sscanf(line, "%d %d", &w, &v); err != nil {
				t.Fatal(err)
			}
			acked[w] = v + 1
		}
		_ = cmd.Wait()
		j := open(t, dir, journal.Options{})
		a, b := observe(t, j, nil)["a"], observe(t, j, nil)["b"]
		for w := range killWriters {
			va, vb := a.parts[w].values, b.parts[w].values
			if len(va) != len(vb) || int64(len(va)) < acked[w] || int64(len(va)) > acked[w]+1 {
				t.Fatalf("round %d, writer %d: %d and %d records, %d acknowledged", round, w, len(va), len(vb), acked[w])
			}
			for n := range va {
				if va[n] != vb[n] || !strings.HasPrefix(va[n], fmt.Sprint(n, " ")) {
					t.Fatalf("round %d, writer %d: record %d is %.20q and %.20q", round, w, n, va[n], vb[n])
				}
			}
			acked[w] = int64(len(va))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
