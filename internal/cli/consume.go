package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
)

type consumeFlags struct {
	from      string
	follow    bool
	limit     int64
	partition int
	group     string
	output    string
}

// fetchRecords is the most records that one fetch asks for.
const fetchRecords = 1000

func (a *app) consumeCommand() *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read the events of a topic",
		Long: `Read the events of a topic up to its end at the time of the call, or on with --follow.

Outputs:
  json    the payload of each event as one line; the default on a pipe. What is
          not JSON is written as {"data_base64":"…"}
  event   the whole CloudEvents 1.0 event as one line, with its partition and position
  table   partition, position, time, key and payload; the default on a terminal

Events of one partition come in order. Without --follow, those of several are
merged by the time at which they were stored. With --group the group's position
is committed after the events have been written, so that the next call goes on
there; --from then matters only for a group that has no position.`,
		Example: `  freshet consume scored-transactions --limit 3
  freshet consume fraud-alerts --follow --from latest
  freshet consume transactions --from 2026-01-31T12:00:00Z --output event
  freshet consume scored-transactions --group billing > new.jsonl`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.consume(cmd.Context(), args[0], f) },
	}
	p := cmd.Flags()
	p.StringVar(&f.from, "from", "earliest", "where to begin: earliest, latest, a POSITION, or a TIME (RFC 3339, a date, or an age such as 15m)")
	p.BoolVarP(&f.follow, "follow", "f", false, "go on with new events until interrupted")
	p.Int64Var(&f.limit, "limit", 0, "end after so many events; 0 means no limit")
	p.IntVar(&f.partition, "partition", -1, "read only this partition")
	p.StringVar(&f.group, "group", "", "read as a member of this consumer group and commit its position")
	p.StringVarP(&f.output, "output", "o", "", "output: json, event, table (default table on a terminal, else json)")
	return cmd
}

func (a *app) consume(ctx context.Context, topic string, f consumeFlags) (err error) {
	if f.output == "" {
		f.output = "json"
		if _, ok := a.Width(a.Stdout); ok {
			f.output = "table"
		}
	}
	if err := checkOutput(f.output, "json", "event", "table"); err != nil {
		return err
	}
	from, err := parseStart(f.from, a.Now())
	switch {
	case err != nil:
		return err
	case f.limit < 0:
		return usagef("--limit %d: expected 0 or more", f.limit)
	case f.partition < -1:
		return usagef("--partition %d: expected 0 or more", f.partition)
	case f.group != "" && f.partition >= 0:
		return usagef("--group and --partition: give one of them; a group shares all partitions")
	case f.group != "" && !from.earliest && !from.latest:
		return usagef("--from %q: with --group expected earliest or latest", f.from)
	}
	b, err := a.openExisting(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	t, err := b.Describe(ctx, topic, "")
	if err != nil {
		return a.nameTopics(ctx, b, topic, err)
	}
	if f.partition >= len(t.Partitions) {
		return usagef("--partition %d: topic %q has the partitions 0 to %d", f.partition, topic, len(t.Partitions)-1)
	}
	w := bufio.NewWriterSize(a.Stdout, 64<<10)
	width, _ := a.Width(a.Stdout)
	p := &printer{w: w, output: f.output, width: width, left: f.limit, unlimited: f.limit == 0}
	if f.group != "" {
		err = consumeGroup(ctx, b, topic, t, f, from, p)
	} else {
		err = consumeTopic(ctx, b, topic, t, f, from, p)
	}
	if ferr := w.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write output: %w", ferr)
	}
	switch {
	case errors.Is(err, errLimit):
		return nil
	case errkind.Is(err, errkind.Canceled) && ctx.Err() != nil && f.follow:
		return nil // Ctrl-C is how following ends
	case errkind.Is(err, errkind.Canceled) && ctx.Err() != nil:
		return errkind.New(errkind.Canceled, "interrupted before the end of the topic")
	}
	return err
}

// nameTopics adds to a missing topic's error what there is instead.
func (a *app) nameTopics(ctx context.Context, b *broker.Broker, topic string, err error) error {
	if !errkind.Is(err, errkind.NotFound) {
		return err
	}
	names, lerr := b.Topics(ctx)
	switch near := spell.Nearest(topic, names); {
	case lerr != nil:
		return err
	case near != "":
		return errkind.Errorf(errkind.NotFound, "topic %q does not exist in %s; did you mean %q?", topic, a.where(), near)
	case len(names) == 0:
		return errkind.Errorf(errkind.NotFound, "topic %q does not exist: %s holds no topics; name another folder with --data, another broker with --broker, or send events with freshet produce", topic, a.where())
	}
	return errkind.Errorf(errkind.NotFound, "topic %q does not exist in %s; there are: %s", topic, a.where(), strings.Join(names, ", "))
}

// startAt is where reading begins; one of its fields is set.
type startAt struct {
	earliest, latest bool
	position         int64
	time             time.Time
}

