package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLineageTellsWhyAnAlertWasRaised reads the whole story of an alert of the
// example, and adds its attributions up.
func TestLineageTellsWhyAnAlertWasRaised(t *testing.T) {
	data := t.TempDir()
	events := filepath.Join(t.TempDir(), "events.jsonl")
	var all strings.Builder
	for id := 1; id <= 40; id++ {
		all.WriteString(payment(id) + "\n")
	}
	all.WriteString(`{"transaction_id":77,"tx_datetime":"2026-01-05T13:00:00","customer_id":3,"terminal_id":3,"tx_amount":950.5}` + "\n")
	if err := os.WriteFile(events, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	freshet(t, data, "produce", "--pipeline", pipelineFile, events)
	freshet(t, data, "run", pipelineFile, "--until-idle", "--listen", "off")
	alerts := byID(t, consume(t, data, "fraud-alerts"))
	var alert result
	for _, r := range alerts {
		if r.SourceID == "77" {
			alert = r
		}
	}
	if alert.Score == nil || alert.Route != "alert" {
		t.Fatalf("the payment of 950.50 is no alert: %v", alerts)
	}
	var story struct {
		Contract string
		Event    struct {
			ID, Topic string
			Partition *int
			Position  *int64
		}
		Times struct{ Event, Arrival, Inference, Published string }

		Features []struct {
			Name   string
			Value  any
			Newest string `json:"newest_event"`
		}
		Answers []struct {
			Model, Version, Digest, Role, Path string
			Call                               struct {
				Rows   int    `json:"batch_rows"`
				Reason string `json:"flush_reason"`
			}
			Explanation struct {
				Method, Link string
				Base, Raw    float64
				Attributions []struct{ Attribution float64 }
			}
		}
	}
	text := freshet(t, data, "lineage", "77", "--pipeline", pipelineFile, "--output", "json")
	if err := json.Unmarshal([]byte(text), &story); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if story.Event.Topic != "transactions" || story.Event.Partition == nil || story.Event.Position == nil || story.Contract == "" ||
		story.Times.Event == "" || story.Times.Arrival == "" || story.Times.Inference == "" || story.Times.Published == "" {
		t.Errorf("the story lacks where, by what or when:\n%s", text)
	}
	if len(story.Features) != 15 {
		t.Errorf("%d features", len(story.Features))
	}
	for _, f := range story.Features {
		if f.Newest == "" || f.Value == nil || f.Value != alert.Features[f.Name] {
			t.Errorf("feature %s is %v of %q, and %v in the result", f.Name, f.Value, f.Newest, alert.Features[f.Name])
		}
	}
	if len(story.Answers) != 1 {
		t.Fatalf("%d answers", len(story.Answers))
	}
	a := story.Answers[0]
	if a.Model != "fraud-risk" || a.Version != "1.0.0" || len(a.Digest) != 64 || a.Role != "champion" || a.Path != "scored" || a.Call.Rows == 0 || a.Call.Reason == "" {
		t.Errorf("answer %+v", a)
	}
	sum := a.Explanation.Base
	for _, x := range a.Explanation.Attributions {
		sum += x.Attribution
	}
	if a.Explanation.Method != "treeshap" || a.Explanation.Link != "logistic" || len(a.Explanation.Attributions) != 15 || math.Abs(sum-a.Explanation.Raw) > 1e-6 {
		t.Errorf("base and attributions add up to %v, and the raw output is %v: %+v", sum, a.Explanation.Raw, a.Explanation)
	}
	if score := 1 / (1 + math.Exp(-sum)); math.Abs(score-*alert.Score) > 1e-6 {
		t.Errorf("the explanation gives %v, and the score is %v", score, *alert.Score)
	}
	if told := freshet(t, data, "lineage", "77", "--pipeline", pipelineFile); !strings.Contains(told, "Why (treeshap)") || !strings.Contains(told, "950.5") {
		t.Errorf("told as\n%s", told)
	}
}
