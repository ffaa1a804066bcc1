package rabbitmq

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// topic is what is known of a topic. It does not change: a topic made anew has another.
type topic struct {
	config  broker.TopicConfig
	streams []string // by partition
	version uint64   // of its entry in the table; 0 of a topic that others made
	parts   []partitionCache
	lowKeys []string
}

// chunkTime is when the records of a chunk were stored.
type chunkTime struct{ from, to, millis int64 }

// partitionCache keeps what Describe looked up.
type partitionCache struct {
	mu sync.Mutex
	// The first chunk, and when it was looked at.
	first   int64
	firstAt time.Time
	// Chunks that passed lately, turn of them in all: readers take those that
	// groups have still to commit.
	times [512]chunkTime
	turn  int
	// end is the highest end seen.
	end int64
}

// definition is a topic's entry in the table.
type definition struct {
	broker.TopicConfig
	State string `json:"state"`
}

const (
	stateCreating = "creating"
	stateReady    = "ready"
	stateDeleting = "deleting"
)

// Keys of the table that are no leases: those never begin so.
const (
	topicKeys = "==.topic."
	lowKeys   = "==.low."
)

func hexKey(name string) string                { return hex.EncodeToString([]byte(name)) }
func topicKey(name string) string              { return topicKeys + hexKey(name) }
func lowKey(name string, partition int) string { return lowKeys + hexKey(name) + "." + itoa(partition) }

func streamName(topic string, partition int) string { return topic + "-" + itoa(partition) }

func newTopic(config broker.TopicConfig, streams []string, version uint64) *topic {
	t := &topic{config: config, streams: streams, version: version, parts: make([]partitionCache, len(streams))}
	for p := range streams {
		t.lowKeys = append(t.lowKeys, lowKey(config.Name, p))
	}
	return t
}

// checkName refuses what cannot be a topic.
func (d *Driver) checkName(name string) error {
	if name == "" || len(name) > 200 || !utf8.ValidString(name) || name == d.table.stream {
		return errkind.Errorf(errkind.Invalid, "topic name %q: expected 1 to 200 bytes of text, and another name than that of the table", name)
	}
	return nil
}

func notFound(name string) error {
	return errkind.Errorf(errkind.NotFound, "topic %q: %w", name, errNoTopic)
}

// topic finds a topic: in the table, or else among the streams that others made.
func (d *Driver) topic(ctx context.Context, name string) (*topic, error) {
	e, _ := d.table.get(topicKey(name))
	d.mu.RLock()
	t := d.topics[name]
	d.mu.RUnlock()
	if t != nil && t.version == e.version {
		return t, nil
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	t, err := d.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.topics[name] = t
	d.mu.Unlock()
	return t, nil
}

func (d *Driver) forgetTopic(t *topic) {
	d.mu.Lock()
	if d.topics[t.config.Name] == t {
		delete(d.topics, t.config.Name)
	}
	d.mu.Unlock()
}

func (d *Driver) resolve(ctx context.Context, name string) (*topic, error) {
	if d.checkName(name) != nil {
		return nil, notFound(name)
	}
	def, version, err := d.definition(ctx, name)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return d.resolveForeign(ctx, name)
	}
	if def.State == stateDeleting {
		return nil, notFound(name)
	}
	streams := make([]string, def.Partitions)
	for p := range streams {
		streams[p] = streamName(name, p)
	}
	there, err := d.metadata(ctx, streams)
	if err != nil {
		return nil, err
	}
	for _, s := range streams {
		if !there[s] {
			return nil, errkind.Errorf(errkind.NotFound, "topic %q: its stream %q does not exist", name, s)
		}
	}
	return newTopic(def.TopicConfig, streams, version), nil
}

// definition is the topic's entry in the table as it is now.
func (d *Driver) definition(ctx context.Context, name string) (def definition, version uint64, err error) {
	ok, err := d.table.open(ctx, false)
	if err != nil || !ok {
		return def, 0, err
	}
	if err := d.table.sync(ctx); err != nil {
		return def, 0, err
	}
	e, ok := d.table.get(topicKey(name))
	if !ok {
		return def, 0, nil
	}
	if err := json.Unmarshal([]byte(e.value), &def); err != nil || def.Partitions < 1 {
		return def, 0, errkind.Errorf(errkind.Corrupt, "stream %q: what it says of topic %q cannot be read", d.table.stream, name)
	}
	return def, e.version, nil
}

// maxForeign is how many partitions are looked for of a topic that others made.
const maxForeign = 256

// resolveForeign finds a stream TOPIC, streams TOPIC-0, TOPIC-1 …, or a super stream with other names.
func (d *Driver) resolveForeign(ctx context.Context, name string) (*topic, error) {
	names := []string{name}
	for p := range maxForeign {
		names = append(names, streamName(name, p))
	}
	there, err := d.metadata(ctx, names)
	if err != nil {
		return nil, err
	}
	var streams []string
	for _, s := range names[1:] {
		if !there[s] {
			break
		}
		streams = append(streams, s)
	}
	if there[name] {
		streams = names[:1]
	}
	if len(streams) == 0 {
		if streams, err = d.superStream(ctx, name); err != nil {
			return nil, err
		}
	}
	if len(streams) == 0 {
		return nil, notFound(name)
	}
	return newTopic(broker.TopicConfig{Name: name, Partitions: len(streams)}, streams, 0), nil
}

