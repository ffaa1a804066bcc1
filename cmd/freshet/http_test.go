package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker/journal"
)

// serve starts `freshet run` with its HTTP API on a free port.
func serve(t testing.TB, data, pipeline string) (url string, kill func()) {
	t.Helper()
	cmd := command(t, data, "run", pipeline, "--listen", "127.0.0.1:0", "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			cmd.Process.Kill()
			_ = cmd.Wait() // killed on purpose
		}
	}
	t.Cleanup(kill)
	within(t, 20*time.Second, "start of freshet run", func() bool {
		owner, held, err := journal.FindOwner(data)
		if err != nil || !held || owner.Address == "" {
			return false
		}
		url = owner.Address
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return url, kill
}

// metrics are the lines of /metrics.
func metrics(t testing.TB, url string) []string {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// metric is the sum of a metric's series.
func metric(t testing.TB, url, name string) (sum float64) {
	t.Helper()
	for _, line := range metrics(t, url) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

func payment(id int) string {
	return fmt.Sprintf(`{"transaction_id":%d,"tx_datetime":"2026-01-05T12:00:%02d","customer_id":%d,"terminal_id":3,"tx_amount":%d.5}`, id, id%60, id%7, id%90)
}

func post(t *testing.T, url string, body string) {
	t.Helper()
	resp, err := http.Post(url+"/topics/transactions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("posting answers %s", resp.Status)
	}
}

func TestWhatWasPostedSurvivesAKillRightAfterTheAnswer(t *testing.T) {
	data := t.TempDir()
	posted := 0
	for range 3 {
		url, kill := serve(t, data, pipelineFile)
		for range 20 {
			posted++
			post(t, url, payment(posted))
		}
		kill()
	}
	freshet(t, data, "run", pipelineFile, "--until-idle", "--listen", "off")
	got := map[string]bool{}
	for _, r := range consume(t, data, "scored-transactions") {
		got[r.SourceID] = true
	}
	for i := 1; i <= posted; i++ {
		if !got[fmt.Sprint(i)] {
			t.Errorf("event %d was answered and is lost", i)
		}
	}
	if all := consume(t, data, "scored-transactions"); len(all) != posted {
		t.Errorf("%d results for %d events", len(all), posted)
	}
}

func TestResultsAreFollowedOverHTTP(t *testing.T) {
	data := t.TempDir()
	url, _ := serve(t, data, pipelineFile)
	resp, err := http.Get(url + "/topics/scored-transactions?from=earliest&follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := 1; i <= 5; i++ {
		post(t, url, payment(i))
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.SourceID != fmt.Sprint(i) || r.Score == nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
	}
	want := map[string]bool{
		`freshet_predictions_total{arm="champion",model="fraud-risk",pipeline="card-fraud",step="fraud-risk",version="1.0.0"} 5`: true,
		`freshet_consumer_lag{pipeline="card-fraud",topic="transactions"} 0`:                                                     true,
		`freshet_consumer_lag{pipeline="card-fraud",topic="card-fraud-by-terminal_id"} 0`:                                        true,
	}
	for _, line := range metrics(t, url) {
		delete(want, line)
	}
	for line := range want {
		t.Errorf("/metrics lacks %s", line)
	}
	// The folder is in use: commands go through the process that holds it.
	if out := freshet(t, data, "consume", "scored-transactions", "--output", "json"); strings.Count(out, "\n") != 5 {
		t.Errorf("consume beside a running pipeline gives\n%s", out)
	}
	cmd := command(t, data, "run", pipelineFile)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("a second run on the folder says %q", out)
	}
}
