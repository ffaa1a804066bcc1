package rabbitmq

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// appendReference is the publisher's name under which all Appends of everybody go.
const appendReference = "freshet-append"

// Append implements broker.Appender.
//
// The server drops a message whose publishing id is not above the last one of
// the same publisher's name, and it does so where messages get their order. All
// Appends share one name, and the id is the end that the caller knows, plus one:
// of two that know the same end the server takes one. The records go as one
// entry with one id, so they are stored together or not at all. The server
// confirms what it drops, so what lies at the place is read back and told by its
// mark.
func (d *Driver) Append(ctx context.Context, name string, partition int, at int64, recs []event.Record) (int64, error) {
	if err := d.begin(ctx); err != nil {
		return 0, err
	}
	during, cancel := d.during(ctx)
	defer cancel()
	end, err := d.append(during, name, partition, at, recs)
	if err != nil && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return end, d.failed(fmt.Sprintf("append to topic %q partition %d", name, partition), err)
}

func (d *Driver) append(ctx context.Context, name string, partition int, at int64, recs []event.Record) (int64, error) {
	t, err := d.partition(ctx, name, partition)
	if err != nil {
		return 0, err
	}
	mark := rand.Text()
	entry, firstMessage, err := d.entry(recs, mark)
	if err != nil {
		return 0, err
	}
	if err := d.checkEnd(ctx, t, partition, at); err != nil || len(recs) == 0 {
		return at, err
	}
	p, err := d.namedPublisher(ctx, t.streams[partition], appendReference)
	if err != nil {
		return 0, d.missed(t, err)
	}
	if err := p.sendEntry(ctx, uint64(at)+1, entry); err != nil {
		return 0, err
	}
	position, err := d.find(ctx, t, partition, at, firstMessage)
	if err != nil {
		return 0, err
	}
	return position + int64(len(recs)), nil
}

func conflict(at, end int64) error {
	return errkind.Errorf(errkind.Conflict, "the partition ends at %d, not at %d", end, at)
}

func (d *Driver) checkEnd(ctx context.Context, t *topic, partition int, at int64) error {
	end, err := d.end(ctx, t, partition)
	if err != nil {
		return err
	}
	if end != at {
		return conflict(at, end)
	}
	return nil
}

// entry packs the records as one entry of a Publish frame, compressed where the
// server would not take it otherwise.
func (d *Driver) entry(recs []event.Record, mark string) (entry, firstMessage []byte, err error) {
	var body, m []byte
	for i := range recs {
		if err := d.checkSize(i, &recs[i]); err != nil {
			return nil, nil, err
		}
		m = appendMarked(m[:0], &recs[i], mark)
		if i == 0 {
			firstMessage = bytes.Clone(m)
		}
		mark = ""
		body = binary.BigEndian.AppendUint32(body, uint32(len(m)))
		body = append(body, m...)
	}
	size, kind := len(body), byte(0)
	if len(body) > d.frameMax-64 {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(body) // to memory
		_ = w.Close()
		body, kind = z.Bytes(), 1
	}
	if len(body) > d.frameMax-64 {
		return nil, nil, errkind.Errorf(errkind.Invalid, "%d records have %d bytes together, the server takes %d at once: raise stream.frame_max, or append less", len(recs), size, d.frameMax-64)
	}
	entry = append(entry, 0x80|kind<<4)
	entry = binary.BigEndian.AppendUint16(entry, uint16(len(recs)))
	entry = binary.BigEndian.AppendUint32(entry, uint32(size))
	entry = binary.BigEndian.AppendUint32(entry, uint32(len(body)))
	return append(entry, body...), firstMessage, nil
}

// sendEntry sends one entry under a publishing id and waits until the server has
// confirmed it. One is under way at a time.
func (p *publisher) sendEntry(ctx context.Context, id uint64, entry []byte) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return p.err
	}
	w := &publication{last: id, left: 1, done: make(chan struct{})}
	p.calls = append(p.calls[:0], w) // what was given up before is not waited for
	p.mu.Unlock()
	err := p.c.send(ctx, func(b []byte) []byte {
		b = appendHeader(b, cmdPublish)
		b = append(b, p.id)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint64(b, id)
		return append(b, entry...)
	})
	if err != nil {
		return err
	}
	timer := time.NewTimer(p.c.timeout)
	defer timer.Stop()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return contextError(ctx)
	case <-timer.C:
		return errkind.Errorf(errkind.Transient, "the server did not confirm within %v", p.c.timeout)
	}
}

// find looks for our message at the first position from at, where it lies if the
// server took it. That is in the last chunk, unless others publish here too.
func (d *Driver) find(ctx context.Context, t *topic, partition int, from int64, ours []byte) (int64, error) {
	var end int64
	for _, o := range []offset{last, at(from)} {
		k, err := d.lookAt(ctx, t.streams[partition], o)
		if err != nil {
			return 0, d.missed(t, err)
		}
		if o == last {
			end = t.sawEnd(partition, k)
		}
		if k == nil || k.first > from && o == last {
			continue
		}
		position, found, err := k.firstFrom(from, ours)
		if found || err != nil {
			return position, err
		}
	}
	return 0, conflict(from, end)
}

// firstFrom is the position of the first message of the chunk from a position on,
// and whether that is ours.
func (k *chunk) firstFrom(from int64, ours []byte) (position int64, ok bool, err error) {
	for {
		m, position, more, err := k.cut()
		if err != nil || !more {
			return 0, false, err
		}
		if position >= from {
			return position, bytes.Equal(m, ours), nil
		}
	}
}