// superStream lists the partitions of a super stream; none where there is no
// such. Servers before 3.11 do not answer for one that they do not know.
func (d *Driver) superStream(ctx context.Context, name string) ([]string, error) {
	c, err := d.control.get(ctx, 0)
	if err != nil {
		return nil, err
	}
	if !atLeast(c.version, 3, 11) {
		return nil, nil
	}
	in, err := c.ask(ctx, cmdPartitions, func(b []byte) []byte { return appendString(b, name) })
	if k := errkind.Of(err); err != nil && (k == errkind.NotFound || k == errkind.Unsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for n := in.uint32(); n > 0 && !in.bad; n-- {
		out = append(out, in.string())
	}
	return out, nil
}

// atLeast compares a server's version, such as 3.12.1.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err == nil && err2 == nil && (a > major || a == major && b >= minor)
}

// metadata says which of the streams exist.
func (d *Driver) metadata(ctx context.Context, names []string) (map[string]bool, error) {
	in, err := d.ask(ctx, cmdMetadata, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, uint32(len(names)))
		for _, n := range names {
			b = appendString(b, n)
		}
		return b
	})
	if err != nil {
		return nil, err
	}
	for n := in.uint32(); n > 0 && !in.bad; n-- { // brokers
		in.uint16()
		in.string()
		in.uint32()
	}
	there := map[string]bool{}
	for n := in.uint32(); n > 0 && !in.bad; n-- {
		name, code := in.string(), in.uint16()
		in.uint16()
		for r := in.uint32(); r > 0 && !in.bad; r-- {
			in.uint16()
		}
		// One that is not available has a leader soon.
		there[name] = code == codeOK || code == codeNotAvailable
	}
	if in.bad {
		return nil, errkind.New(errkind.Transient, "the server's metadata is cut short")
	}
	return there, nil
}

func (d *Driver) createStream(ctx context.Context, name string, arguments []string) error {
	_, err := d.ask(ctx, cmdCreate, func(b []byte) []byte {
		return appendStrings(appendString(b, name), arguments)
	})
	return err
}

// CreateTopic implements broker.Admin.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	if err := d.checkName(c.Name); err != nil {
		return err
	}
	if c.Partitions < 1 {
		return errkind.Errorf(errkind.Invalid, "create topic %q: %d partitions", c.Name, c.Partitions)
	}
	return d.failed(fmt.Sprintf("create topic %q", c.Name), d.createTopic(ctx, c))
}

func (d *Driver) createTopic(ctx context.Context, c broker.TopicConfig) error {
	if _, err := d.table.open(ctx, true); err != nil {
		return err
	}
	for {
		def, version, err := d.definition(ctx, c.Name)
		if err != nil {
			return err
		}
		switch {
		case version == 0:
			t, err := d.resolveForeign(ctx, c.Name)
			if err == nil {
				return samePartitions(c, len(t.streams))
			}
			if !errkind.Is(err, errkind.NotFound) {
				return err
			}
			def = definition{c, stateCreating}
			if version, err = d.define(ctx, def, 0); errkind.Is(err, errkind.Conflict) {
				continue // somebody else was first
			} else if err != nil {
				return err
			}
		case def.State == stateDeleting:
			if err := d.finishDelete(ctx, def, version); err != nil {
				return err
			}
			continue
		}
		if err := samePartitions(c, def.Partitions); err != nil {
			return err
		}
		if err := d.createStreams(ctx, def.TopicConfig); err != nil {
			return err
		}
		if def.State == stateCreating {
			def.State = stateReady
			if _, err := d.define(ctx, def, version); err != nil && !errkind.Is(err, errkind.Conflict) {
				return err
			}
		}
		return nil
	}
}

func samePartitions(c broker.TopicConfig, n int) error {
	if c.Partitions != n {
		return errkind.Errorf(errkind.Conflict, "the topic exists with %d partitions, not %d", n, c.Partitions)
	}
	return nil
}

func (d *Driver) define(ctx context.Context, def definition, version uint64) (uint64, error) {
	b, err := json.Marshal(def)
	if err != nil {
		return 0, err
	}
	return d.table.Put(ctx, topicKey(def.Name), b, version)
}

