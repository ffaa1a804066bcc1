package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// asModel makes the test binary a server of a model: it holds the address.
const asModel = "FRESHET_TEST_AS_MODEL"

// serveModel answers {"instances": [[amount], …]} with amount/1000 after 5 ms; after
// SIGUSR1 it takes ten times as long, until the next.
func serveModel(address string) {
	var slow atomic.Bool
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			slow.Store(!slow.Load())
		}
	}()
	handler := func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Instances [][]float64 }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		takes := 5 * time.Millisecond
		if slow.Load() {
			takes *= 10
		}
		time.Sleep(takes)
		var out struct {
			Predictions []float64 `json:"predictions"`
		}
		for _, row := range in.Instances {
			out.Predictions = append(out.Predictions, row[0]/1000)
		}
		_ = json.NewEncoder(w).Encode(out) // a caller that is gone needs no answer
	}
	srv := &http.Server{Addr: address, Handler: http.HandlerFunc(handler), ReadHeaderTimeout: time.Minute}
	fmt.Fprintln(os.Stderr, srv.ListenAndServe())
	os.Exit(1)
}

// modelServer is the server as a process that can be killed, frozen and slowed.
type modelServer struct {
	t       testing.TB
	address string
	cmd     *exec.Cmd
}

func (m *modelServer) start() {
	m.t.Helper()
	m.cmd = exec.CommandContext(m.t.Context(), os.Args[0])
	m.cmd.Env = append(os.Environ(), asModel+"="+m.address)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	within(m.t, 20*time.Second, "start of the model's server", func() bool {
		c, err := net.DialTimeout("tcp", m.address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *modelServer) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

func (m *modelServer) kill() {
	m.signal(syscall.SIGKILL)
	_ = m.cmd.Wait() // killed on purpose
}

const troubled = `name: troubled
freshness: {target: 1s}
source:
  topic: transactions
  contract: %s
  key: customer_id
  partitions: 2
steps:
  - infer:
      model: http://%s/score
      inputs: [tx_amount]
      outputs: {score: score}
      options: {response: {score: predictions}}
      batch: {max: 32}
      timeout: 40ms
      retry: {attempts: 2}
      breaker: {failures: 0.5, calls: 10, pause: 250ms}
      fallback: {expr: "0.5"}
  - route: [{to: scored}]
`

// TestAModelServerInTroubleIsRiddenOut kills, freezes and slows the server of a
// model while events flow, and prints what that was like.
func TestAModelServerInTroubleIsRiddenOut(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: it takes ten seconds of live traffic")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &modelServer{t: t, address: l.Addr().String()}
	l.Close()
	m.start()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill() // it may be gone
		_ = m.cmd.Wait()
	})
	contract, err := filepath.Abs("../../examples/card-fraud/contracts/card-transaction.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, troubled, contract, m.address), 0o644); err != nil {
		t.Fatal(err)
	}
	url, _ := serve(t, data, file)

	sent, stop := 0, make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var body strings.Builder
			for range 10 {
				sent++
				fmt.Fprintf(&body, `{"transaction_id":%d,"tx_datetime":"2026-01-05T12:00:00","customer_id":%d,"terminal_id":3,"tx_amount":%d.5}`+"\n", sent, rand.IntN(50), sent%90)
			}
			resp, err := http.Post(url+"/topics/transactions", "application/x-ndjson", strings.NewReader(body.String()))
			if err != nil || resp.StatusCode/100 != 2 {
				t.Errorf("post: %v %v", resp, err)
				return
			}
			resp.Body.Close()
		}
	}()

	type look struct{ scored, fallback, seconds, results, openings, open float64 }
	see := func() look {
		return look{
			scored: labelled(t, url, "freshet_prediction_paths_total", `path="scored"`), fallback: labelled(t, url, "freshet_prediction_paths_total", `path="fallback_rule"`),
			seconds: metric(t, url, "freshet_arrival_to_publish_seconds_sum"), results: metric(t, url, "freshet_arrival_to_publish_seconds_count"),
			openings: metric(t, url, "freshet_inference_breaker_openings_total"), open: metric(t, url, "freshet_inference_breaker_open"),
		}
	}
	within(t, 20*time.Second, "the first results", func() bool { return see().scored > 50 })
	began, before := time.Now(), see()
	var timeline strings.Builder
	fmt.Fprintf(&timeline, "%8s  %-22s %8s %10s %16s  %s\n", "SECOND", "SERVER", "BY MODEL", "BY FALLBACK", "MEAN FRESHNESS", "BREAKER")
	phase := func(name string, d time.Duration, until func(look) bool) look {
		t.Helper()
		var total look
		for end := time.Now().Add(d); time.Now().Before(end) && (until == nil || !until(total)); {
			time.Sleep(500 * time.Millisecond)
			now := see()
			state := "closed"
			if now.open > 0 {
				state = "open"
			}
			n := max(1, now.results-before.results)
			fmt.Fprintf(&timeline, "%8.1f  %-22s %8.0f %10.0f %13.0f ms  %s, opened %.0f times\n", time.Since(began).Seconds(), name,
				now.scored-before.scored, now.fallback-before.fallback, 1000*(now.seconds-before.seconds)/n, state, now.openings)
			total.scored += now.scored - before.scored
			total.fallback += now.fallback - before.fallback
			before = now
		}
		return total
	}
	recovered := func(l look) bool { return l.scored > l.fallback/8+100 }
	well := phase("well", time.Second, nil)
	m.kill()
	killed := phase("killed", 2*time.Second, nil)
	m.start()
	phase("started again", 20*time.Second, recovered)
	m.signal(syscall.SIGSTOP)
	frozen := phase("frozen", 2*time.Second, nil)
	m.signal(syscall.SIGCONT)
	phase("goes on", 20*time.Second, recovered)
	m.signal(syscall.SIGUSR1)
	slowed := phase("ten times slower", 2*time.Second, nil)
	m.signal(syscall.SIGUSR1)
	phase("quick again", 20*time.Second, recovered)
	again := phase("well", time.Second, nil)
	close(stop)
	<-done
	within(t, 30*time.Second, "the last results", func() bool { return int(metric(t, url, "freshet_results_total")) == sent })
	fmt.Printf("%s%d events, each with one result\n", timeline.String(), sent)
	if well.scored == 0 || again.scored == 0 {
		t.Error("the model scored nothing while its server was well")
	}
	for name, p := range map[string]look{"killed": killed, "frozen": frozen, "slowed": slowed} {
		if p.fallback == 0 {
			t.Errorf("%s: no fallback answered", name)
		}
	}
	if again.fallback > again.scored {
		t.Errorf("at the end %.0f results came from the fallback and %.0f from the model: it has not recovered", again.fallback, again.scored)
	}
	if r := metric(t, url, "freshet_dead_letters_total"); r != 0 {
		t.Errorf("%.0f dead letters", r)
	}
}

// labelled is the sum of a metric's series that have a label.
func labelled(t testing.TB, url, name, label string) (sum float64) {
	t.Helper()
	for _, line := range metrics(t, url) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}
