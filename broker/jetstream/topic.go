package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Metadata of the streams that are made here.
const (
	metaTopic      = "freshet.topic"
	metaPartition  = "freshet.partition"
	metaPartitions = "freshet.partitions"
	metaDedup      = "freshet.dedup"
)

const (
	topicSubjects = "freshet.topic."
	groupSubjects = "freshet.groups."
	groupStream   = "freshet_groups"
	// cacheAge is how long what is known of a topic is not asked for again.
	cacheAge = 30 * time.Second
)

// topic is what the driver knows of a topic.
type topic struct {
	config     broker.TopicConfig
	partitions []partition
	dedup      bool
	asked      time.Time
}

// partition is a stream.
type partition struct {
	stream  string
	subject string // to publish on; of a stream that is not ours the part before the key
	foreign bool   // not made here
	keyed   bool   // the subject's last token is the key
	fast    bool   // takes batches with one acknowledgement
	atomic  bool
}

type topicCache struct {
	mu    sync.Mutex
	known map[string]*topic
}

func (c *topicCache) init() { c.known = map[string]*topic{} }

func (c *topicCache) get(name string) *topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.known[name]; t != nil && time.Since(t.asked) < cacheAge {
		return t
	}
	return nil
}

func (c *topicCache) put(name string, t *topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[name] = t
}

func (c *topicCache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, name)
}

// topic looks a topic up: streams made here for it, or else a stream of its name.
func (d *Driver) topic(ctx context.Context, name string) (*topic, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if t := d.topics.get(name); t != nil {
		return t, nil
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	t, err := d.ours(ctx, name)
	if errkind.Is(err, errkind.NotFound) {
		t, err = d.theirs(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	t.asked = time.Now()
	d.topics.put(name, t)
	return t, nil
}

func notFound(name string) error {
	return errkind.Errorf(errkind.NotFound, "topic %q does not exist", name)
}

// ours looks for the stream of partition 0.
func (d *Driver) ours(ctx context.Context, name string) (*topic, error) {
	s, err := d.js.Stream(ctx, streamName(name, 0))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, notFound(name)
	}
	if err != nil {
		return nil, d.failed(fmt.Sprintf("look up topic %q", name), err)
	}
	c := s.CachedInfo().Config
	n, err := strconv.Atoi(c.Metadata[metaPartitions])
	if c.Metadata[metaTopic] != name || err != nil || n < 1 {
		return nil, notFound(name)
	}
	t := &topic{
		config: broker.TopicConfig{Name: name, Partitions: n, Retention: c.MaxAge, RetainBytes: max(c.MaxBytes, 0)},
		dedup:  c.Metadata[metaDedup] == "true",
	}
	if t.dedup {
		t.config.DedupWindow = c.Duplicates
	}
	for p := range n {
		t.partitions = append(t.partitions, partition{
			stream: streamName(name, p), subject: subjectOf(name, p),
			fast: c.AllowBatchPublish && d.level >= levelFast, atomic: c.AllowAtomicPublish && d.level >= levelAtomic,
		})
	}
	return t, nil
}

// theirs looks for a stream of that name that somebody else has made.
func (d *Driver) theirs(ctx context.Context, name string) (*topic, error) {
	if !foreignName(name) {
		return nil, notFound(name)
	}
	s, err := d.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, notFound(name)
	}
	if err != nil {
		return nil, d.failed(fmt.Sprintf("look up topic %q", name), err)
	}
	c := s.CachedInfo().Config
	if c.Metadata[metaTopic] != "" {
		return nil, notFound(name) // a partition of another topic
	}
	p := partition{stream: name, foreign: true, atomic: c.AllowAtomicPublish && d.level >= levelAtomic, fast: c.AllowBatchPublish && d.level >= levelFast}
	for i, s := range c.Subjects {
		before, wild := cutWildcard(s)
		p.keyed = p.keyed || wild
		if i == 0 {
			p.subject = before
		}
	}
	if len(c.Subjects) == 0 {
		p.keyed = true // of the streams that it mirrors or takes from
	}
	return &topic{
		config: broker.TopicConfig{
			Name: name, Partitions: 1, Retention: c.MaxAge, RetainBytes: max(c.MaxBytes, 0), DedupWindow: c.Duplicates,
		},
		partitions: []partition{p}, dedup: true,
	}, nil
}

// foreignName says whether a stream of this name can be a topic that is not ours.
func foreignName(name string) bool {
	return name != "" && name != groupStream && !strings.ContainsAny(name, " .*>/\\\t\r\n\x00") &&
		!strings.HasPrefix(name, "KV_") && !strings.HasPrefix(name, "OBJ_") && !strings.HasPrefix(name, "$MQTT")
}

// cutWildcard returns a subject whose last token is a wildcard without it; one
// with wildcards elsewhere is empty: nobody knows what to put there.
func cutWildcard(s string) (before string, wild bool) {
	if !strings.ContainsAny(s, "*>") {
		return s, false
	}
	before = s[:len(s)-1]
	if strings.ContainsAny(before, "*>") {
		before = ""
	}
	return before, true
}

// partition returns one of a topic's.
func (t *topic) partition(p int) (*partition, error) {
	if p < 0 || p >= len(t.partitions) {
		return nil, errkind.Errorf(errkind.NotFound, "topic %q has no partition %d: it has %d", t.config.Name, p, len(t.partitions))
	}
	return &t.partitions[p], nil
}

func streamName(topic string, p int) string { return escape(topic) + "_p" + strconv.Itoa(p) }

func subjectOf(topic string, p int) string {
	return topicSubjects + escape(topic) + "." + strconv.Itoa(p)
}

// escape makes a name of a stream and a token of a subject out of any name.
func escape(name string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(plain, name[i]) >= 0 {
			b.WriteByte(name[i])
		} else {
			fmt.Fprintf(&b, "=%02x", name[i])
		}
	}
	return b.String()
}
