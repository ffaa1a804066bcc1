package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/pipeline"
)

const example = "../../examples/card-fraud/pipeline.yaml"

// freeAddress is an address that nobody listens on at this moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestExampleScoresEveryPaymentOnce(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	payments := must(t, "", "produce", "--print", "--generate", "card-fraud", "--count", "3000")
	all := strings.SplitAfter(payments, "\n")
	all[10] = "{\"transaction_id\":10,broken\n"
	all[20] = "\n"
	all[30] = strings.Replace(all[30], `"tx_amount":`, `"tx_amount":-`, 1)
	file := write(t, "payments.jsonl", strings.Join(all, ""))
	must(t, "", "produce", "--pipeline", example, file, "--data", data)
	out := must(t, "", "run", example, "--until-idle", "--listen", "off", "--data", data, "-o", "json")
	var s runSummary
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Events != 3000 || s.Predictions != 2997 || s.DeadLetters == nil {
		t.Errorf("summary: %s", out)
	}
	results := lines(must(t, "", "consume", "scored-transactions", "--data", data))
	letters := lines(must(t, "", "consume", "card-fraud-dead-letters", "--data", data))
	if len(results) != 2997 || len(letters) != 3 {
		t.Errorf("%d results and %d dead letters", len(results), len(letters))
	}
	for _, l := range letters {
		var v map[string]any
		if err := json.Unmarshal([]byte(l), &v); err != nil || v["reason"] == nil || v["origin"] == nil {
			t.Errorf("dead letter %s (%v)", l, err)
		}
	}
	// A second run has nothing to do.
	out = must(t, "", "run", example, "--until-idle", "--listen", "off", "--data", data)
	if !strings.HasPrefix(out, "card-fraud: 0 events, 0 predictions, 0 dead letters in ") {
		t.Errorf("second run: %s", out)
	}
}

func TestRunServesUntilInterruptedAndOtherCommandsGoThroughIt(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	env := map[string]string{"FRESHET_TOKEN": "secret"}
	addr := freeAddress(t)
	r := begin(t, "", env, "run", example, "--listen", addr, "--data", data)
	r.until(t, r.err, "address=http://"+addr)

	get := func(path string) (int, string) {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b := new(strings.Builder)
		if _, err := fmt.Fprint(b, res.Status); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 1<<16)
		n, _ := res.Body.Read(body)
		return res.StatusCode, string(body[:n])
	}
	deadline := time.Now().Add(30 * time.Second)
	for code, body := get("/readyz"); code != http.StatusOK; code, body = get("/readyz") {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %d %s", code, body)
		}
	}
	o := begin(t, "", env, "produce", "--pipeline", example, "--generate", "card-fraud", "--count", "1500", "--data", data).wait(t)
	if o.code != exitDone || !strings.HasPrefix(o.out, "sent 1,500 events to transactions") {
		t.Fatalf("produce: %+v", o)
	}
	o = begin(t, "not JSON\n", env, "produce", "--pipeline", example, "-", "--data", data).wait(t)
	if o.code != exitDone {
		t.Fatalf("produce: %+v", o)
	}
	o = begin(t, "", env, "produce", "--pipeline", example, "--generate", "card-fraud", "--count", "1500", "--data", data, "-o", "json").wait(t)
	if !strings.Contains(o.out, `"duplicates":1500`) {
		t.Errorf("sent again: %+v", o)
	}
	o = begin(t, "", env, "consume", "scored-transactions", "--follow", "--limit", "1500", "--data", data).wait(t)
	if o.code != exitDone || len(lines(o.out)) != 1500 {
		t.Errorf("consume: code %d, %d lines: %s", o.code, len(lines(o.out)), o.err)
	}
	o = begin(t, "", env, "consume", "card-fraud-dead-letters", "--follow", "--limit", "1", "--data", data).wait(t)
	if o.code != exitDone || !strings.Contains(o.out, `"reason"`) {
		t.Errorf("consume: %+v", o)
	}
	o = begin(t, "", env, "topics", "describe", "transactions", "--group", "card-fraud", "--data", data, "-o", "json").wait(t)
	if o.code != exitDone || !strings.Contains(o.out, `"events":1501`) {
		t.Errorf("topics: %+v", o)
	}
	o = begin(t, "", nil, "topics", "--data", data).wait(t)
	if o.code != exitUsage || !strings.Contains(o.err, "FRESHET_TOKEN") {
		t.Errorf("without the token: %+v", o)
	}
	o = begin(t, "", env, "topics", "delete", "transactions", "--data", data).wait(t)
	if o.code != exitUsage || !strings.Contains(o.err, "stop that process first") {
		t.Errorf("delete: %+v", o)
	}
	o = begin(t, "", env, "run", example, "--listen", "off", "--data", data).wait(t)
	if o.code != exitFailed || !strings.Contains(o.err, "in use") {
		t.Errorf("a second run on the folder: %+v", o)
	}
	if _, body := get("/metrics"); !strings.Contains(body, "freshet_") && !strings.Contains(body, "go_") {
		t.Errorf("metrics: %s", body)
	}
	r.interrupt()
	o = r.wait(t)
	if o.code != exitDone || !strings.HasPrefix(o.out, "card-fraud: 1,501 events, 1,500 predictions, 1 dead letters") {
		t.Errorf("interrupted: %+v", o)
	}
}

