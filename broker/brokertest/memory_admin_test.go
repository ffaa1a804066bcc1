package brokertest

import (
	"context"
	"slices"
	"sort"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func (d *memDriver) Append(ctx context.Context, topic string, partition int, at int64, recs []event.Record) (int64, error) {
	if err := d.enter(ctx); err != nil {
		return 0, err
	}
	defer d.s.mu.Unlock()
	part, err := d.s.partition(topic, partition)
	if err != nil {
		return 0, err
	}
	if at != part.end && !d.s.faults.appendAnywhere {
		return 0, errkind.Errorf(errkind.Conflict, "the partition ends at %d, not at %d", part.end, at)
	}
	if d.s.faults.tornAppend && len(recs) > 0 {
		d.s.append(d.s.topics[topic], partition, recs[:1], false)
	}
	if err := d.s.check(recs); err != nil {
		return 0, err
	}
	if d.s.faults.tornAppend {
		recs = recs[1:]
	}
	d.s.append(d.s.topics[topic], partition, recs, false)
	d.s.notify()
	return part.end, nil
}

func (d *memDriver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.s.mu.Unlock()
	if t := d.s.topics[c.Name]; t != nil {
		if len(t.parts) != c.Partitions {
			return errkind.New(errkind.Conflict, "the topic exists with other partitions")
		}
		return nil
	}
	d.s.topics[c.Name] = &memTopic{cfg: c, parts: make([]memPartition, c.Partitions), ids: map[string]bool{}, groups: map[string]*memGroup{}}
	return nil
}

func (d *memDriver) DeleteTopic(ctx context.Context, name string) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.s.mu.Unlock()
	if _, err := d.s.topic(name); err != nil {
		return err
	}
	delete(d.s.topics, name)
	return nil
}

func (d *memDriver) Topics(ctx context.Context) ([]string, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.s.mu.Unlock()
	var names []string
	for name := range d.s.topics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (d *memDriver) Trim(ctx context.Context, topic string, partition int, before int64) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.s.mu.Unlock()
	p, err := d.s.partition(topic, partition)
	if err != nil {
		return err
	}
	if before = min(before, p.end); before > p.start {
		p.recs = slices.Clone(p.recs[p.from(before):])
		p.start = before
	}
	return nil
}

func (d *memDriver) Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	if err := d.enter(ctx); err != nil {
		return 0, err
	}
	defer d.s.mu.Unlock()
	p, err := d.s.partition(topic, partition)
	if err != nil {
		return 0, err
	}
	at := t.UnixNano()
	i := sort.Search(len(p.recs), func(i int) bool {
		return p.recs[i].Time > at || p.recs[i].Time == at && !d.s.faults.seekAfter
	})
	if i == len(p.recs) {
		return p.end, nil
	}
	return p.recs[i].Position, nil
}
