package redis

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// topic is what the driver knows of a topic. It does not change: a topic that
// is deleted and made anew has another uid, which every script looks at.
type topic struct {
	config broker.TopicConfig
	// uid is empty for a stream without our metadata.
	uid string
	// native says that the stream was made by others: one partition, whose
	// positions are the ids that Redis gave.
	native bool
	// typed says how rows become JSON.
	typed   bool
	prefix  string   // of the topic's keys but for a native stream's
	streams []string // keys
}

func (t *topic) meta() string             { return t.prefix + "meta" }
func (t *topic) ids() string              { return t.prefix + "ids" }
func (t *topic) groups() string           { return t.prefix + "groups" }
func (t *topic) group(g string) string    { return t.prefix + "group:" + g }
func (t *topic) members(g string) string  { return t.prefix + "members:" + g }
func (d *Driver) catalogue() string       { return d.prefix + "freshet:topics" }
func (d *Driver) keys(name string) string { return d.prefix + name + ":" }
func milliseconds(d time.Duration) int64  { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// newTopic is the topic with its keys.
func (d *Driver) newTopic(c broker.TopicConfig, uid string) *topic {
	t := &topic{config: c, uid: uid, native: uid == "", typed: d.typed, prefix: d.keys(c.Name)}
	if t.native {
		t.streams = []string{d.prefix + c.Name}
		return t
	}
	for p := range c.Partitions {
		t.streams = append(t.streams, t.prefix+strconv.Itoa(p))
	}
	return t
}

func errMissing(name string) error {
	return errkind.Errorf(errkind.NotFound, "topic %q does not exist", name)
}

func (t *topic) check(partition int) error {
	if partition < 0 || partition >= len(t.streams) {
		return errkind.Errorf(errkind.NotFound, "topic %q has no partition %d; it has %d", t.config.Name, partition, len(t.streams))
	}
	return nil
}

// known returns the topic, from memory where it was asked for before.
func (d *Driver) known(ctx context.Context, name string) (*topic, error) {
	d.mu.Lock()
	t := d.topics[name]
	d.mu.Unlock()
	if t != nil {
		return t, nil
	}
	return d.resolve(ctx, name)
}

// forget makes the next known ask the server.
func (d *Driver) forget(t *topic) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.topics[t.config.Name] == t {
		delete(d.topics, t.config.Name)
	}
}

// onTopic calls f with the topic, and once more where it turned out to be another one.
func (d *Driver) onTopic(ctx context.Context, name string, f func(t *topic) (gone bool, err error)) error {
	for range 3 {
		t, err := d.known(ctx, name)
		if err != nil {
			return err
		}
		gone, err := f(t)
		if err != nil || !gone {
			return err
		}
		d.forget(t)
	}
	return errMissing(name)
}

// resolve asks the server for a topic.
func (d *Driver) resolve(ctx context.Context, name string) (*topic, error) {
	var meta *redis.MapStringStringCmd
	var kind *redis.StatusCmd
	err := d.call(ctx, func(ctx context.Context) error {
		pipe := d.client.Pipeline()
		meta = pipe.HGetAll(ctx, d.keys(name)+"meta")
		kind = pipe.Type(ctx, d.prefix+name)
		_, err := pipe.Exec(ctx)
		return err
	})
	if err != nil {
		return nil, d.failed(ctx, "look for topic "+name+" on", err)
	}
	var t *topic
	if m := meta.Val(); m["uid"] != "" {
		c := broker.TopicConfig{Name: name}
		var n [4]int64
		for i, field := range []string{"partitions", "retention", "bytes", "window"} {
			v, ok := decimal(m[field])
			if !ok || v < 0 || i == 0 && (v < 1 || v > maxPartitions) {
				return nil, errkind.Errorf(errkind.Corrupt, "topic %q: its metadata has %s = %q", name, field, m[field])
			}
			n[i] = v
		}
		c.Partitions, c.RetainBytes = int(n[0]), n[2]
		c.Retention, c.DedupWindow = time.Duration(n[1])*time.Millisecond, time.Duration(n[3])*time.Millisecond
		t = d.newTopic(c, m["uid"])
	} else if kind.Val() == "stream" {
		t = d.newTopic(broker.TopicConfig{Name: name, Partitions: 1}, "")
	} else {
		return nil, errMissing(name)
	}
	d.mu.Lock()
	d.topics[name] = t
	d.mu.Unlock()
	return t, nil
}