func TestRunSaysWhatWasLateFilledAndNotFound(t *testing.T) {
	s := pipeline.Stats{
		Name: "p", Consumed: 2000, Predictions: 1990, DeadLetters: map[string]uint64{"schema": 7},
		Late: 3, LatePolicy: pipeline.LateDrop, Filled: 1200,
		Tables: []pipeline.TableStats{{Name: "merchants", Found: 1980, Missing: 10}, {Name: "devices", Failed: 5}},
	}
	want := "p: 2,000 events, 1,990 predictions, 7 dead letters (schema 7), 1,200 rows filled, 3 late (dropped), 5 look-ups in devices failed in 2.0 s, 1,000 events/s"
	if d := cmp.Diff(want, summaryLine(s, 2*time.Second)); d != "" {
		t.Error(d)
	}
	want = "2,000 events  1,000 events/s  1,990 predictions  7 dead letters  3 late  freshness p99 0.00 ms  lag 12, the oldest 3.0 ms"
	if d := cmp.Diff(want, progressLine(s, broker.Lag{Records: 12, OldestAge: 3 * time.Millisecond}, 2*time.Second)); d != "" {
		t.Error(d)
	}
}

func TestTopicsOfAPipelinesOwnAreShownOnRequest(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "", "produce", "--pipeline", example, "--generate", "card-fraud", "--count", "100", "--data", data)
	out := must(t, "", "run", example, "--until-idle", "--listen", "off", "--data", data, "-o", "json")
	var s runSummary
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Predictions != 100 || s.LatePolicy != "score" {
		t.Errorf("summary: %s (%v)", out, err)
	}
	short := must(t, "", "topics", "--data", data)
	if strings.Contains(short, "card-fraud-by-") || !strings.HasSuffix(short, "\n3 more are internal to pipelines: --all shows them\n") {
		t.Errorf("topics:\n%s", short)
	}
	one := must(t, "", "topics", "describe", "card-fraud-by-terminal_id", "--group", "card-fraud", "--data", data)
	if !strings.HasPrefix(one, "topic             card-fraud-by-terminal_id, internal to a pipeline\nrecords ") || !strings.HasSuffix(one, "group card-fraud: all records processed\n") {
		t.Errorf("described as:\n%s", one)
	}
	all := must(t, "", "topics", "--all", "--data", data)
	if n := strings.Count(all, "  internal\n"); n != 3 {
		t.Errorf("%d internal topics:\n%s", n, all)
	}
	var infos []topicInfo
	if err := json.Unmarshal([]byte(must(t, "", "topics", "list", "--data", data, "-o", "json")), &infos); err != nil {
		t.Fatal(err)
	}
	internal := map[string]bool{}
	for _, i := range infos {
		if i.Internal {
			internal[i.Topic] = true
		}
	}
	want := map[string]bool{"card-fraud-state": true, "card-fraud-by-terminal_id": true, "card-fraud-by-terminal_id-state": true}
	if d := cmp.Diff(want, internal); d != "" {
		t.Error(d)
	}
}

func TestBusyPortIsOneClearError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{{"run", example}, {"broker"}} {
		o := exec(t, "", append(args, "--listen", l.Addr().String(), "--data", filepath.Join(t.TempDir(), "data"))...)
		if o.code != exitFailed || !strings.Contains(o.err, "the port is in use") || !strings.Contains(o.err, "--listen") || strings.Count(o.err, "\n") != 1 {
			t.Errorf("%v: %+v", args, o)
		}
	}
}

func TestAddressThatOthersReachNeedsTokenAndTLS(t *testing.T) {
	o := exec(t, "", "broker", "--listen", "0.0.0.0:0", "--data", filepath.Join(t.TempDir(), "data"))
	if o.code != exitUsage || !strings.Contains(o.err, "FRESHET_TOKEN") || !strings.Contains(o.err, "--tls-cert") {
		t.Errorf("%+v", o)
	}
}

