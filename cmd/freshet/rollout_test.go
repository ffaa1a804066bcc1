package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

const (
	// streamRate is how many events a second are sent while versions change, where the machine bears it.
	streamRate = 20_000
	// streamAhead is how many events may wait before less is sent.
	streamAhead = streamRate
	// stateSlack is how long after a change of the registry what was served before may still be published.
	stateSlack = 15 * time.Second
)

// rolloutPipeline leaves the gate on service time out: how soon its 99th percentiles
// can be told apart depends on what else the machine does.
const rolloutPipeline = `
name: payments
freshness: {target: 30s}
source:
  topic: transactions
  contract: %s
  key: customer_id
steps:
  - features:
      payments: {by: customer_id, count: true, over: 24h}
  - infer:
      model: risk
      inputs: {amount: tx_amount, payments: payments}
      outputs: {score: value}
      fallback: {value: 0.5}
      rollout: {key: customer_id, steps: [0.1, 0.5], hold: 3s, gates: {slower: -1}}
  - route: [{to: scored}]
`

// rolloutVersions are a first version, one that fails on the third payment of a
// day, and one that is as good as the first.
var rolloutVersions = []string{
	`"amount > 220.0 ? 0.9 : 0.1"`,
	`"payments % 7 == 3 && 1 / (payments - payments) > 0 ? 1.0 : (amount > 220.0 ? 0.9 : 0.1)"`,
	`"amount > 220.0 ? 0.9 : (payments > 10 ? 0.15 : 0.1)"`,
}

// TestVersionsChangeWhileEventsFlow adds versions of a model while payments flow,
// tries them out on a share of the customers, one after another, and kills the
// process on the way. The worse version is rolled back by its gates and the better
// one promoted; each event has one result, and the record names the version that gave it.
func TestVersionsChangeWhileEventsFlow(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: half a minute of payments at 20,000 a second")
	}
	dir, data := t.TempDir(), t.TempDir()
	contract, err := filepath.Abs("../../examples/card-fraud/contracts/card-transaction.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, dir, "pipeline.yaml", fmt.Sprintf(rolloutPipeline, contract))
	golden := writeFile(t, dir, "golden.json", `{"inputs":{"amount":[10,500],"payments":[1,2]},"outputs":{"score":[0.1,0.9]},"nan_outputs":true}`)
	add := func(version int) {
		t.Helper()
		rule := writeFile(t, dir, strconv.Itoa(version)+".rule.yaml", "inputs: {amount: float, payments: int}\noutputs: {score: "+rolloutVersions[version-1]+"}\n")
		freshet(t, data, "models", "add", "risk", rule, "--golden", golden)
	}
	add(1)
	freshet(t, data, "models", "promote", "risk", "1")
	models := &builtin.Models{Cache: t.TempDir()}
	registry, err := models.Source(t.Context(), "file://"+filepath.Join(data, "models"))
	if err != nil {
		t.Fatal(err)
	}
	defer models.Close()
	awaitState := func(what string, done func(*model.State) bool) *model.State {
		t.Helper()
		var s *model.State
		began := time.Now()
		within(t, 3*time.Minute, what, func() bool {
			if s, err = registry.State(t.Context(), "risk"); err != nil {
				t.Fatal(err)
			}
			if !done(s) && time.Since(began) > 2*time.Minute {
				if e, err := model.Seen(t.Context(), registry, "risk", s); err == nil && e.Decision != nil {
					t.Fatalf("%s: not within 2 minutes: step %d of version %s, %s", what, s.Rollout.Step, s.Rollout.Version, e.Decision.Reason)
				}
			}
			return done(s)
		})
		return s
	}

	url, kill := serve(t, data, file)
	flow := startStream(t, url)
	within(t, time.Minute, "predictions of the first version", func() bool { return metric(t, url, "freshet_predictions_total") >= streamRate })

	add(2)
	freshet(t, data, "models", "promote", "risk", "2", "--canary", "10%")
	s := awaitState("the end of the worse version", func(s *model.State) bool { return !s.Rollout.Running() })
	worse := *s.Rollout
	if worse.Outcome != model.RolledBack || s.Champion != "1" || worse.Step != 0 || !strings.Contains(s.Why, "errors failed") {
		t.Fatalf("the worse version is %s at step %d: %s", worse.Outcome, worse.Step, s.Why)
	}

	add(3)
	freshet(t, data, "models", "promote", "risk", "3", "--canary", "10%")
	awaitState("the second step of the better version", func(s *model.State) bool { return s.Rollout.Step > 0 || !s.Rollout.Running() })
	kill()
	url, kill = serve(t, data, file)
	flow.to(url)
	s = awaitState("the promotion of the better version", func(s *model.State) bool { return !s.Rollout.Running() })
	better := *s.Rollout
	if better.Outcome != model.Promoted || s.Champion != "3" || better.Step != 1 {
		t.Fatalf("the better version is %s at step %d: %s", better.Outcome, better.Step, s.Why)
	}
	within(t, time.Minute, "predictions of the better version as champion", func() bool {
		for _, line := range metrics(t, url) {
			if strings.HasPrefix(line, `freshet_predictions_total{`) && strings.Contains(line, `version="3"`) {
				return true
			}
		}
		return false
	})
	sent, rate := flow.end(t)
	kill()
	freshet(t, data, "run", file, "--until-idle", "--listen", "off")

	var log []*model.State
	if err := json.Unmarshal([]byte(freshet(t, data, "models", "log", "risk", "--output", "json")), &log); err != nil {
		t.Fatal(err)
	}
	a := account{t: t, log: log, rollouts: map[string]*model.Rollout{worse.ID: &worse, better.ID: &better}}
	a.read(data, sent)
	fmt.Printf("%d payments at %.0f/s over two rollouts and two kills: the worse version rolled back %.1f s after it began (%d failed rows had the fallback), the better promoted after %.1f s; one result each, %d, %d and %d of versions 1, 2 and 3 as recorded; %d of %d customers on the first canary, 0 flipped\n",
		sent, rate, worse.Ended.Sub(worse.Began).Seconds(), a.fallbacks, better.Ended.Sub(better.Began).Seconds(), a.versions["1"], a.versions["2"], a.versions["3"],
		a.onCanary[worse.ID], len(a.customers[worse.ID]))
}

