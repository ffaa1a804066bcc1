package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Publish implements broker.Driver. All records are on their way at once, but for
// those that would overtake an unacknowledged one of their key; see the package's
// comment.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return broker.Published{}, err
	}
	if len(recs) > maxBatch {
		return broker.Published{}, errkind.Errorf(errkind.Invalid, "publish %d records: at most %d at once", len(recs), maxBatch)
	}
	if err := d.fits(recs); err != nil {
		return broker.Published{}, err
	}
	s, err := d.sender()
	if err != nil {
		return broker.Published{}, err
	}
	err = s.publish(ctx, t, recs)
	done := broker.Published{Stored: s.stored, Duplicates: s.dups}
	s.end(err)
	if errors.Is(err, errNoStream) {
		err = d.missing(ctx, name)
	}
	if err != nil {
		return broker.Published{}, d.failed(fmt.Sprintf("publish to topic %q", name), err)
	}
	return done, nil
}

// fits refuses records that no stream takes before any is sent.
func (d *Driver) fits(recs []event.Record) error {
	for i := range recs {
		if n := recs[i].Size(); n > d.caps.MaxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d has %d bytes, the server takes at most %d", i, n, d.caps.MaxRecordBytes)
		}
	}
	return nil
}

// missing says why no stream takes a topic's messages: because the topic is gone,
// or because a cluster is choosing who leads it.
func (d *Driver) missing(ctx context.Context, name string) error {
	d.topics.drop(name)
	if _, err := d.topic(ctx, name); err != nil {
		return err
	}
	return errkind.Errorf(errkind.Transient, "topic %q has no leader at the moment", name)
}

// publish sends recs and waits until all of them are acknowledged.
func (s *sender) publish(ctx context.Context, t *topic, recs []event.Record) error {
	s.divide(t, recs)
	s.batches++
	for i := range recs {
		r := &recs[i]
		n := s.parts[i]
		p := &t.partitions[n]
		run := &s.runs[n]
		s.acked = append(s.acked, false)
		m := s.encode(r, t.dedup)
		var err error
		if m.Subject, err = p.subjectFor(t, r); err != nil {
			return err
		}
		if p.fast && !t.dedup && run.records > 1 {
			run.sent++
			m.Reply = s.fastReply(n, run.sent, run.sent == run.records)
			if run.sent == run.records {
				s.waiting++
			}
		} else {
			if b := s.before(i, r); b >= 0 && !s.acked[b] {
				err = s.wait(ctx, func() bool { return s.acked[b] }, s.take)
			}
			m.Reply = s.reply(i)
			s.waiting++
		}
		if err == nil {
			err = s.send(m)
		}
		if err != nil {
			return err
		}
	}
	return s.wait(ctx, func() bool { return s.waiting == 0 }, s.take)
}

// divide chooses the partition of each record.
func (s *sender) divide(t *topic, recs []event.Record) {
	n := len(t.partitions)
	any := -1
	s.parts = s.parts[:0]
	s.runs = append(s.runs[:0], make([]run, n)...)
	for i := range recs {
		p := 0
		switch r := &recs[i]; {
		case n == 1:
		case len(r.Key) > 0:
			p = broker.PartitionFor(r.Key, n)
		case len(r.ID) > 0: // so that it comes back to where it is known
			p = broker.PartitionFor(r.ID, n)
		default:
			if any < 0 {
				any = int(s.d.turn.Add(1) % uint32(n))
			}
			p = any
		}
		s.parts = append(s.parts, p)
		s.runs[p].records++
	}
}

// subjectFor is what a record is published on.
func (p *partition) subjectFor(t *topic, r *event.Record) (string, error) {
	switch {
	case !p.foreign || !p.keyed && p.subject != "":
		return p.subject, nil
	case p.subject == "":
		return "", errkind.Errorf(errkind.Unsupported,
			"publish to stream %s: its first subject is neither plain nor ends in its only wildcard, so nobody knows what to publish on", t.config.Name)
	}
	token := "_"
	if len(r.Key) > 0 && !bytes.ContainsAny(r.Key, ".*> \t\r\n\x00") {
		token = string(r.Key)
	}
	return p.subject + token, nil
}

// take takes an acknowledgement, of one message or of a batch.
func (s *sender) take(m *nats.Msg) error {
	rest := m.Subject[len(s.inbox):]
	if !strings.HasPrefix(rest, "f.") {
		return s.takeOne(m)
	}
	n, ok := number([]byte(rest[2:]), "")
	if !ok || int(n) >= len(s.runs) || s.runs[n].ended {
		return nil
	}
	if noStream(m) {
		return errNoStream
	}
	var progress struct {
		Type  string              `json:"type"`
		Error *jetstream.APIError `json:"error"`
	}
	if bytes.Contains(m.Data, []byte(`"type":`)) {
		if err := json.Unmarshal(m.Data, &progress); err != nil {
			return errkind.Errorf(errkind.Transient, "an acknowledgement cannot be read: %w", err)
		}
		switch {
		case progress.Type == "gap":
			return errkind.New(errkind.Transient, "messages were lost on the way")
		case progress.Error != nil && progress.Type == "err":
			return progress.Error
		case progress.Type == "ack":
			return nil
		}
	}
	var a ack
	if err := a.parse(m.Data); err != nil {
		return err
	}
	run := &s.runs[n]
	run.ended = true
	s.waiting--
	if int(a.count) != run.records {
		return errkind.Errorf(errkind.Transient, "%d of %d messages were stored", a.count, run.records)
	}
	s.stored += run.records
	return nil
}

