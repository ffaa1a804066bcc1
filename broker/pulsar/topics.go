package pulsar

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Names of topic properties.
const (
	propRetention   = "freshet.retention"
	propRetainBytes = "freshet.retain_bytes"
	propDedup       = "freshet.dedup_window"
	propStart       = "freshet.start." // + partition: the first position that is not trimmed
	propGroup       = "freshet.group"  // of topics that hold a group's positions
)

// groupPrefix begins the names of topics that hold groups' positions.
const groupPrefix = "freshet-positions~"

// topic is what the driver knows of a topic.
type topic struct {
	name        string
	partitioned bool
	parts       []*part
	spread      atomic.Uint32 // where the next record without a key goes

	dedupOnce sync.Mutex
	dedup     bool // the broker deduplicates by producer, as far as is known
}

// physical is the Pulsar topic of partition p.
func (t *topic) physical(p int) string {
	if t.partitioned {
		return partitionName(t.name, p)
	}
	return t.name
}

// metadata is a topic's as the admin API tells it.
type metadata struct {
	Partitions int               `json:"partitions"`
	Properties map[string]string `json:"properties"`
}

// topic returns what is known of a topic, asking the cluster the first time.
func (d *Driver) topic(ctx context.Context, name string) (*topic, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	if t, ok := d.topics.Load(name); ok {
		return t.(*topic), nil
	}
	_, t, err := d.look(ctx, name)
	return t, err
}

// look asks the cluster for a topic.
func (d *Driver) look(ctx context.Context, name string) (metadata, *topic, error) {
	var m metadata
	if err := checkName(name); err != nil {
		return m, nil, err
	}
	if err := d.call(ctx, http.MethodGet, d.path(name, "partitions?checkAllowAutoCreation=false"), nil, &m); err != nil {
		if errkind.Is(err, errkind.NotFound) {
			d.topics.Delete(name)
		}
		return m, nil, d.fail(ctx, fmt.Sprintf("look up topic %q", name), err)
	}
	if m.Partitions == 0 {
		if err := d.call(ctx, http.MethodGet, d.path(name, "properties"), nil, &m.Properties); err != nil {
			return m, nil, d.fail(ctx, fmt.Sprintf("look up topic %q", name), err)
		}
	}
	t := &topic{name: name, partitioned: m.Partitions > 0}
	if known, ok := d.topics.Load(name); ok && known.(*topic).partitioned == t.partitioned && len(known.(*topic).parts) == max(m.Partitions, 1) {
		t = known.(*topic)
	} else {
		for p := range max(m.Partitions, 1) {
			t.parts = append(t.parts, &part{d: d, topic: t, index: p})
		}
		d.topics.Store(name, t)
	}
	for p := range t.parts {
		at, _ := strconv.ParseInt(m.Properties[propStart+strconv.Itoa(p)], 10, 64)
		t.parts[p].raise(at)
	}
	return m, t, nil
}

func checkName(name string) error {
	if name == "" || strings.ContainsAny(name, "/\\?#%\x00") || strings.Contains(name, "-partition-") {
		return errkind.Errorf(errkind.NotFound, "topic %q: a Pulsar topic's name here has no /, \\, ?, # and %%, and no -partition-", name)
	}
	return nil
}

// CreateTopic implements broker.Admin: a partitioned topic whose retention is
// a policy of its own.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	if err := checkName(c.Name); err != nil {
		return errkind.With(errkind.Invalid, err)
	}
	what := fmt.Sprintf("create topic %q", c.Name)
	if c.Partitions < 1 {
		return errkind.Errorf(errkind.Invalid, "%s: %d partitions, expected at least 1", what, c.Partitions)
	}
	m := metadata{c.Partitions, map[string]string{
		propRetention:   c.Retention.String(),
		propRetainBytes: strconv.FormatInt(c.RetainBytes, 10),
		propDedup:       c.DedupWindow.String(),
	}}
	err := d.createPartitioned(ctx, c.Name, m)
	if errkind.Is(err, errkind.Conflict) {
		have, t, err := d.look(ctx, c.Name)
		if err != nil {
			return d.fail(ctx, what, err)
		}
		if len(t.parts) != c.Partitions {
			return errkind.Errorf(errkind.Conflict, "%s: it exists with %d partitions, not %d", what, len(t.parts), c.Partitions)
		}
		if have.Properties[propRetention] == "" || have.Properties[propKeeper] != "" {
			return nil // somebody else's, or trimmed: the policies are what they have to be
		}
		m = have
	} else if err != nil {
		return d.fail(ctx, what, err)
	}
	d.topics.Delete(c.Name)
	kept := configOf(c.Name, m)
	return d.fail(ctx, what, d.setPolicies(ctx, c.Name, minutes(kept.Retention), mebibytes(kept.RetainBytes), true))
}

func (d *Driver) createPartitioned(ctx context.Context, name string, m metadata) error {
	ctx, stop := d.scope(ctx)
	defer stop()
	return d.rest.create(ctx, d.path(name, "partitions"), m)
}