func writeFile(t testing.TB, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// stream sends payments to a process that may be killed and started again.
type stream struct {
	stop chan struct{}
	done chan error

	mu   sync.Mutex
	url  string
	sent int64
	busy time.Duration // in which payments were sent
}

// startStream sends payments at streamRate, or as fast as they are scored.
func startStream(t testing.TB, url string) *stream {
	t.Helper()
	g, err := workload.NewCardFraud(workload.CardFraud{Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{url: url, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { s.done <- s.run(g) }()
	return s
}

func (s *stream) to(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = url
}

func (s *stream) target() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

func (s *stream) run(g *workload.Generator) error {
	const tick = 25 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var body []byte
	var p workload.Payment
	last, looked := time.Now(), time.Time{}
	due, room := 0.0, true
	for {
		select {
		case <-s.stop:
			return nil
		case <-ticker.C:
		}
		now := time.Now()
		step := now.Sub(last)
		last = now
		if now.Sub(looked) > 10*tick {
			if waiting, ok := waitingOn(s.target()); ok {
				room, looked = waiting < streamAhead, now
			}
		}
		if !room {
			continue
		}
		due = min(due+step.Seconds()*streamRate, streamRate/4)
		n := int(due)
		due -= float64(n)
		body = body[:0]
		for range n {
			g.Next(&p)
			body = append(p.AppendJSON(body), '\n')
		}
		for !s.post(body) { // what a kill cut short is sent again, and stored once
			select {
			case <-s.stop:
				return fmt.Errorf("the stream ended with %d payments on their way", n)
			case <-ticker.C:
			}
			last = time.Now()
		}
		s.mu.Lock()
		s.sent += int64(n)
		s.busy += step
		s.mu.Unlock()
	}
}

func (s *stream) post(body []byte) bool {
	resp, err := http.Post(s.target()+"/topics/transactions", "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode/100 == 2
}

// waitingOn is the number of events that wait to be scored.
func waitingOn(url string) (n float64, ok bool) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "freshet_consumer_lag{") {
			v, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
			n += v
		}
	}
	return n, err == nil
}

// end stops the stream and returns what was sent, and how much a second.
func (s *stream) end(t testing.TB) (sent int64, rate float64) {
	t.Helper()
	close(s.stop)
	if err := <-s.done; err != nil {
		t.Fatal(err)
	}
	return s.sent, float64(s.sent) / s.busy.Seconds()
}

// account compares results and records with what the registry decided.
type account struct {
	t        testing.TB
	log      []*model.State
	rollouts map[string]*model.Rollout

	versions  map[string]int
	fallbacks int
	customers map[string]map[string]bool // of a rollout: whether a customer has reached the challenger
	onCanary  map[string]int
}

// said is what a record says of an event.
type said struct {
	result, version string
	times           int
}

func (a *account) read(data string, events int64) {
	t := a.t
	t.Helper()
	j, err := journal.Open(data, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(j, broker.Options{})
	defer b.Close()
	a.versions, a.customers, a.onCanary = map[string]int{}, map[string]map[string]bool{}, map[string]int{}
	for id := range a.rollouts {
		a.customers[id] = map[string]bool{}
	}
	records := make([]said, events)
	visit(t, b, "payments-predictions", func(value []byte, at int64) {
		m, err := lineage.Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		a.message(m, time.Unix(0, at), records)
	})
	results := make([]int, events)
	wrong := 0
	visit(t, b, "scored", func(value []byte, _ int64) {
		id, err := strconv.Atoi(textOf(value, "source_id"))
		if err != nil || id < 0 || id >= len(results) {
			t.Fatalf("a result of an event that was not sent: %s", value)
		}
		results[id]++
		if r := &records[id]; r.result != textOf(value, "id") || r.version != textOf(value, "version") {
			if wrong++; wrong <= 3 {
				t.Errorf("the record names version %q and result %s of\n%s", r.version, r.result, value)
			}
		}
		a.versions[textOf(value, "version")]++
	})
	lost, twice := 0, 0
	for id := range results {
		switch {
		case results[id] == 0 || records[id].times == 0:
			lost++
		case results[id] > 1 || records[id].times > 1:
			twice++
		}
	}
	letters := 0
	visit(t, b, "payments-dead-letters", func(value []byte, _ int64) {
		if letters++; letters <= 3 {
			t.Errorf("a dead letter: %s", value)
		}
	})
	if lost+twice+letters+wrong > 0 {
		t.Errorf("of %d events %d are lost, %d there twice, %d dead letters, %d with a version that the record does not name", events, lost, twice, letters, wrong)
	}
	for id, r := range a.rollouts {
		for _, reached := range a.customers[id] {
			if reached {
				a.onCanary[id]++
			}
		}
		if share := float64(a.onCanary[id]) / float64(len(a.customers[id])); r.Step == 0 && (share < 0.07 || share > 0.13) {
			t.Errorf("the canary of %s had %.1f %% of the customers, not 10 %%", r.Version, 100*share)
		}
	}
}

// message looks at the predictions of one frame.
func (a *account) message(m *lineage.Message, published time.Time, records []said) {
	t, b := a.t, &m.Batch
	t.Helper()
	served := a.served(published)
	st := &b.Steps[0]
	for row := range m.Rows {
		id, err := strconv.Atoi(b.IDs[row])
		if err != nil || id >= len(records) {
			t.Fatalf("a record of %q, which was not sent", b.IDs[row])
		}
		arm := &st.Arms[st.Arm[row]]
		records[id].result, records[id].version = string(b.Results[row]), arm.Version
		records[id].times++
		if !served[arm.Version] {
			t.Fatalf("event %d was published at %s with version %s; in service were %v", id, published, arm.Version, slices.Sorted(maps.Keys(served)))
		}
		if st.Path[row] != lineage.Scored {
			if a.fallbacks++; st.Path[row] != lineage.FallbackValue || arm.Version != "2" {
				t.Fatalf("event %d: the path is %s at version %s", id, st.Path[row], arm.Version)
			}
		}
		r := a.rollouts[arm.Rollout]
		if r == nil {
			if arm.Rollout != "" || arm.Role != "champion" {
				t.Fatalf("event %d: %s of the rollout %q", id, arm.Role, arm.Rollout)
			}
			continue
		}
		reached, on := a.customers[r.ID][b.Keys[row]], arm.Version == r.Version
		if on != (arm.Role == "canary") || !on && arm.Version != r.Champion {
			t.Fatalf("event %d: version %s as %s in the rollout %s", id, arm.Version, arm.Role, r.ID)
		}
		if reached && !on {
			t.Fatalf("customer %s went back to the champion within the rollout of %s", b.Keys[row], r.Version)
		}
		a.customers[r.ID][b.Keys[row]] = on
	}
}

// served are the versions in service shortly before a time.
func (a *account) served(at time.Time) map[string]bool {
	all := map[string]bool{}
	for i, s := range a.log {
		if s.Time.After(at) || i+1 < len(a.log) && a.log[i+1].Time.Before(at.Add(-stateSlack)) {
			continue
		}
		all[s.Champion] = true
		if s.Rollout.Running() {
			all[s.Rollout.Version] = true
		}
	}
	return all
}

// visit reads a topic, partition by partition.
func visit(t testing.TB, b *broker.Broker, topic string, each func(value []byte, at int64)) {
	t.Helper()
	info, err := b.Describe(t.Context(), topic, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range info.Partitions {
		r, err := b.Read(t.Context(), topic, i, part.Start)
		if err != nil {
			t.Fatal(err)
		}
		for next := part.Start; next < part.End; {
			batch, err := r.Fetch(t.Context(), 1024)
			if err != nil {
				t.Fatal(err)
			}
			for k := range batch.Records {
				each(batch.Records[k].Value, batch.Records[k].Time)
			}
			next = batch.Next()
			batch.Release()
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// textOf is a text of a result; "" where it has none.
func textOf(result []byte, name string) string {
	_, rest, ok := bytes.Cut(result, []byte(`"`+name+`":"`))
	if !ok {
		return ""
	}
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(text)
}
