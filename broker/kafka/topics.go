package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/errkind"
)

// topic is what the cluster says of a topic. It does not change.
type topic struct {
	name    string
	id      [16]byte
	leaders []int32 // of its partitions; -1 where there is none
	at      time.Time
}

// topicAge is how long a topic's partitions are believed to be what they were.
const topicAge = 5 * time.Second

// topicCache remembers topics; who meets an error that says that they changed
// drops them.
type topicCache struct {
	mu sync.RWMutex
	m  map[string]*topic
}

func (c *topicCache) get(name string) *topic {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.m[name]; t != nil && time.Since(t.at) < topicAge {
		return t
	}
	return nil
}

// put returns what was known of the topic before.
func (c *topicCache) put(t *topic) (former *topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]*topic{}
	}
	former = c.m[t.name]
	c.m[t.name] = t
	return former
}

func (c *topicCache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.m[name]; t != nil {
		old := *t
		old.at = time.Time{} // kept for put to compare
		c.m[name] = &old
	}
}

// topic returns what is known of a topic, asking where that is old. A missing
// topic is NotFound; it is never made.
func (d *Driver) topic(ctx context.Context, name string) (*topic, error) {
	if t := d.topics.get(name); t != nil {
		return t, nil
	}
	return d.freshTopic(ctx, name)
}

func (d *Driver) freshTopic(ctx context.Context, name string) (*topic, error) {
	t, err := d.askTopic(ctx, d.client, name)
	if err != nil {
		return nil, err
	}
	if former := d.topics.put(t); former != nil && former.id != t.id {
		d.producer.PurgeTopicsFromProducing(name) // deleted and made anew by somebody
	}
	return t, nil
}

// requester is a client, or one of its brokers.
type requester interface {
	Request(ctx context.Context, req kmsg.Request) (kmsg.Response, error)
}

func (d *Driver) askTopic(ctx context.Context, from requester, name string) (*topic, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, rt)
	req.AllowAutoTopicCreation = false
	ctx, cancel := d.begin(ctx)
	defer cancel()
	kresp, err := from.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.MetadataResponse)
	if len(resp.Topics) != 1 {
		return nil, errkind.Errorf(errkind.Transient, "the server describes %d topics, asked for 1", len(resp.Topics))
	}
	mt := &resp.Topics[0]
	switch err := code(mt.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InvalidTopicException):
		return nil, errkind.Errorf(errkind.NotFound, "there is no topic %q", name)
	case err != nil:
		return nil, err
	}
	t := &topic{name: name, id: mt.TopicID, leaders: make([]int32, len(mt.Partitions)), at: time.Now()}
	for i := range t.leaders {
		t.leaders[i] = -1
	}
	for _, p := range mt.Partitions {
		if p.Partition < 0 || int(p.Partition) >= len(t.leaders) {
			return nil, errkind.Errorf(errkind.Transient, "the server describes partition %d of %d", p.Partition, len(t.leaders))
		}
		t.leaders[p.Partition] = p.Leader
	}
	if len(t.leaders) == 0 {
		return nil, errkind.Errorf(errkind.Transient, "topic %q has no partitions yet", name)
	}
	return t, nil
}

// partition checks that the topic has partition p.
func (t *topic) partition(p int) (int32, error) {
	if p < 0 || p >= len(t.leaders) {
		return 0, errkind.Errorf(errkind.NotFound, "topic %q has %d partitions, there is no partition %d", t.name, len(t.leaders), p)
	}
	return int32(p), nil
}

// stale reports errors that say that what is known of a topic is no longer true.
func stale(err error) bool {
	switch kindOf(err) {
	case errkind.NotFound, errkind.Transient:
		return true
	}
	return false
}
