// Package bench holds the benchmarks that cross packages. Package workload makes
// their events; the comparisons with other systems are in peers.
package bench

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// benchEvents is how many payments one iteration processes.
const benchEvents = 1_000_000

// cardPayments publishes generated payments on a new journal.
func cardPayments(b *testing.B) *broker.Broker {
	b.Helper()
	j, err := journal.Open(b.TempDir(), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	br := broker.New(j, broker.Options{})
	if err := br.CreateTopic(b.Context(), broker.TopicConfig{Name: "transactions", Partitions: 4}); err != nil {
		b.Fatal(err)
	}
	g, err := workload.NewCardFraud(workload.CardFraud{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	recs := make([]event.Record, 0, 2000)
	var p workload.Payment
	for range benchEvents {
		g.Next(&p)
		recs = append(recs, event.Record{
			ID:    strconv.AppendInt(nil, p.ID, 10),
			Key:   strconv.AppendInt(nil, int64(p.Customer), 10),
			Value: p.AppendJSON(nil),
		})
		if len(recs) == cap(recs) {
			if _, err := br.Publish(b.Context(), "transactions", recs); err != nil {
				b.Fatal(err)
			}
			recs = recs[:0]
		}
	}
	return br
}

// usage is the processor time of this process so far, user and system.
func usage(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, used time.Duration) {
	b.Helper()
	events := float64(b.N) * benchEvents
	b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(used.Seconds()*1e6/events, "cpu-µs/event")
}

// BenchmarkCardFraud runs the example's pipeline over payments that wait on the
// journal: contract, twelve windows by two keys, two expressions, 100 trees, routes, commits.
func BenchmarkCardFraud(b *testing.B) {
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		br := cardPayments(b)
		spec, faults := pipeline.Load("../examples/card-fraud/pipeline.yaml", nil)
		if faults != nil {
			b.Fatal(pipeline.Error(faults))
		}
		plan, faults := pipeline.MakePlan(spec, pipeline.Files(builtin.OpenModel))
		if faults != nil {
			b.Fatal(pipeline.Error(faults))
		}
		p, err := pipeline.New(plan, pipeline.Deps{Broker: br})
		if err != nil {
			b.Fatal(err)
		}
		cpu := usage(b)
		b.StartTimer()
		if err := p.Run(b.Context(), pipeline.RunOptions{UntilIdle: true}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		used += usage(b) - cpu
		if n := p.Stats().Predictions; n != benchEvents {
			b.Fatalf("%d predictions", n)
		}
		br.Close()
		b.StartTimer()
	}
	report(b, used)
}

// BenchmarkPassThrough is the ceiling: the same events, consumed and published
// again in the same kind of transaction, with nothing done to them.
func BenchmarkPassThrough(b *testing.B) {
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		br := cardPayments(b)
		if err := br.CreateTopic(b.Context(), broker.TopicConfig{Name: "out", Partitions: 4}); err != nil {
			b.Fatal(err)
		}
		consumer, err := br.Subscribe(b.Context(), broker.Subscription{Topic: "transactions", Group: "pass"})
		if err != nil {
			b.Fatal(err)
		}
		topic, err := br.Describe(b.Context(), "transactions", "pass")
		if err != nil {
			b.Fatal(err)
		}
		cpu := usage(b)
		b.StartTimer()
		var tasks sync.WaitGroup
		for range topic.Partitions {
			claim, err := consumer.Claim(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			tasks.Go(func() {
				if err := passThrough(b.Context(), br, claim, topic.Partitions[claim.Partition()].End); err != nil {
					b.Error(err)
				}
			})
		}
		tasks.Wait()
		b.StopTimer()
		used += usage(b) - cpu
		br.Close()
		b.StartTimer()
	}
	report(b, used)
}

func passThrough(ctx context.Context, br *broker.Broker, claim broker.Claim, end int64) error {
	for next := claim.Start(); next < end; {
		batch, err := claim.Fetch(ctx, 1024)
		if err != nil {
			return err
		}
		next = batch.Next()
		tx := broker.Tx{
			Publish:   []broker.Publication{{Topic: "out", Partition: broker.AnyPartition, Records: batch.Records}},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: next}},
		}
		if err := br.Commit(ctx, &tx); err != nil {
			return err
		}
		batch.Release()
	}
	return nil
}
