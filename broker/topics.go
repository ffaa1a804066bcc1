package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// maxTopicName is Kafka's limit, so that a name is good on every broker.
const maxTopicName = 249

// CheckTopicName reports, as an Invalid error, a name that no topic can have:
// 1 to 249 letters, digits, dots, underscores and hyphens, and not "." or "..".
func CheckTopicName(name string) error {
	if name == "" || name == "." || name == ".." {
		return errkind.Errorf(errkind.Invalid, "%q is not a topic name", name)
	}
	if len(name) > maxTopicName {
		return errkind.Errorf(errkind.Invalid, "topic name %.20q… has %d characters, at most %d are allowed", name, len(name), maxTopicName)
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return errkind.Errorf(errkind.Invalid, "topic name %q contains %q; allowed are letters, digits, '.', '_' and '-'", name, c)
		}
	}
	return nil
}

// admin returns the driver's Admin, or an Unsupported error that names what
// was asked for.
func (b *Broker) admin(what string) (Admin, error) {
	a, ok := b.d.(Admin)
	if !ok || !b.caps.Admin {
		return nil, errkind.Errorf(errkind.Unsupported, "%s: this broker does not let Freshet manage topics; use its own tools", what)
	}
	return a, nil
}

// CreateTopic makes a topic. A topic that exists with another number of
// partitions is a Conflict error; one that exists alike is not an error. A bad
// name or number of partitions is Invalid.
func (b *Broker) CreateTopic(ctx context.Context, c TopicConfig) error {
	a, err := b.admin("create topic " + c.Name)
	if err != nil {
		return err
	}
	if err := CheckTopicName(c.Name); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	if c.Partitions < 1 {
		return errkind.Errorf(errkind.Invalid, "create topic %q: %d partitions asked for, at least 1 is needed", c.Name, c.Partitions)
	}
	if err := b.do(ctx, func() error { return a.CreateTopic(ctx, c) }); err != nil {
		return fmt.Errorf("create topic %q: %w", c.Name, err)
	}
	return nil
}

// DeleteTopic removes a topic and its records. A missing one is NotFound.
func (b *Broker) DeleteTopic(ctx context.Context, name string) error {
	a, err := b.admin("delete topic " + name)
	if err != nil {
		return err
	}
	if err := b.do(ctx, func() error { return a.DeleteTopic(ctx, name) }); err != nil {
		return fmt.Errorf("delete topic %q: %w", name, err)
	}
	return nil
}

// Topics lists the names of all topics, sorted.
func (b *Broker) Topics(ctx context.Context) ([]string, error) {
	a, err := b.admin("list topics")
	if err != nil {
		return nil, err
	}
	var names []string
	err = b.do(ctx, func() (err error) {
		names, err = a.Topics(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	return names, nil
}

// Trim gives the records before position free. It does not fail for records
// that are gone already.
func (b *Broker) Trim(ctx context.Context, topic string, partition int, before int64) error {
	a, err := b.admin("trim topic " + topic)
	if err != nil {
		return err
	}
	if err := b.do(ctx, func() error { return a.Trim(ctx, topic, partition, before) }); err != nil {
		return fmt.Errorf("trim topic %q partition %d: %w", topic, partition, err)
	}
	return nil
}

// Seek finds the first position whose record was stored at or after t; the end
// position where there is none.
func (b *Broker) Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error) {
	a, err := b.admin("seek by time in topic " + topic)
	if err != nil {
		return 0, err
	}
	var pos int64
	err = b.do(ctx, func() (err error) {
		pos, err = a.Seek(ctx, topic, partition, t)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("seek in topic %q partition %d: %w", topic, partition, err)
	}
	return pos, nil
}

// Ensure returns the topic named by c, making it where it is missing. Where it
// is there, c.Partitions must match (a Conflict error otherwise; 0 takes any
// number), and the rest of c is not looked at.
func (b *Broker) Ensure(ctx context.Context, c TopicConfig) (Topic, error) {
	t, err := b.Describe(ctx, c.Name, "")
	if errkind.Is(err, errkind.NotFound) {
		if err := b.CreateTopic(ctx, c); err != nil {
			return Topic{}, err
		}
		t, err = b.Describe(ctx, c.Name, "")
	}
	if err != nil {
		return Topic{}, err
	}
	if n := len(t.Partitions); c.Partitions > 0 && n != c.Partitions {
		return Topic{}, errkind.Errorf(errkind.Conflict, "topic %q has %d partitions, %d are wanted; partitions of a topic do not change", c.Name, n, c.Partitions)
	}
	return t, nil
}

// Lag is how far a group is behind.
type Lag struct {
	// Records is the number of records stored and not processed.
	Records int64
	// OldestAge is how long ago the oldest of them was stored; 0 where nothing waits.
	OldestAge time.Duration
}

// Lag reports how far the group is behind on the topic: in all, and for each
// partition. A partition where the group has no position counts from its
// first record.
func (b *Broker) Lag(ctx context.Context, topic, group string) (total Lag, partitions []Lag, err error) {
	t, err := b.Describe(ctx, topic, group)
	if err != nil {
		return Lag{}, nil, err
	}
	total, partitions = t.Lag(b.now())
	return total, partitions, nil
}

// Lag is Broker.Lag for a topic that was described, at the time now.
func (t *Topic) Lag(now time.Time) (total Lag, partitions []Lag) {
	partitions = make([]Lag, len(t.Partitions))
	for i := range t.Partitions {
		partitions[i] = t.Partitions[i].lag(now.UnixNano())
		total.Records += partitions[i].Records
		total.OldestAge = max(total.OldestAge, partitions[i].OldestAge)
	}
	return total, partitions
}

func (p *PartitionState) lag(now int64) Lag {
	l := Lag{Records: p.Waiting}
	if l.Records <= 0 {
		return Lag{}
	}
	if p.OldestTime > 0 {
		l.OldestAge = time.Duration(max(0, now-p.OldestTime))
	}
	return l
}
