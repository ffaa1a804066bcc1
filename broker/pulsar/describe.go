package pulsar

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// ledgerStats is a partition's storage, as the admin API tells it.
type ledgerStats struct {
	Pending        int64  `json:"pendingAddEntriesCount"`
	TotalSize      int64  `json:"totalSize"`
	CurrentEntries int64  `json:"currentLedgerEntries"`
	LastConfirmed  string `json:"lastConfirmedEntry"`
	Ledgers        []struct {
		ID      int64 `json:"ledgerId"`
		Entries int64 `json:"entries"`
	} `json:"ledgers"`
}

// first is the first ledger with entries.
func (s *ledgerStats) first() (id, bool) {
	for i, l := range s.Ledgers {
		if l.Entries > 0 || i == len(s.Ledgers)-1 && s.CurrentEntries > 0 {
			return id{ledger: l.ID}, true
		}
	}
	return id{}, false
}

// entriesFrom counts the entries at and behind from.
func (s *ledgerStats) entriesFrom(from id) (n int64) {
	for i, l := range s.Ledgers {
		entries := l.Entries
		if i == len(s.Ledgers)-1 {
			entries = max(entries, s.CurrentEntries)
		}
		switch {
		case l.ID > from.ledger:
			n += entries
		case l.ID == from.ledger:
			n += max(entries-from.entry, 0)
		}
	}
	return n
}

// lastID is the id of a partition's last message. In a ledger without messages
// before it, its entry is -1.
func (d *Driver) lastID(ctx context.Context, physical string) (id, error) {
	var last struct {
		Ledger int64 `json:"ledgerId"`
		Entry  int64 `json:"entryId"`
		Batch  int64 `json:"batchIndex"`
	}
	err := d.call(ctx, http.MethodGet, d.path(physical, "lastMessageId"), nil, &last)
	return id{last.Ledger, last.Entry, max(last.Batch, 0)}, err
}

// endBehind is a partition's end, given its last message.
func endBehind(last id) (int64, error) {
	if last.entry < 0 {
		return id{ledger: max(last.ledger, 0)}.position()
	}
	p, err := last.position()
	return p + 1, err
}

// atOnce is how many questions about a topic's partitions are asked at the same time.
const atOnce = 8

// Describe implements broker.Driver.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	if err := d.enter(ctx); err != nil {
		return broker.Topic{}, err
	}
	m, t, err := d.look(ctx, name)
	if err != nil {
		return broker.Topic{}, err
	}
	out := broker.Topic{Config: configOf(name, m), Partitions: make([]broker.PartitionState, len(t.parts))}
	errs := make([]error, len(t.parts))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for p := range t.parts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out.Partitions[p], errs[p] = d.describe(ctx, t.parts[p], group)
		})
	}
	wg.Wait()
	for p, err := range errs {
		if err != nil {
			return broker.Topic{}, d.fail(ctx, fmt.Sprintf("describe topic %q partition %d", name, p), err)
		}
	}
	return out, nil
}

func (d *Driver) describe(ctx context.Context, p *part, group string) (s broker.PartitionState, err error) {
	// The group's position first: what is stored meanwhile must not seem processed.
	s.Committed = -1
	if group != "" {
		if s.Committed, err = d.committed(ctx, groupTopic(p.topic.name, group), p.index); err != nil {
			return s, err
		}
	}
	last, stats, err := d.span(ctx, p, &s)
	if err != nil {
		return s, err
	}
	next := max(s.Committed, s.Start)
	if next >= s.End {
		return s, nil
	}
	from := idAt(next)
	if from.ledger == last.ledger && from.entry == last.entry {
		s.Waiting = max(last.batch-from.batch+1, 1)
	} else {
		s.Waiting = max(stats.entriesFrom(from), 1) + last.batch
	}
	s.OldestTime, err = d.storedAt(ctx, p, stats, from)
	return s, err
}

// span fills in Start, End and Bytes.
func (d *Driver) span(ctx context.Context, p *part, s *broker.PartitionState) (last id, stats ledgerStats, err error) {
	physical := p.topic.physical(p.index)
	if last, err = d.lastID(ctx, physical); err != nil {
		return last, stats, err
	}
	if err := d.call(ctx, http.MethodGet, d.path(physical, "internalStats"), nil, &stats); err != nil {
		return last, stats, err
	}
	if s.End, err = endBehind(last); err != nil {
		return last, stats, err
	}
	s.Start, s.Bytes = s.End, stats.TotalSize
	if first, ok := stats.first(); ok {
		if s.Start, err = first.position(); err != nil {
			return last, stats, err
		}
	}
	s.Start = min(max(s.Start, p.start.Load()), s.End)
	return last, stats, nil
}