// Describe implements broker.Driver.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	var out broker.Topic
	err := d.onTopic(ctx, name, func(t *topic) (bool, error) {
		keys := append([]string{t.meta(), t.meta()}, t.streams...)
		asked := "0"
		if group != "" {
			keys[1], asked = t.group(group), "1"
		}
		answer, err := d.script(ctx, scriptDescribe, keys, t.uid, asked)
		if err != nil {
			return false, d.failed(ctx, "describe topic on", err)
		}
		if len(answer) != 1+7*len(t.streams) {
			return true, nil
		}
		out = broker.Topic{Config: t.config, Partitions: make([]broker.PartitionState, len(t.streams))}
		for p := range out.Partitions {
			var f [7]string
			for i := range f {
				f[i], _ = answer[1+7*p+i].(string)
			}
			if out.Partitions[p], err = t.state(f); err != nil {
				return false, err
			}
		}
		return false, nil
	})
	return out, err
}

// state reads what describe.lua says of one partition: first id, last id,
// entries, bytes, the group's next id, the oldest one waiting and its time.
func (t *topic) state(f [7]string) (s broker.PartitionState, err error) {
	if s.Start, s.End, err = t.bounds(f[0], f[1]); err != nil {
		return s, err
	}
	entries, _ := decimal(f[2])
	s.Bytes, _ = decimal(f[3])
	s.Committed = -1
	if f[4] != "" {
		i, err := parseID(f[4])
		if err != nil {
			return s, err
		}
		if s.Committed, err = t.positionOf(i); err != nil {
			return s, err
		}
	}
	if f[5] == "" {
		return s, nil
	}
	oldest, err := parseID(f[5])
	if err != nil {
		return s, err
	}
	at, err := t.positionOf(oldest)
	if err != nil {
		return s, err
	}
	switch us, ok := decimal(f[6]); {
	case ok:
		s.OldestTime = us * 1000
	case t.native:
		s.OldestTime = int64(oldest.ms) * 1e6
	default:
		s.OldestTime = 1 // an entry that does not say when
	}
	switch {
	case at <= s.Start:
		s.Waiting = entries
	case t.native: // as if they had come evenly
		s.Waiting = int64(float64(entries) * float64(s.End-at) / float64(s.End-s.Start))
	default:
		s.Waiting = s.End - at
	}
	s.Waiting = max(1, min(s.Waiting, entries))
	return s, nil
}

// CreateTopic implements broker.Admin. A stream that others made is a topic of one partition already.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		return errkind.Errorf(errkind.Invalid, "%d partitions asked for, 1 to %d are possible", c.Partitions, maxPartitions)
	}
	t := d.newTopic(c, newToken())
	keys := append([]string{t.meta(), d.catalogue(), d.prefix + c.Name}, t.streams...)
	var n int
	err := d.call(ctx, func(ctx context.Context) error {
		var err error
		n, err = d.run(ctx, scriptCreate, keys, base, c.Name, t.uid, milliseconds(c.Retention), c.RetainBytes, milliseconds(c.DedupWindow)).Int()
		return err
	})
	if err != nil {
		return d.failed(ctx, "create topic on", err)
	}
	if n < 0 {
		return errkind.Errorf(errkind.Conflict, "the key %q holds something that is no stream", d.prefix+c.Name)
	}
	if n != c.Partitions {
		return errkind.Errorf(errkind.Conflict, "topic %q exists with %d partitions, %d are wanted", c.Name, n, c.Partitions)
	}
	return nil
}

