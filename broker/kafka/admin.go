package kafka

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// CreateTopic implements broker.Admin. The topic's times are those at which the
// server stored each record. It returns when every server knows the topic and
// its partitions have leaders at work.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	call, cancel := d.begin(ctx)
	defer cancel()
	configs := map[string]*string{
		"cleanup.policy":         kadm.StringPtr("delete"),
		"message.timestamp.type": kadm.StringPtr("LogAppendTime"),
		"retention.ms":           kadm.StringPtr(strconv.FormatInt(orNone((c.Retention + time.Millisecond - 1).Milliseconds()), 10)),
		"retention.bytes":        kadm.StringPtr(strconv.FormatInt(orNone(c.RetainBytes), 10)),
	}
	_, err := d.admin.CreateTopic(call, int32(c.Partitions), int16(d.s.replication), configs, c.Name)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		t, err := d.freshTopic(call, c.Name)
		switch {
		case err != nil:
			return d.failed(ctx, err, "create topic %q", c.Name)
		case len(t.leaders) != c.Partitions:
			return errkind.Errorf(errkind.Conflict, "create topic %q: it exists with %d partitions, %d are wanted", c.Name, len(t.leaders), c.Partitions)
		}
		return nil
	}
	if err != nil {
		return d.failed(ctx, err, "create topic %q", c.Name)
	}
	d.topics.drop(c.Name)
	d.facts.drop(c.Name)
	if err := d.everywhere(call, func(b requester) (bool, error) {
		t, err := d.askTopic(call, b, c.Name)
		return err == nil && !slices.Contains(t.leaders, -1), err
	}); err != nil {
		return d.failed(ctx, err, "create topic %q: wait until all servers know it", c.Name)
	}
	t, err := d.freshTopic(call, c.Name)
	for n := 1; err == nil; n++ { // a leader that is named may not have begun yet
		if _, err = d.listOffsets(call, t, latest); err == nil {
			return nil
		}
		if stale(err) {
			err = wait(call, min(pause(n), 100*time.Millisecond))
		}
	}
	return d.failed(ctx, err, "create topic %q", c.Name)
}

func orNone(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// everywhere waits until every server that answers agrees: what one server did
// reaches the others a little later.
func (d *Driver) everywhere(ctx context.Context, agrees func(requester) (bool, error)) error {
	meta, err := d.admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	for _, b := range meta.Brokers {
		for n := 1; ; n++ {
			ok, err := agrees(d.client.Broker(int(b.NodeID)))
			if ok || (err != nil && errkind.Of(err) != errkind.NotFound && kindOf(err) != errkind.Transient) {
				break
			}
			if err := wait(ctx, min(pause(n), 100*time.Millisecond)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait waits for t, or until ctx ends.
func wait(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// DeleteTopic implements broker.Admin.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	call, cancel := d.begin(ctx)
	defer cancel()
	resp, err := d.admin.DeleteTopics(call, name)
	if err == nil {
		err = resp[name].Err
	}
	d.topics.drop(name)
	d.facts.drop(name)
	if err != nil {
		return d.failed(ctx, err, "delete topic %q", name)
	}
	d.producer.PurgeTopicsFromProducing(name)
	if err := d.everywhere(call, func(b requester) (bool, error) {
		_, err := d.askTopic(call, b, name)
		return errkind.Is(err, errkind.NotFound), err
	}); err != nil {
		return d.failed(ctx, err, "delete topic %q: wait until no server knows it", name)
	}
	return nil
}

// Topics implements broker.Admin. The cluster's own, whose names begin with
// two underscores, are left out.
func (d *Driver) Topics(ctx context.Context) ([]string, error) {
	call, cancel := d.begin(ctx)
	defer cancel()
	all, err := d.admin.ListTopics(call)
	if err != nil {
		return nil, d.failed(ctx, err, "list topics")
	}
	var names []string
	for name, t := range all {
		if t.Err == nil && !t.IsInternal && !strings.HasPrefix(name, "__") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Trim implements broker.Admin.
func (d *Driver) Trim(ctx context.Context, topic string, partition int, before int64) error {
	call, cancel := d.begin(ctx)
	defer cancel()
	p, err := d.partitionOf(call, topic, partition)
	if err != nil {
		return d.failed(ctx, err, "trim")
	}
	var offsets kadm.Offsets
	offsets.AddOffset(topic, p, max(before, 0), -1)
	resp, err := d.admin.DeleteRecords(call, offsets)
	if err == nil {
		if r, ok := resp.Lookup(topic, p); ok {
			err = r.Err
		}
	}
	if errors.Is(err, kerr.OffsetOutOfRange) { // gone already, or not there yet
		start, end, e := d.bounds(call, topic, p)
		switch {
		case e != nil:
			err = e
		case before <= start:
			return nil
		default:
			return errkind.Errorf(errkind.Invalid, "trim topic %q partition %d: position %d is behind the end %d", topic, partition, before, end)
		}
	}
	if err != nil {
		return d.failed(ctx, err, "trim topic %q partition %d", topic, partition)
	}
	return nil
}

func (d *Driver) partitionOf(ctx context.Context, name string, partition int) (int32, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return 0, err
	}
	return t.partition(partition)
}

// Seek implements broker.Admin. Kafka keeps times in milliseconds.
func (d *Driver) Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	call, cancel := d.begin(ctx)
	defer cancel()
	p, err := d.partitionOf(call, topic, partition)
	if err != nil {
		return 0, d.failed(ctx, err, "seek")
	}
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	at, err := d.listOffset(call, topic, p, max(ms, 0))
	if err == nil && at < 0 { // no record is that young
		at, err = d.listOffset(call, topic, p, latest)
	}
	if err != nil {
		return 0, d.failed(ctx, err, "seek in topic %q partition %d", topic, partition)
	}
	return at, nil
}

// bounds are a partition's first position and the end.
func (d *Driver) bounds(ctx context.Context, topic string, p int32) (start, end int64, err error) {
	if start, err = d.listOffset(ctx, topic, p, earliest); err != nil {
		return 0, 0, err
	}
	end, err = d.listOffset(ctx, topic, p, latest)
	return start, end, err
}

var _ requester = (*kgo.Client)(nil)