// committed is a group's position in a partition; -1 where it has none.
func (d *Driver) committed(ctx context.Context, groupTopic string, p int) (int64, error) {
	ctx, stop := d.scope(ctx)
	defer stop()
	path := d.path(partitionName(groupTopic, p), "examinemessage?initialPosition=latest&messagePosition=1")
	body, _, err := d.rest.send(ctx, http.MethodGet, path, "", nil)
	if errkind.Is(err, errkind.NotFound) || errkind.Is(err, errkind.Invalid) { // no group, or it has not committed yet
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(string(body), 10, 64)
	if err != nil || at < 0 {
		return 0, errkind.Errorf(errkind.Corrupt, "the last message of %s partition %d is %.40q, expected a position", groupTopic, p, body)
	}
	return at, nil
}

// place is a position, or where a record was looked for.
type place struct {
	topic     string
	partition int
}

type stored struct {
	from id
	at   int64
}

// storedAt is when the first message at or behind from was stored, in Unix
// nanoseconds. What was asked last for a partition is remembered.
func (d *Driver) storedAt(ctx context.Context, p *part, stats ledgerStats, from id) (int64, error) {
	key := place{p.topic.name, p.index}
	if s, ok := d.oldest.Load(key); ok && s.(stored).from == from {
		return s.(stored).at, nil
	}
	at := from
	for _, l := range stats.Ledgers {
		if l.ID < at.ledger {
			continue
		}
		if l.ID > at.ledger {
			at = id{ledger: l.ID}
		}
		for tries := 0; tries < 3; tries++ {
			header, err := d.entryHeader(ctx, p, at)
			if errkind.Is(err, errkind.NotFound) {
				break // behind the ledger's last entry
			}
			if err != nil {
				return 0, err
			}
			size, _ := strconv.ParseInt(header.Get("X-Pulsar-num-batch-message"), 10, 64)
			if at.batch >= max(size, 1) {
				at = id{at.ledger, at.entry + 1, 0}
				continue
			}
			t, err := publishTime(header)
			if err != nil {
				return 0, err
			}
			d.oldest.Store(key, stored{from, t})
			return t, nil
		}
	}
	return 0, nil
}

func (d *Driver) entryHeader(ctx context.Context, p *part, at id) (http.Header, error) {
	ctx, stop := d.scope(ctx)
	defer stop()
	path := d.path(p.topic.physical(p.index), fmt.Sprintf("ledger/%d/entry/%d", at.ledger, at.entry))
	_, header, err := d.rest.send(ctx, http.MethodGet, path, "", nil)
	return header, err
}

func publishTime(h http.Header) (int64, error) {
	for _, name := range []string{"X-Pulsar-Broker-Publish-Time", "X-Pulsar-publish-time"} {
		if v := h.Get(name); v != "" {
			if t, err := time.Parse("2006-01-02T15:04:05.999Z07:00", v); err == nil {
				return t.UnixNano(), nil
			}
		}
	}
	return 0, errkind.Errorf(errkind.Unsupported, "the admin API does not say when a message was published: expected the header X-Pulsar-publish-time, got %q", h.Get("X-Pulsar-publish-time"))
}

// Trim implements broker.Admin. The mark is the topic's property; entries
// become free when the keeper, see keep, has moved behind them.
func (d *Driver) Trim(ctx context.Context, name string, partition int, before int64) error {
	what := fmt.Sprintf("trim topic %q partition %d", name, partition)
	p, err := d.part(ctx, name, partition)
	if err != nil {
		return d.fail(ctx, what, err)
	}
	m, _, err := d.look(ctx, name)
	if err != nil {
		return d.fail(ctx, what, err)
	}
	var s broker.PartitionState
	if _, _, err := d.span(ctx, p, &s); err != nil {
		return d.fail(ctx, what, err)
	}
	before = min(before, s.End)
	if before <= s.Start {
		return nil
	}
	mark := map[string]string{propStart + strconv.Itoa(partition): strconv.FormatInt(before, 10)}
	if err := d.call(ctx, http.MethodPut, d.path(name, "properties"), mark, nil); err != nil {
		return d.fail(ctx, what, err)
	}
	p.raise(before)
	return d.fail(ctx, what, d.free(ctx, p, m, before))
}

// Seek implements broker.Admin.
func (d *Driver) Seek(ctx context.Context, name string, partition int, t time.Time) (int64, error) {
	what := fmt.Sprintf("seek in topic %q partition %d", name, partition)
	p, err := d.part(ctx, name, partition)
	if err != nil {
		return 0, d.fail(ctx, what, err)
	}
	if _, _, err := d.look(ctx, name); err != nil { // for the trim mark
		return 0, d.fail(ctx, what, err)
	}
	var s broker.PartitionState
	if _, _, err := d.span(ctx, p, &s); err != nil {
		return 0, d.fail(ctx, what, err)
	}
	if s.Start >= s.End || t.UnixNano() <= 0 || t.Year() > 2200 {
		if s.Start < s.End && t.Year() <= 2200 {
			return s.Start, nil
		}
		return s.End, nil
	}
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++ // the server's clock ticks in milliseconds
	}
	var at struct {
		Ledger int64 `json:"ledgerId"`
		Entry  int64 `json:"entryId"`
	}
	if err := d.call(ctx, http.MethodGet, d.path(p.topic.physical(p.index), "messageid/"+url.PathEscape(strconv.FormatInt(ms, 10))), nil, &at); err != nil {
		return 0, d.fail(ctx, what, err)
	}
	from := int64(0)
	if at.Ledger >= 0 && at.Ledger < math.MaxInt32 {
		if from, err = (id{ledger: at.Ledger, entry: max(at.Entry, 0)}).position(); err != nil {
			return 0, d.fail(ctx, what, err)
		}
	}
	found, err := d.firstAt(ctx, p, max(from, s.Start), s.End, ms*int64(time.Millisecond))
	return found, d.fail(ctx, what, err)
}

// firstAt reads from a position on until a record that was stored at or after t.
func (d *Driver) firstAt(ctx context.Context, p *part, from, end, t int64) (int64, error) {
	if from >= end {
		return end, nil
	}
	ctx, stop := d.scope(ctx)
	defer stop()
	r := newCursor(d, p, from, nil)
	defer func() { _ = r.Close() }()
	for r.Position() < end {
		b, err := r.Fetch(ctx, 100)
		if err != nil {
			return 0, err
		}
		for i := range b.Records {
			if b.Records[i].Time >= t {
				return b.Records[i].Position, nil
			}
		}
	}
	return end, nil
}
