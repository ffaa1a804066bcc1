package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// wantedReplicas is how many a stream has in a cluster where nobody says.
const wantedReplicas = 3

// CreateTopic implements broker.Admin. The stream of partition 0 is made last: a
// topic is there when it is whole.
func (d *Driver) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if c.Name == "" || c.Partitions < 1 || c.Retention < 0 || c.RetainBytes < 0 || c.DedupWindow < 0 {
		return errkind.Errorf(errkind.Invalid, "create topic %q: it needs a name, at least 1 partition, and no limit below 0", c.Name)
	}
	d.topics.drop(c.Name)
	t, err := d.topic(ctx, c.Name)
	if err == nil {
		if n := t.config.Partitions; n != c.Partitions {
			return errkind.Errorf(errkind.Conflict, "create topic %q with %d partitions: it exists with %d", c.Name, c.Partitions, n)
		}
		return nil
	}
	if !errkind.Is(err, errkind.NotFound) {
		return err
	}
	for p := c.Partitions - 1; p >= 0; p-- {
		if err := d.createStream(ctx, d.streamConfig(c, p)); err != nil {
			return fmt.Errorf("create topic %q: %w", c.Name, err)
		}
	}
	return nil
}

func (d *Driver) streamConfig(c broker.TopicConfig, p int) jetstream.StreamConfig {
	s := jetstream.StreamConfig{
		Name: streamName(c.Name, p), Subjects: []string{subjectOf(c.Name, p)},
		Description: fmt.Sprintf("partition %d of topic %s", p, c.Name),
		Retention:   jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		MaxAge: c.Retention, MaxBytes: -1, AllowDirect: true,
		AllowAtomicPublish: d.level >= levelAtomic, AllowBatchPublish: d.level >= levelFast,
		Metadata: map[string]string{
			metaTopic: c.Name, metaPartition: strconv.Itoa(p), metaPartitions: strconv.Itoa(c.Partitions),
			metaDedup: strconv.FormatBool(c.DedupWindow > 0),
		},
	}
	if c.RetainBytes > 0 {
		s.MaxBytes = c.RetainBytes
	}
	if c.DedupWindow > 0 {
		s.Duplicates = max(c.DedupWindow, 100*time.Millisecond) // the least that a server takes
		if c.Retention > 0 {
			s.Duplicates = min(s.Duplicates, c.Retention)
		}
	}
	return s
}

// createStream makes a stream with as many replicas as are wanted and useful.
func (d *Driver) createStream(ctx context.Context, c jetstream.StreamConfig) error {
	ctx, cancel := d.within(ctx)
	defer cancel()
	c.Replicas = d.replicas
	if c.Replicas == 0 {
		c.Replicas = 1
		if d.nc.ConnectedClusterName() != "" {
			c.Replicas = wantedReplicas
		}
	}
	_, err := d.js.CreateStream(ctx, c)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeReplicas && d.replicas == 0 && c.Replicas > 1 { // a cluster without JetStream's
		c.Replicas = 1
		_, err = d.js.CreateStream(ctx, c)
	}
	for errors.As(err, &api) && api.ErrorCode == codeNoPeers && pause(ctx, reconnectWait) { // a node that is about to come back
		_, err = d.js.CreateStream(ctx, c)
	}
	if errors.As(err, &api) && api.ErrorCode == codeNoPeers {
		return errkind.Errorf(errkind.Transient, "create stream %s with %d replicas at %s: %w; say how many with the option replicas", c.Name, c.Replicas, d.where, err)
	}
	return d.failed("create stream "+c.Name, err)
}

