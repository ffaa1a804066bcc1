package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
)

const (
	benchBatch = 1000
	benchValue = 300
)

func benchRecords() []event.Record {
	recs := make([]event.Record, benchBatch)
	for i := range recs {
		recs[i].Key = fmt.Appendf(nil, "k%03d", i%500)
		recs[i].Value = make([]byte, benchValue-4)
		for k := range recs[i].Value {
			recs[i].Value[k] = byte(i * k)
		}
	}
	return recs
}

// BenchmarkAppendConsume is one batch of 1000 records of 300 bytes an iteration,
// synced before it is acknowledged, with a consumer behind it that commits its
// position; against the same bytes appended to a file through a buffer with the
// same syncs and read in sequence.
func BenchmarkAppendConsume(b *testing.B) {
	b.Run("file", benchFile)
	for _, parts := range []int{1, 8} {
		b.Run(fmt.Sprintf("journal/partitions=%d", parts), func(b *testing.B) { benchJournal(b, parts) })
	}
}

func benchFile(b *testing.B) {
	name := filepath.Join(b.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	recs := benchRecords()
	written := make(chan int, 8)
	done := make(chan error, 1)
	b.SetBytes(benchBatch * benchValue)
	b.ResetTimer()
	go func() {
		r, err := os.Open(name)
		if err != nil {
			done <- err
			return
		}
		defer r.Close()
		in := bufio.NewReaderSize(r, 256<<10)
		rec := make([]byte, benchValue)
		for n := range written {
			for range n {
				if _, err := io.ReadFull(in, rec); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	w := bufio.NewWriterSize(f, 256<<10)
	for range b.N {
		for i := range recs {
			_, _ = w.Write(recs[i].Key)
			_, _ = w.Write(recs[i].Value)
		}
		if err := w.Flush(); err != nil {
			b.Fatal(err)
		}
		if err := journal.SyncData(f); err != nil {
			b.Fatal(err)
		}
		written <- benchBatch
	}
	close(written)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	report(b)
}

func report(b *testing.B) {
	b.ReportMetric(float64(b.N)*benchBatch/b.Elapsed().Seconds(), "records/s")
}

func benchJournal(b *testing.B, parts int) {
	ctx := context.Background()
	j := open(b, b.TempDir(), journal.Options{})
	defer j.Close()
	if err := j.CreateTopic(ctx, broker.TopicConfig{Name: "t", Partitions: parts}); err != nil {
		b.Fatal(err)
	}
	c, err := j.Subscribe(ctx, broker.Subscription{Topic: "t", Group: "g"})
	if err != nil {
		b.Fatal(err)
	}
	recs := benchRecords()
	per := make([]int, parts)
	for i := range recs {
		per[broker.PartitionFor(recs[i].Key, parts)]++
	}
	done := make(chan error, parts)
	b.SetBytes(benchBatch * benchValue)
	b.ReportAllocs()
	b.ResetTimer()
	for range parts {
		cl, err := c.Claim(ctx)
		if err != nil {
			b.Fatal(err)
		}
		go func() { done <- drain(ctx, cl, b.N*per[cl.Partition()]) }()
	}
	for range b.N {
		if _, err := j.Publish(ctx, "t", recs); err != nil {
			b.Fatal(err)
		}
	}
	for range parts {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	report(b)
}

func drain(ctx context.Context, cl broker.Claim, want int) error {
	sum := 0
	for got, last := 0, 0; got < want; {
		b, err := cl.Fetch(ctx, 4096)
		if err != nil {
			return err
		}
		for i := range b.Records {
			sum += len(b.Records[i].Value)
		}
		got += len(b.Records)
		next := b.Next()
		b.Release()
		if got-last > 50*benchBatch || got == want {
			last = got
			if err := cl.Commit(ctx, next); err != nil {
				return err
			}
		}
	}
	return nil
}

// BenchmarkPublishOne is single records, synced, by one and by many publishers.
func BenchmarkPublishOne(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("publishers=%d", n), func(b *testing.B) {
			ctx := context.Background()
			j := open(b, b.TempDir(), journal.Options{})
			defer j.Close()
			if err := j.CreateTopic(ctx, broker.TopicConfig{Name: "t", Partitions: 8}); err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(max(1, n/2))
			b.ReportAllocs()
			b.ResetTimer()
			if n == 1 {
				recs := benchRecords()[:1]
				for range b.N {
					if _, err := j.Publish(ctx, "t", recs); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				recs := benchRecords()[:1]
				for pb.Next() {
					if _, err := j.Publish(ctx, "t", recs); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkCommitResults is one transaction of 512 results an iteration, as a
// pipeline commits them: the same headers on all.
func BenchmarkCommitResults(b *testing.B) {
	ctx := context.Background()
	j := open(b, b.TempDir(), journal.Options{})
	defer j.Close()
	if err := j.CreateTopic(ctx, broker.TopicConfig{Name: "results", Partitions: 4}); err != nil {
		b.Fatal(err)
	}
	headers := event.Headers(nil).AppendString("ce_specversion", "1.0").AppendString("ce_type", "io.freshet.prediction").
		AppendString("ce_source", "/freshet/fraud").AppendString("content-type", "application/json")
	recs := make([]event.Record, 512)
	for i := range recs {
		recs[i] = event.Record{ID: fmt.Appendf(nil, "%032d", i), Key: fmt.Appendf(nil, "card-%05d", i%100), Headers: headers, Value: make([]byte, 300)}
	}
	tx := &broker.Tx{Publish: []broker.Publication{{Topic: "results", Partition: broker.AnyPartition, Records: recs}}}
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Commit(ctx, tx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(recs))/b.Elapsed().Seconds(), "records/s")
}
