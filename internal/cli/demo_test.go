package cli

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/pipeline"
)

func TestDemoSendsLabelsWhereThePipelineReadsThem(t *testing.T) {
	for name, labels := range map[string]*pipeline.Labels{"without": nil, "with": {Topic: "fraud-labels", Partitions: 2}} {
		t.Run(name, func(t *testing.T) {
			j, err := journal.Open(t.TempDir(), journal.Options{})
			if err != nil {
				t.Fatal(err)
			}
			b := broker.New(j, broker.Options{})
			defer b.Close()
			gen, err := workload.NewCardFraud(workload.CardFraud{Seed: 1, Customers: 100, Terminals: 1000})
			if err != nil {
				t.Fatal(err)
			}
			d := &demo{b: b, topic: "transactions", gen: workload.NewLabelled(gen, workload.LabelDelay, false), dice: rand.New(rand.NewPCG(1, 1))}
			spec := &pipeline.Spec{Source: pipeline.Source{Topic: d.topic, Partitions: 2}, Labels: labels}
			if err := d.openSenders(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			const payments = 3000
			var first, last workload.Payment
			for i := range payments {
				if last, err = d.send(t.Context()); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = last
				}
			}
			if err := d.payments.finish(); err != nil {
				t.Fatal(err)
			}
			if labels == nil {
				names, err := b.Topics(t.Context())
				if err != nil || len(names) != 1 || d.labels != nil {
					t.Errorf("topics %v, %v", names, err)
				}
				return
			}
			if err := d.labels.finish(); err != nil {
				t.Fatal(err)
			}
			topic, err := b.Describe(t.Context(), "fraud-labels", "")
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for part := range topic.Partitions {
				r, err := b.Read(t.Context(), "fraud-labels", part, 0)
				if err != nil {
					t.Fatal(err)
				}
				previous := ""
				for at := int64(0); at < topic.Partitions[part].End; {
					batch, err := r.Fetch(t.Context(), fetchRecords)
					if err != nil {
						t.Fatal(err)
					}
					for i := range batch.Records {
						rec := &batch.Records[i]
						var l struct {
							ID      string      `json:"label_id"`
							Key     json.Number `json:"terminal_id"`
							KnownAt string      `json:"known_at"`
						}
						if err := json.Unmarshal(rec.Value, &l); err != nil || l.ID != string(rec.ID) || l.Key.String() != string(rec.Key) {
							t.Fatalf("label %s with id %s and key %s: %v", rec.Value, rec.ID, rec.Key, err)
						}
						if l.KnownAt < previous {
							t.Errorf("label %s comes after one of %s", rec.Value, previous)
						}
						previous = l.KnownAt
						n++
					}
					at = batch.Next()
					batch.Release()
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if days := time.Duration(last.Time-first.Time) * time.Second; n == 0 || n >= payments || days < workload.LabelDelay {
				t.Errorf("%d labels for %d payments of %s", n, payments, days)
			}
			f := demoFrame{demoState: d.demoState}
			f.known = d.labels.stored.Load()
			if shown := strings.Join(f.lines(demoFlags{}), "\n"); f.known != int64(n) || !strings.Contains(shown, group(f.known)+" turned out by now") {
				t.Errorf("%d labels stored, shown as\n%s", n, shown)
			}
		})
	}
}