// pause waits, and says whether ctx goes on.
func pause(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// DeleteTopic implements broker.Admin. The stream of partition 0 goes last, so
// that a call which was interrupted can be repeated.
func (d *Driver) DeleteTopic(ctx context.Context, name string) error {
	d.topics.drop(name)
	t, err := d.topic(ctx, name)
	if err != nil {
		return err
	}
	defer d.topics.drop(name)
	ctx, cancel := d.within(ctx)
	defer cancel()
	for _, p := range slices.Backward(t.partitions) {
		if err := d.js.DeleteStream(ctx, p.stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return d.failed(fmt.Sprintf("delete topic %q", name), err)
		}
	}
	if err := lease.Forget(ctx, d.table, name); err != nil {
		return fmt.Errorf("forget the groups of topic %q: %w", name, err)
	}
	return nil
}

// Topics implements broker.Admin: streams that others made are topics, too;
// buckets and what MQTT keeps are not.
func (d *Driver) Topics(ctx context.Context) ([]string, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	list := d.js.ListStreams(ctx)
	var names []string
	for s := range list.Info() {
		topic, ours := s.Config.Metadata[metaTopic]
		switch {
		case !ours && foreignName(s.Config.Name):
			names = append(names, s.Config.Name)
		case ours && s.Config.Metadata[metaPartition] == "0":
			names = append(names, topic)
		}
	}
	if err := list.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return nil, d.failed("list topics", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Trim implements broker.Admin.
func (d *Driver) Trim(ctx context.Context, name string, part int, before int64) error {
	p, err := d.find(ctx, name, part)
	if err != nil {
		return err
	}
	if before <= 0 {
		return nil
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	s, err := d.stream(ctx, name, p)
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	return d.failed(fmt.Sprintf("trim topic %q", name), s.Purge(ctx, jetstream.WithPurgeSequence(min(uint64(before), last)+1)))
}

// find looks a partition up.
func (d *Driver) find(ctx context.Context, name string, part int) (*partition, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return nil, err
	}
	return t.partition(part)
}

// stream asks for a partition's stream as it is now. While a cluster chooses the
// stream's leader a node that has just started may answer with what it had on its
// disk: then it is asked again.
func (d *Driver) stream(ctx context.Context, name string, p *partition) (jetstream.Stream, error) {
	for {
		s, err := d.js.Stream(ctx, p.stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			d.topics.drop(name)
			return nil, notFound(name)
		}
		if err != nil {
			return nil, d.failed(fmt.Sprintf("look up topic %q", name), err)
		}
		c := s.CachedInfo().Cluster
		if c == nil || c.Leader != "" {
			return s, nil
		}
		if !pause(ctx, reconnectWait) {
			return nil, errkind.Errorf(errkind.Transient, "topic %q has no leader at the moment", name)
		}
	}
}

// Seek implements broker.Admin, by halving.
func (d *Driver) Seek(ctx context.Context, name string, part int, t time.Time) (int64, error) {
	p, err := d.find(ctx, name, part)
	if err != nil {
		return 0, err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	s, err := d.stream(ctx, name, p)
	if err != nil {
		return 0, err
	}
	state := s.CachedInfo().State
	end := int64(state.LastSeq)
	switch {
	case state.Msgs == 0 || t.After(state.LastTime):
		return end, nil
	case !t.After(state.FirstTime):
		return int64(state.FirstSeq) - 1, nil
	}
	// Between two messages of which the times are known.
	lo, hi := state.FirstSeq, state.LastSeq // lo is before t, hi is not
	for hi-lo > 1 {
		mid := lo + (hi-lo)/2
		m, err := d.nextFrom(ctx, p.stream, mid)
		if err != nil {
			return 0, d.failed(fmt.Sprintf("seek in topic %q", name), err)
		}
		switch {
		case !m.Time.Before(t):
			hi = mid
		case m.Seq >= hi:
			hi = mid
		default:
			lo = m.Seq
		}
	}
	return int64(hi) - 1, nil
}

// Describe implements broker.Driver.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return broker.Topic{}, err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	out := broker.Topic{Config: t.config, Partitions: make([]broker.PartitionState, len(t.partitions))}
	const atOnce = 16
	errs := make([]error, len(t.partitions))
	turn := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for p := range t.partitions {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			out.Partitions[p], errs[p] = d.state(ctx, name, group, p, &t.partitions[p])
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// state asks for the group's position first: the end is never before it.
func (d *Driver) state(ctx context.Context, name, group string, part int, p *partition) (broker.PartitionState, error) {
	committed := lease.NoPosition
	if group != "" {
		var err error
		if committed, err = d.table.position(ctx, name, group, part); err != nil {
			return broker.PartitionState{}, fmt.Errorf("describe topic %q: %w", name, err)
		}
	}
	s, err := d.stream(ctx, name, p)
	if err != nil {
		return broker.PartitionState{}, err
	}
	st := s.CachedInfo().State
	out := broker.PartitionState{
		Start: max(int64(st.FirstSeq)-1, 0), End: int64(st.LastSeq), Bytes: int64(st.Bytes), Committed: committed,
	}
	next := max(committed, out.Start)
	if st.Msgs == 0 || next >= out.End {
		return out, nil
	}
	out.Waiting = min(out.End-next, int64(st.Msgs))
	if next == out.Start {
		out.OldestTime = st.FirstTime.UnixNano()
		return out, nil
	}
	m, err := d.nextFrom(ctx, p.stream, uint64(next)+1)
	switch {
	case errors.Is(err, errNoMessage): // trimmed meanwhile, or deleted
		out.Waiting = 0
	case err != nil:
		return out, d.failed(fmt.Sprintf("describe topic %q", name), err)
	default:
		out.OldestTime = m.Time.UnixNano()
	}
	return out, nil
}
