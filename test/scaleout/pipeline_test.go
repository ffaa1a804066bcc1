package scaleout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

const (
	partitions = 8
	customers  = 61
	terminals  = 37
	step       = 5 * time.Millisecond // between two events
	batch      = 10                   // events sent with one call
)

// pipelineText has windows by the source's key and, behind a shuffle, by another one.
const pipelineText = `
name: NAME
source: {topic: NAME-events, contract: contract.schema.json}
steps:
  - features:
      customer_count: {by: customer, count: true, over: 24h}
      customer_sum:   {by: customer, sum: amount, over: 24h}
      terminal_count: {by: terminal, count: true, over: 24h}
      terminal_sum:   {by: terminal, sum: amount, over: 24h}
  - route: [{to: NAME-results}]
outputs:
  NAME-results: {partitions: 4}
`

const contractText = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$id": "https://freshet.io/test/scaleout/contract.schema.json",
  "title": "Numbered event",
  "x-freshet": {"version": "1.0.0", "id": "id", "key": "customer", "time": {"field": "time", "lateness": "0s"}},
  "type": "object",
  "required": ["id", "time", "customer", "terminal", "amount"],
  "additionalProperties": false,
  "properties": {
    "id": {"type": "string"}, "time": {"type": "string"}, "customer": {"type": "string"},
    "terminal": {"type": "string"}, "amount": {"type": "number"}
  }
}
`

// writePipeline writes the files of the pipeline and returns the path of its own.
func writePipeline(t *testing.T, dir, name string) string {
	t.Helper()
	for file, text := range map[string]string{"pipeline.yaml": strings.ReplaceAll(pipelineText, "NAME", name), "contract.schema.json": contractText} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "pipeline.yaml")
}

// numbered is an event; all of it follows from its number.
type numbered struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Customer string    `json:"customer"`
	Terminal string    `json:"terminal"`
	Amount   float64   `json:"amount"`
}

func eventOf(n int, began time.Time) numbered {
	return numbered{
		ID: fmt.Sprintf("e-%06d", n), Time: began.Add(time.Duration(n) * step).UTC(),
		Customer: fmt.Sprintf("c-%d", n*7919%customers), Terminal: fmt.Sprintf("t-%d", n%terminals),
		Amount: float64(n*104729%4000) / 4, // sums of quarters are exact
	}
}

func (n *numbered) record() (event.Record, error) {
	value, err := json.Marshal(n)
	return event.Record{
		ID: []byte(n.ID), Key: []byte(n.Customer), Value: value,
		Headers: event.Headers(nil).AppendString("ce_type", "numbered").AppendString("ce_source", "/test/scaleout"),
	}, err
}

// result is what the pipeline made of an event, as a reader of its own found it.
type result struct {
	ID       string   `json:"id"`
	SourceID string   `json:"source_id"`
	Features features `json:"features"`

	partition int
	stored    time.Time
}

type features struct {
	CustomerCount float64 `json:"customer_count"`
	CustomerSum   float64 `json:"customer_sum"`
	TerminalCount float64 `json:"terminal_count"`
	TerminalSum   float64 `json:"terminal_sum"`
}

// expected is what the windows of each event hold: itself and all before it of its key.
func expected(sent []numbered) map[string]features {
	counts, sums := map[string]float64{}, map[string]float64{}
	out := make(map[string]features, len(sent))
	for _, n := range sent {
		for _, key := range []string{n.Customer, n.Terminal} {
			counts[key]++
			sums[key] += n.Amount
		}
		out[n.ID] = features{counts[n.Customer], sums[n.Customer], counts[n.Terminal], sums[n.Terminal]}
	}
	return out
}

// judge compares results, each partition in order, with the events. It returns
// how many repeats there are; what is wrong fails the test.
func judge(t *testing.T, sent []numbered, results []result, once bool) (repeats int) {
	t.Helper()
	want := expected(sent)
	terminal := make(map[string]string, len(sent))
	for _, n := range sent {
		terminal[n.ID] = n.Terminal
	}
	faults := 0
	fault := func(format string, args ...any) {
		t.Helper()
		if faults++; faults <= 10 {
			t.Errorf(format, args...)
		}
	}
	ids := map[string]string{}  // event → id of its result
	last := map[string]string{} // terminal → newest event
	for _, r := range results {
		f, known := want[r.SourceID]
		switch {
		case !known:
			fault("a result is of the event %q, which nobody sent", r.SourceID)
			continue
		case f != r.Features:
			fault("event %s: the features are %+v, the events give %+v", r.SourceID, r.Features, f)
		}
		if id, repeated := ids[r.SourceID]; repeated {
			repeats++
			if id != r.ID {
				fault("event %s has the results %s and %s", r.SourceID, id, r.ID)
			}
			continue
		}
		ids[r.SourceID] = r.ID
		key := fmt.Sprintf("%s on partition %d", terminal[r.SourceID], r.partition)
		if r.SourceID < last[key] {
			fault("%s: the result of %s comes behind that of %s", key, r.SourceID, last[key])
		}
		last[key] = r.SourceID
	}
	for _, n := range sent {
		if ids[n.ID] == "" {
			fault("event %s has no result", n.ID)
		}
	}
	if once && repeats > 0 {
		fault("%d results are repeats, on a broker with transactions", repeats)
	}
	if faults > 10 {
		t.Errorf("and %d faults more", faults-10)
	}
	return repeats
}