func parseStart(s string, now time.Time) (startAt, error) {
	switch s {
	case "earliest":
		return startAt{earliest: true}, nil
	case "latest":
		return startAt{latest: true}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return startAt{position: n}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return startAt{time: now.Add(-d)}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return startAt{time: t}, nil
		}
	}
	return startAt{}, usagef("--from %q: expected earliest, latest, a position, a time such as 2026-01-31T12:00:00Z, or an age such as 15m", s)
}

// in returns the position at which reading a partition begins.
func (s startAt) in(ctx context.Context, b *broker.Broker, topic string, partition int, p broker.PartitionState) (int64, error) {
	switch {
	case s.earliest:
		return p.Start, nil
	case s.latest:
		return p.End, nil
	case !s.time.IsZero():
		return b.Seek(ctx, topic, partition, s.time)
	}
	return max(s.position, p.Start), nil
}

// cursor reads one partition.
type cursor struct {
	partition int
	reader    broker.Reader
	end       int64 // where history ends
	next      int64
	batch     *broker.Batch
	at        int
}

// peek makes sure that the cursor stands on a record before its end; it
// returns false when history is done.
func (c *cursor) peek(ctx context.Context) (bool, error) {
	if c.batch != nil && c.at < len(c.batch.Records) {
		return c.batch.Records[c.at].Position < c.end, nil
	}
	if c.next >= c.end {
		return false, nil
	}
	if err := c.fetch(ctx); err != nil {
		return false, err
	}
	return c.batch.Records[0].Position < c.end, nil
}

func (c *cursor) fetch(ctx context.Context) error {
	c.batch.Release()
	c.batch, c.at = nil, 0
	b, err := c.reader.Fetch(ctx, fetchRecords)
	if err != nil {
		return err
	}
	c.batch, c.next = b, b.Next()
	return nil
}

func (c *cursor) close() error {
	c.batch.Release()
	return c.reader.Close()
}

// consumeTopic reads outside of any group: history merged by time, then, to
// follow, each partition as its records come.
func consumeTopic(ctx context.Context, b *broker.Broker, topic string, t broker.Topic, f consumeFlags, from startAt, p *printer) (err error) {
	var cursors []*cursor
	defer func() {
		for _, c := range cursors {
			err = errors.Join(err, c.close())
		}
	}()
	for i, state := range t.Partitions {
		if f.partition >= 0 && i != f.partition {
			continue
		}
		start, err := from.in(ctx, b, topic, i, state)
		if err != nil {
			return err
		}
		if start >= state.End && !f.follow {
			continue
		}
		r, err := b.Read(ctx, topic, i, start)
		if err != nil {
			return err
		}
		cursors = append(cursors, &cursor{partition: i, reader: r, next: start, end: state.End})
	}
	if err := printHistory(ctx, cursors, p); err != nil || !f.follow {
		return err
	}
	return follow(ctx, cursors, p)
}

func printHistory(ctx context.Context, cursors []*cursor, p *printer) error {
	for {
		var first *cursor
		for _, c := range cursors {
			ok, err := c.peek(ctx)
			if err != nil {
				return err
			}
			if ok && (first == nil || c.batch.Records[c.at].Time < first.batch.Records[first.at].Time) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		if err := p.print(first.partition, &first.batch.Records[first.at]); err != nil {
			return err
		}
		first.at++
	}
}

// follow prints what the cursors hold and all that comes until ctx ends.
func follow(ctx context.Context, cursors []*cursor, p *printer) error {
	ctx, cancel := context.WithCancel(ctx)
	type arrival struct {
		c   *cursor
		err error
	}
	arrivals := make(chan arrival)
	again := make([]chan struct{}, len(cursors))
	running := 0
	defer func() {
		cancel()
		for _, c := range again {
			close(c)
		}
		for ; running > 0; running-- {
			<-arrivals
		}
	}()
	for i := range cursors {
		again[i] = make(chan struct{}, 1)
		running++
		go func() {
			c := cursors[i]
			for range again[i] {
				err := c.fetch(ctx)
				arrivals <- arrival{c, err}
				if err != nil {
					return
				}
			}
			arrivals <- arrival{err: context.Canceled}
		}()
	}
	flush := func(c *cursor) error {
		for ; c.batch != nil && c.at < len(c.batch.Records); c.at++ {
			if err := p.print(c.partition, &c.batch.Records[c.at]); err != nil {
				return err
			}
		}
		return p.w.Flush()
	}
	for i, c := range cursors {
		if err := flush(c); err != nil {
			return err
		}
		again[i] <- struct{}{}
	}
	for {
		got := <-arrivals
		if got.err != nil {
			running--
			return got.err
		}
		if err := flush(got.c); err != nil {
			return err
		}
		for i := range cursors {
			if cursors[i] == got.c {
				again[i] <- struct{}{}
			}
		}
	}
}
