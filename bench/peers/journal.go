package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
)

const (
	partitions = 4 // as in scenario/pipeline.yaml
	publishers = 4
	publishOne = 512    // records of one Publish
	commitOne  = 16_384 // records of one committed position
)

// openJournal opens a journal in dir with a topic of the given partitions.
func openJournal(ctx context.Context, dir, topic string, fs journal.FS) (*broker.Broker, error) {
	d, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{FS: fs})
	if err != nil {
		return nil, err
	}
	b := broker.New(d, broker.Options{})
	if err := b.CreateTopic(ctx, broker.TopicConfig{Name: topic, Partitions: partitions}); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// journalLog appends events to the journal and consumes them; the number of
// syncs that it took is left in syncs.
func journalLog(s *scenario, events int, syncs *atomic.Int64) side {
	recs := s.records(0, events)
	for i := range recs {
		recs[i].ID = nil // the other sides store none
	}
	return side{
		Name: "journal",
		What: fmt.Sprintf("%d publishers of %d events a call, each call returning when its group is synced; then one consumer group over %d partitions commits its position, synced, every %d events", publishers, publishOne, partitions, commitOne),
		run: func(ctx context.Context, dir string) (out sample, err error) {
			syncs.Store(0)
			b, err := openJournal(ctx, dir, sourceTopic, &countingFS{syncs: syncs})
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			syncs.Store(0)
			m := startMeter()
			if err := publishAll(ctx, b, recs); err != nil {
				return sample{}, err
			}
			bytes, err := consumeAll(ctx, b, events)
			if err != nil {
				return sample{}, err
			}
			out = m.stop(events)
			out.Syncs = syncs.Load()
			return out, wantBytes(bytes, s.events[:events])
		},
	}
}

// publishAll publishes with several publishers, each its share of the batches.
func publishAll(ctx context.Context, b *broker.Broker, recs []event.Record) error {
	batches := slices.Collect(slices.Chunk(recs, publishOne))
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range publishers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(batches) {
					return nil
				}
				if _, err := b.Publish(ctx, sourceTopic, batches[i]); err != nil {
					return fmt.Errorf("publish: %w", err)
				}
			}
		})
	}
	return g.Wait()
}

// consumeAll reads n events through a group and returns the bytes of their values.
func consumeAll(ctx context.Context, b *broker.Broker, n int) (int, error) {
	var bytes, seen atomic.Int64
	err := eachClaim(ctx, b, "bench", func(ctx context.Context, c broker.Claim) error {
		since := 0
		end, err := endOf(ctx, b, c.Partition())
		if err != nil {
			return err
		}
		for at := c.Start(); at < end; {
			batch, err := c.Fetch(ctx, 4096)
			if err != nil {
				return err
			}
			sum := 0
			for i := range batch.Records {
				sum += len(batch.Records[i].Value)
			}
			bytes.Add(int64(sum))
			seen.Add(int64(len(batch.Records)))
			since += len(batch.Records)
			at = batch.Next()
			batch.Release()
			if since >= commitOne || at >= end {
				if err := c.Commit(ctx, at); err != nil {
					return err
				}
				since = 0
			}
		}
		return nil
	})
	if err == nil && int(seen.Load()) != n {
		err = fmt.Errorf("consumed %d events of %d", seen.Load(), n)
	}
	return int(bytes.Load()), err
}

// eachClaim joins a group on the source topic and works on all of its
// partitions at the same time.
func eachClaim(ctx context.Context, b *broker.Broker, group string, work func(context.Context, broker.Claim) error) (err error) {
	consumer, err := b.Subscribe(ctx, broker.Subscription{Topic: sourceTopic, Group: group})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	g, ctx := errgroup.WithContext(ctx)
	for range partitions {
		c, err := consumer.Claim(ctx)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error { return work(ctx, c) })
	}
	return g.Wait()
}

func endOf(ctx context.Context, b *broker.Broker, partition int) (int64, error) {
	t, err := b.Describe(ctx, sourceTopic, "")
	if err != nil {
		return 0, err
	}
	return t.Partitions[partition].End, nil
}

// countingFS is the operating system's file system as the journal uses it, with
// the syncs of files counted.
type countingFS struct{ syncs *atomic.Int64 }

type countingFile struct {
	*os.File
	syncs *atomic.Int64
}

func (c *countingFS) OpenFile(name string, flag int) (journal.File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return countingFile{f, c.syncs}, nil
}

func (c *countingFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (c *countingFS) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o750) }
func (c *countingFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }
func (c *countingFS) Remove(name string) error             { return os.Remove(name) }

func (c *countingFS) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Lock takes no lock: the folder is this run's own.
func (c *countingFS) Lock(name string) (journal.File, error) {
	return c.OpenFile(name, os.O_RDWR|os.O_CREATE)
}

func (f countingFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f countingFile) Sync() error {
	f.syncs.Add(1)
	return unix.Fdatasync(int(f.Fd()))
}