func (d *Driver) createStreams(ctx context.Context, c broker.TopicConfig) error {
	arguments := []string{"queue-leader-locator", "least-leaders"}
	if c.Retention > 0 {
		arguments = append(arguments, "max-age", strconv.FormatInt(max(1, int64(c.Retention/time.Second)), 10)+"s")
	}
	if c.RetainBytes > 0 {
		// Whole segments are freed, so they are small beside what is kept.
		segment := min(max(c.RetainBytes/8, 1<<20), 500_000_000)
		arguments = append(arguments, "max-length-bytes", strconv.FormatInt(c.RetainBytes, 10),
			"stream-max-segment-size-bytes", strconv.FormatInt(segment, 10))
	}
	for p := range c.Partitions {
		if err := d.createStream(ctx, streamName(c.Name, p), arguments); err != nil && !errkind.Is(err, errkind.Conflict) {
			return err
		}
	}
	return nil
}

// DeleteTopic implements broker.Admin.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	return d.failed(fmt.Sprintf("delete topic %q", name), d.deleteTopic(ctx, name))
}

func (d *Driver) deleteTopic(ctx context.Context, name string) error {
	for {
		def, version, err := d.definition(ctx, name)
		if err != nil {
			return err
		}
		if version == 0 {
			t, err := d.resolveForeign(ctx, name)
			if err != nil {
				return err
			}
			if err := d.deleteStreams(ctx, t.streams); err != nil {
				return err
			}
			return d.forgetState(ctx, name)
		}
		if def.State != stateDeleting {
			def.State = stateDeleting
			if version, err = d.define(ctx, def, version); errkind.Is(err, errkind.Conflict) {
				continue
			} else if err != nil {
				return err
			}
		}
		return d.finishDelete(ctx, def, version)
	}
}

func (d *Driver) finishDelete(ctx context.Context, def definition, version uint64) error {
	var streams []string
	for p := range def.Partitions {
		streams = append(streams, streamName(def.Name, p))
	}
	if err := d.deleteStreams(ctx, streams); err != nil {
		return err
	}
	if err := d.forgetState(ctx, def.Name); err != nil {
		return err
	}
	if err := d.table.Delete(ctx, topicKey(def.Name), version); err != nil && !errkind.Is(err, errkind.Conflict) {
		return err
	}
	return nil
}

func (d *Driver) deleteStreams(ctx context.Context, streams []string) error {
	for _, s := range streams {
		_, err := d.ask(ctx, cmdDelete, func(b []byte) []byte { return appendString(b, s) })
		if err != nil && !errkind.Is(err, errkind.NotFound) {
			return err
		}
	}
	return nil
}

// forgetState removes the positions of groups and the marks of Trim.
func (d *Driver) forgetState(ctx context.Context, name string) error {
	if ok, err := d.table.open(ctx, false); err != nil || !ok {
		return err
	}
	if err := lease.Forget(ctx, d.table, name); err != nil {
		return err
	}
	marks, err := d.table.List(ctx, lowKeys+hexKey(name)+".")
	if err != nil {
		return err
	}
	for _, m := range marks {
		if err := d.table.Delete(ctx, m.Key, m.Version); err != nil && !errkind.Is(err, errkind.Conflict) {
			return err
		}
	}
	return nil
}

// Topics implements broker.Admin: those made here. The protocol does not list
// the streams of others.
func (d *Driver) Topics(ctx context.Context) ([]string, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	names, err := d.listTopics(ctx)
	return names, d.failed("list topics", err)
}

func (d *Driver) listTopics(ctx context.Context) ([]string, error) {
	ok, err := d.table.open(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	if err := d.table.sync(ctx); err != nil {
		return nil, err
	}
	entries, err := d.table.List(ctx, topicKeys)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		var def definition
		if json.Unmarshal(e.Value, &def) == nil && def.State != stateDeleting {
			names = append(names, def.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// low is the first position that Trim has left; 0 where it never was called.
func (d *Driver) low(t *topic, partition int) int64 {
	e, ok := d.table.get(t.lowKeys[partition])
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(e.value), 10, 64)
	return n
}

// Trim implements broker.Admin. Streams are freed by their retention alone, so
// it moves a mark, before which nothing is delivered.
func (d *Driver) Trim(ctx context.Context, name string, partition int, before int64) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	return d.failed(fmt.Sprintf("trim topic %q partition %d", name, partition), d.trim(ctx, name, partition, before))
}

func (d *Driver) trim(ctx context.Context, name string, partition int, before int64) error {
	t, err := d.partition(ctx, name, partition)
	if err != nil {
		return err
	}
	end, err := d.end(ctx, t, partition)
	if err != nil {
		return err
	}
	before = min(before, end)
	for {
		e, _ := d.table.get(t.lowKeys[partition])
		if d.low(t, partition) >= before {
			return nil
		}
		_, err := d.table.Put(ctx, t.lowKeys[partition], []byte(strconv.FormatInt(before, 10)), e.version)
		if !errkind.Is(err, errkind.Conflict) {
			return err
		}
	}
}

// partition finds a topic that has the partition.
func (d *Driver) partition(ctx context.Context, name string, partition int) (*topic, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return nil, err
	}
	if partition < 0 || partition >= len(t.streams) {
		return nil, errkind.Errorf(errkind.NotFound, "topic %q has partitions 0 to %d, not %d", name, len(t.streams)-1, partition)
	}
	return t, nil
}