func TestBrokerServesItsTopics(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "", "topics", "create", "clicks", "--partitions", "2", "--data", data)
	addr := freeAddress(t)
	r := begin(t, "", nil, "broker", "--listen", addr, "--data", data)
	r.until(t, r.err, "address=http://"+addr)
	res, err := http.Post("http://"+addr+"/topics/clicks?id=id", "application/json", strings.NewReader(`{"id":1}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("POST: %s", res.Status)
	}
	if out := must(t, "", "consume", "clicks", "--data", data); out != "{\"id\":1}\n" {
		t.Errorf("through the broker: %q", out)
	}
	if out := must(t, "", "consume", "clicks", "--from", "1h", "--data", data); out != "{\"id\":1}\n" {
		t.Errorf("by time: %q", out)
	}
	o := exec(t, "", "consume", "clicks", "--group", "g", "--data", data)
	if o.code != exitUsage || !strings.Contains(o.err, "groups are not offered over HTTP") {
		t.Errorf("group: %+v", o)
	}
	follow := begin(t, "", nil, "consume", "clicks", "--follow", "--data", data)
	follow.until(t, follow.out, `{"id":1}`)
	must(t, "{\"id\":2}\n", "produce", "clicks", "--id", "id", "--data", data)
	follow.until(t, follow.out, `{"id":2}`)
	follow.interrupt()
	if o := follow.wait(t); o.code != exitDone {
		t.Errorf("following, interrupted: %+v", o)
	}
	r.interrupt()
	if o := r.wait(t); o.code != exitDone {
		t.Errorf("%+v", o)
	}
	if out := must(t, "", "consume", "clicks", "--data", data); len(lines(out)) != 2 {
		t.Errorf("after the broker: %q", out)
	}
}

func TestLintShowsPlaceFaultAndRemedy(t *testing.T) {
	if out := must(t, "", "lint", example); out != example+": ok\n" {
		t.Errorf("got %q", out)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(text), "freshness:", "freshnes:", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	o := exec(t, "", "lint", bad)
	if o.code != exitUsage || o.err != "" || !regexp.MustCompile(`bad\.yaml:\d+:\d+: .*freshnes.*\n    did you mean "freshness"\?`).MatchString(o.out) {
		t.Errorf("%+v", o)
	}
	o = exec(t, "", "lint", bad, example, "--output", "json")
	var faults []map[string]any
	if err := json.Unmarshal([]byte(o.out), &faults); err != nil || o.code != exitUsage || len(faults) == 0 || faults[0]["line"] == 0.0 {
		t.Errorf("%+v (%v)", o, err)
	}
}

func TestPipelineCasesAreRun(t *testing.T) {
	good := write(t, "good.yaml", `cases:
  - name: an honest payment
    events:
      - send: {transaction_id: 1, tx_datetime: "2018-04-02T12:00:00", customer_id: 7, terminal_id: 3, tx_amount: 20.5}
        expect: {source_id: "1", features: {customer_tx_1d: 1, customer_amount_1d: 20.5}}
      - send: not JSON
`)
	if out := must(t, "", "test", example, good); !strings.HasPrefix(out, "ok    an honest payment\n1 passed, 0 failed") {
		t.Errorf("got %q", out)
	}
	bad := write(t, "bad.yaml", `cases:
  - name: a wrong count
    events:
      - send: {transaction_id: 1, tx_datetime: "2018-04-02T12:00:00", customer_id: 7, terminal_id: 3, tx_amount: 20.5}
        expect: {features: {customer_tx_1d: 2}}
`)
	o := exec(t, "", "test", example, good, bad)
	if o.code != exitFailed || o.err != "" || !strings.Contains(o.out, "FAIL  a wrong count") || !strings.Contains(o.out, "customer_tx_1d: expected 2, got 1") {
		t.Errorf("%+v", o)
	}
	var results []map[string]any
	o = exec(t, "", "test", example, good, bad, "-o", "json")
	if err := json.Unmarshal([]byte(o.out), &results); err != nil || o.code != exitFailed || len(results) != 2 {
		t.Errorf("%+v (%v)", o, err)
	}
}

func TestJournalIsCheckedAndDamageHasItsPlace(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	fill(t, data, "clicks", 0, 100)
	if out := must(t, "", "journal", "check", "--data", data); !strings.Contains(out, "clicks  1           100") || !strings.Contains(out, data+": ok: 1 segments") {
		t.Errorf("got %q", out)
	}
	if o := exec(t, "", "journal", "check", filepath.Join(data, "none")); o.code != exitFailed || !strings.Contains(o.err, "no such folder") {
		t.Errorf("a missing folder: %+v", o)
	}
	var segment string
	err := filepath.WalkDir(data, func(path string, e os.DirEntry, err error) error {
		if i, ierr := e.Info(); ierr == nil && !e.IsDir() && i.Size() > 500 && segment == "" {
			segment = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), `{"id":50}`)
	if i < 0 {
		t.Fatalf("no event in %s", segment)
	}
	b[i+3] ^= 1
	if err := os.WriteFile(segment, b, 0o644); err != nil {
		t.Fatal(err)
	}
	o := exec(t, "", "journal", "check", "--data", data, "-o", "json")
	var r journalReport
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || o.code != exitFailed || r.Damage == nil || r.Damage.File == "" {
		t.Errorf("%+v (%v)", o, err)
	}
	if !strings.Contains(o.err, "damaged at "+segment) {
		t.Errorf("standard error: %s", o.err)
	}
}

func TestInterruptedProduceKeepsWhatItSent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r := beginAs(t, "", nil, 80, "produce", "t", "--generate", "card-fraud", "--rate", "1000", "--data", data, "-o", "json")
	some := regexp.MustCompile(`[\r ][1-9][0-9,]* events `) // as the progress tells
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !some.MatchString(r.err.String()); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("nothing is sent; standard error:\n%s", r.err.String())
		}
	}
	r.interrupt()
	o := r.wait(t)
	var p produced
	if err := json.Unmarshal([]byte(o.out), &p); err != nil || o.code != exitFailed || p.Sent == 0 || p.Sent != p.Events {
		t.Fatalf("%+v (%v)", o, err)
	}
	if n := len(lines(must(t, "", "consume", "t", "--data", data))); int64(n) != p.Sent {
		t.Errorf("%d events stored, %d sent", n, p.Sent)
	}
}

func TestDemoAccountsForEveryEvent(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"demo", "card-fraud", "--duration", "1s", "--rate", "2000", "--history", "2", "--customers", "500", "--data", data}
	out := must(t, "", args...)
	for _, want := range []string{"every event accounted for", "predictions", "freshness     p50", "were damaged on purpose", "freshet consume fraud-alerts"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	// What the summary says to try next has to work, also by name.
	for _, l := range regexp.MustCompile(`(?m)^  freshet (.*)$`).FindAllStringSubmatch(out, -1) {
		words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(l[1], -1)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		must(t, "", words...)
	}
	must(t, "", "test", filepath.Join(data, "example", "pipeline.yaml"))
	out = must(t, "", args...)
	if !strings.Contains(out, data+"-2") {
		t.Errorf("a second demo uses the first one's folder:\n%s", out)
	}
}

func TestInterruptedDemoDrainsAndSumsUp(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r := beginAs(t, "", nil, 100, "demo", "card-fraud", "--duration", "1h", "--rate", "500", "--history", "1", "--customers", "200", "--data", data)
	r.until(t, r.out, "live: 500 payments/s")
	r.until(t, r.out, "\x1b[16A") // the picture is drawn over the one before
	r.interrupt()
	o := r.wait(t)
	if o.code != exitDone || !strings.Contains(o.out, "every event accounted for") {
		t.Errorf("code %d, %s\n%s", o.code, o.out, o.err)
	}
}

func TestProgressIsShownOnATerminalOnly(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	o := beginAs(t, "", nil, 80, "produce", "t", "--generate", "card-fraud", "--count", "500", "--rate", "1000", "--data", data).wait(t)
	if !strings.Contains(o.err, "\r[") || !strings.HasSuffix(o.err, "\r\x1b[K") {
		t.Errorf("on a terminal: %q", o.err)
	}
	o = exec(t, "", "produce", "t", "--generate", "card-fraud", "--count", "500", "--rate", "1000", "--data", data)
	if o.err != "" {
		t.Errorf("elsewhere: %q", o.err)
	}
}

func TestDemoPictures(t *testing.T) {
	f := demoFrame{elapsed: 12 * time.Second, rate: 5012}
	f.phaseName, f.alerts, f.trueAlerts, f.fraudCount, f.simulated = "live: 5,000 payments/s", 40, 30, 60, 1525435200
	f.stats.Consumed, f.stats.Predictions = 301_234, 300_934
	f.stats.DeadLetters = map[string]uint64{"invalid_json": 100, "contract": 200}
	f.lag.Records, f.lag.OldestAge = 12, 3*time.Millisecond
	f.began = time.Unix(0, 0)
	f.liveSince = time.Unix(4, 0)
	f.last = []alert{{SourceID: "300100", Time: "2018-05-04T12:00:00Z", Score: 0.98}}
	golden(t, "demo", strings.Join(append(f.lines(demoFlags{duration: 20 * time.Second}), "", f.line(), ""), "\n"))
}

func TestDamagedPaymentIsNeverTheSame(t *testing.T) {
	p := `{"transaction_id":12,"tx_datetime":"2018-04-01T00:00:31","customer_id":596,"terminal_id":3156,"tx_amount":57.06,"tx_fraud":1,"tx_fraud_scenario":2}`
	seen := map[string]bool{p: true}
	for i := range damages {
		got := string(damage([]byte(p), i))
		if seen[got] {
			t.Errorf("damage %d: %s", i, got)
		}
		seen[got] = true
	}
	if d := cmp.Diff(len(damages)+1, len(seen)); d != "" {
		t.Error(d)
	}
}