// setPolicies says how long a topic keeps its records, that it stays when
// nobody uses it, and, with dedup, that what a producer sends again after a
// lost connection is stored once.
func (d *Driver) setPolicies(ctx context.Context, name string, minutes, megabytes int64, dedup bool) error {
	set := func(policy string, in any) error {
		err := d.call(ctx, http.MethodPost, d.path(name, policy), in, nil)
		if errkind.Is(err, errkind.Unsupported) {
			return errkind.Errorf(errkind.Config, "the cluster refuses policies of topics: set topicLevelPoliciesEnabled and systemTopicEnabled in the brokers: %w", err)
		}
		return err
	}
	if err := set("retention", map[string]int64{"retentionTimeInMinutes": minutes, "retentionSizeInMB": megabytes}); err != nil {
		return err
	}
	if err := set("inactiveTopicPolicies", map[string]any{
		"inactiveTopicDeleteMode": "delete_when_no_subscriptions", "maxInactiveDurationSeconds": 60, "deleteWhileInactive": false,
	}); err != nil {
		return err
	}
	if dedup {
		return set("deduplicationEnabled", true)
	}
	return nil
}

func minutes(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return min(int64((d+time.Minute-1)/time.Minute), math.MaxInt32)
}

func mebibytes(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return max(n>>20, 1)
}

// configOf reads a topic's properties.
func configOf(name string, m metadata) broker.TopicConfig {
	c := broker.TopicConfig{Name: name, Partitions: max(m.Partitions, 1)}
	c.Retention, _ = time.ParseDuration(m.Properties[propRetention])
	c.RetainBytes, _ = strconv.ParseInt(m.Properties[propRetainBytes], 10, 64)
	c.DedupWindow, _ = time.ParseDuration(m.Properties[propDedup])
	return c
}

// DeleteTopic implements broker.Admin. The positions of all its groups go with it.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	what := fmt.Sprintf("delete topic %q", name)
	t, err := d.topic(ctx, name)
	if err != nil {
		return d.fail(ctx, what, err)
	}
	for _, p := range t.parts {
		p.drop()
	}
	d.topics.Delete(name)
	_, partitioned, err := d.list(ctx)
	if err != nil {
		return d.fail(ctx, what, err)
	}
	err = d.remove(ctx, name, t.partitioned)
	for _, group := range partitioned {
		if strings.HasPrefix(group, groupPrefix+safe(name)+"~") {
			if err := d.remove(ctx, group, true); err != nil && !errkind.Is(err, errkind.NotFound) {
				return d.fail(ctx, what, err)
			}
		}
	}
	return d.fail(ctx, what, err)
}

func (d *Driver) remove(ctx context.Context, name string, partitioned bool) error {
	suffix := "?force=true"
	if partitioned {
		suffix = "/partitions?force=true"
	}
	return d.call(ctx, http.MethodDelete, d.path(name, "")+suffix, nil, nil)
}

// Topics implements broker.Admin.
func (d *Driver) Topics(ctx context.Context) ([]string, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	plain, partitioned, err := d.list(ctx)
	if err != nil {
		return nil, d.fail(ctx, "list topics", err)
	}
	names := map[string]bool{}
	for _, name := range partitioned {
		names[name] = true
	}
	for _, name := range plain {
		if i := strings.LastIndex(name, "-partition-"); i < 0 {
			names[name] = true
		}
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool {
		return strings.HasPrefix(name, groupPrefix) || strings.HasPrefix(name, "__")
	})
	return slices.Sorted(maps.Keys(names)), nil
}

// list names the namespace's topics, without their domain.
func (d *Driver) list(ctx context.Context) (plain, partitioned []string, err error) {
	if err := d.call(ctx, http.MethodGet, d.path("", "partitioned"), nil, &partitioned); err != nil {
		return nil, nil, err
	}
	if err := d.call(ctx, http.MethodGet, d.path("", ""), nil, &plain); err != nil {
		return nil, nil, err
	}
	for _, names := range [][]string{plain, partitioned} {
		for i, name := range names {
			names[i] = name[strings.LastIndexByte(name, '/')+1:]
		}
	}
	return plain, partitioned, nil
}

// groupTopic is the topic with the positions of a group in a topic.
func groupTopic(topic, group string) string { return groupPrefix + safe(topic) + "~" + safe(group) }

// safe is name itself where it has letters, digits, dots, dashes and
// underscores only, and else "=" and its base64.
func safe(name string) string {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return "=" + base64.RawURLEncoding.EncodeToString([]byte(name))
		}
	}
	return name
}

var errNoPartition = errors.New("there is no such partition")

// part returns one partition of a topic.
func (d *Driver) part(ctx context.Context, name string, p int) (*part, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return nil, err
	}
	if p < 0 || p >= len(t.parts) {
		return nil, errkind.Errorf(errkind.NotFound, "topic %q has %d partitions, not partition %d: %w", name, len(t.parts), p, errNoPartition)
	}
	return t.parts[p], nil
}