// Append implements broker.Appender: one message with the sequence that is
// expected before it, or an atomic batch of which the first has it.
func (d *Driver) Append(ctx context.Context, name string, part int, at int64, recs []event.Record) (int64, error) {
	t, err := d.topic(ctx, name)
	if err != nil {
		return 0, err
	}
	p, err := t.partition(part)
	if err != nil {
		return 0, err
	}
	switch {
	case len(recs) == 0:
		return at, nil
	case at < 0:
		return 0, errkind.Errorf(errkind.Invalid, "append to topic %q at position %d", name, at)
	case len(recs) > maxBatch:
		return 0, errkind.Errorf(errkind.Invalid, "append %d records: at most %d at once", len(recs), maxBatch)
	case len(recs) > 1 && !p.atomic:
		return 0, errkind.Errorf(errkind.Unsupported, "append %d records to topic %q: its stream takes no atomic batches", len(recs), name)
	}
	if err := d.fits(recs); err != nil {
		return 0, err
	}
	return d.appendAt(ctx, t, p, at, recs)
}

// appendAt repeats an append that was refused for what the leader has proposed to
// its replicas and not stored: that may be an earlier try of this very append, or
// come to nothing, and nobody sees it yet. It is a Conflict once it is stored.
func (d *Driver) appendAt(ctx context.Context, t *topic, p *partition, at int64, recs []event.Record) (int64, error) {
	name := t.config.Name
	within, cancel := d.within(ctx)
	defer cancel()
	proposed := int64(math.MaxInt64) // the lowest end that a refusal has named
	for wait := appendWait; ; wait = min(2*wait, appendWaitMax) {
		end, err := d.tryAppend(within, t, p, at, recs)
		if err == nil {
			return end, nil
		}
		var refused *jetstream.APIError
		switch {
		case errors.Is(err, errNoStream):
			err = d.missing(ctx, name)
		case errors.As(err, &refused) && kindOfCode(refused) == errkind.Conflict:
			proposed = min(proposed, proposedEnd(refused, at))
			s, err := d.stream(within, name, p)
			if err != nil {
				return 0, err
			}
			if end := int64(s.CachedInfo().State.LastSeq); end != at && end >= proposed {
				return 0, errkind.Errorf(errkind.Conflict, "append to topic %q at its end %d: it is now %d", name, at, end)
			}
			if pause(within, wait) {
				continue
			}
			err = errkind.Errorf(errkind.Transient, "append to topic %q: what was appended before at its end %d is still on its way", name, at)
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return 0, err
		}
		return 0, d.failed(fmt.Sprintf("append to topic %q", name), err)
	}
}

// How long an append waits for one that is on its way, at first and at most.
const (
	appendWait    = time.Millisecond
	appendWaitMax = 50 * time.Millisecond
)

// proposedEnd is the end that a refusal to append names, with what is not stored
// yet; where it names none, one above at.
func proposedEnd(e *jetstream.APIError, at int64) int64 {
	if n, ok := number([]byte(e.Description), "wrong last sequence: "); ok {
		return int64(n)
	}
	return at + 1
}

func (d *Driver) tryAppend(ctx context.Context, t *topic, p *partition, at int64, recs []event.Record) (end int64, err error) {
	s, err := d.sender()
	if err != nil {
		return 0, err
	}
	err = s.append(ctx, t, p, at, recs)
	end = int64(s.last)
	s.end(err)
	return end, err
}

func (s *sender) append(ctx context.Context, t *topic, p *partition, at int64, recs []event.Record) error {
	s.batches++
	id := strings.TrimSuffix(s.inbox[strings.LastIndexByte(s.inbox[:len(s.inbox)-1], '.')+1:], ".") + "-" + strconv.Itoa(s.batches)
	for i := range recs {
		m := s.encode(&recs[i], false)
		var err error
		if m.Subject, err = p.subjectFor(t, &recs[i]); err != nil {
			return err
		}
		if i == 0 {
			s.set(jetstream.ExpectedLastSeqHeader, strconv.FormatInt(at, 10))
		}
		if len(recs) > 1 {
			s.set("Nats-Batch-Id", id)
			s.set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		}
		m.Reply = ""
		if i == len(recs)-1 {
			if len(recs) > 1 {
				s.set("Nats-Batch-Commit", "1")
			}
			s.acked = append(s.acked, false)
			m.Reply = s.reply(0)
			s.waiting++
		}
		if err := s.send(m); err != nil {
			return err
		}
	}
	return s.wait(ctx, func() bool { return s.waiting == 0 }, s.takeOne)
}