// DeleteTopic implements broker.Admin.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	return d.onTopic(ctx, name, func(t *topic) (bool, error) {
		keys := append([]string{t.meta(), d.catalogue(), t.ids(), t.groups()}, t.streams...)
		var gone int
		err := d.call(ctx, func(ctx context.Context) error {
			var err error
			gone, err = d.run(ctx, scriptDelete, keys, t.uid, name, t.prefix).Int()
			return err
		})
		if err != nil {
			return false, d.failed(ctx, "delete topic on", err)
		}
		d.forget(t)
		return gone == 1, nil
	})
}

// Topics implements broker.Admin. Streams that others made are found by SCAN.
func (d *Driver) Topics(ctx context.Context) ([]string, error) {
	var names []string
	err := d.call(ctx, func(ctx context.Context) error {
		var err error
		names, err = d.client.SMembers(ctx, d.catalogue()).Result()
		return err
	})
	for cursor, more := uint64(0), true; more && err == nil; more = cursor != 0 {
		var keys []string
		err = d.call(ctx, func(ctx context.Context) error {
			var err error
			keys, cursor, err = d.client.ScanType(ctx, cursor, escapeGlob(d.prefix)+"*", 1000, "stream").Result()
			return err
		})
		for _, k := range keys {
			if name := k[min(len(d.prefix), len(k)):]; broker.CheckTopicName(name) == nil {
				names = append(names, name)
			}
		}
	}
	if err != nil {
		return nil, d.failed(ctx, "list topics of", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// escapeGlob makes s match itself in a pattern of SCAN.
func escapeGlob(s string) string {
	var out []byte
	for i := range len(s) {
		switch s[i] {
		case '*', '?', '[', ']', '\\':
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return string(out)
}

// Trim implements broker.Admin.
func (d *Driver) Trim(ctx context.Context, name string, partition int, before int64) error {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return err
	}
	if err := t.check(partition); err != nil {
		return err
	}
	err = d.call(ctx, func(ctx context.Context) error {
		return d.client.XTrimMinID(ctx, t.streams[partition], t.at(before).String()).Err()
	})
	if err != nil {
		return d.failed(ctx, "trim topic on", err)
	}
	return nil
}

// Seek implements broker.Admin.
func (d *Driver) Seek(ctx context.Context, name string, partition int, at time.Time) (int64, error) {
	t, err := d.resolve(ctx, name)
	if err != nil {
		return 0, err
	}
	if err := t.check(partition); err != nil {
		return 0, err
	}
	if t.native {
		return d.seekNative(ctx, t, at)
	}
	var n int64
	us := max(0, at.UnixMicro())
	if at.Nanosecond()%1000 != 0 {
		us++ // the first microsecond that is not before it
	}
	err = d.call(ctx, func(ctx context.Context) error {
		var err error
		n, err = d.run(ctx, scriptSeek, []string{t.meta(), t.streams[partition]}, t.uid, base, us).Int64()
		return err
	})
	switch {
	case err != nil:
		return 0, d.failed(ctx, "seek in topic on", err)
	case n < 0:
		return 0, errMissing(name)
	}
	return max(n, 1) - 1, nil
}

func (d *Driver) seekNative(ctx context.Context, t *topic, at time.Time) (int64, error) {
	ms := max(0, at.UnixMilli())
	if at.UnixNano()%1e6 != 0 {
		ms++
	}
	var found []redis.XMessage
	err := d.call(ctx, func(ctx context.Context) error {
		var err error
		found, err = d.client.XRangeN(ctx, t.streams[0], strconv.FormatInt(ms, 10), "+", 1).Result()
		return err
	})
	if err != nil {
		return 0, d.failed(ctx, "seek in topic on", err)
	}
	if len(found) == 0 {
		s, err := d.Describe(ctx, t.config.Name, "")
		if err != nil {
			return 0, err
		}
		return s.Partitions[0].End, nil
	}
	i, err := parseID(found[0].ID)
	if err != nil {
		return 0, err
	}
	return t.positionOf(i)
}
