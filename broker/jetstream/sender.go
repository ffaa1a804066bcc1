package jetstream

import (
	"context"
	"errors"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// sender is what one Publish or Append works with: an inbox for its
// acknowledgements, and memory. It is used by one call at a time, and thrown away
// after one that failed: acknowledgements that come late then reach nobody.
type sender struct {
	d     *Driver
	inbox string // ends in a dot
	sub   *nats.Subscription
	in    chan *nats.Msg
	lost  <-chan struct{}
	timer *time.Timer
	encoder
	replies []string // of messages with an acknowledgement of their own, by index
	batches int      // begun, for ids
	name    []byte   // of a reply in the making

	// Of the call in progress.
	acked   []bool
	waiting int
	keys    [keySlots]keySlot
	call    uint32
	seed    maphash.Seed
	parts   []int // of the records
	runs    []run // by partition
	stored  int
	dups    int
	last    uint64 // sequence acknowledged last
}

// run is what one call has for one partition.
type run struct {
	records int // in all
	sent    int
	ended   bool // acknowledged
}

// keySlots is a power of two above twice maxBatch.
const keySlots = 4096

type keySlot struct {
	call uint32
	hash uint32
	last int32
}

// sender takes one that rests, or makes it.
func (d *Driver) sender() (*sender, error) {
	lost := d.connection()
	select {
	case s := <-d.senders:
		s.lost = lost
		s.begin()
		return s, nil
	default:
	}
	s := &sender{
		d: d, inbox: d.nc.NewInbox() + ".", in: make(chan *nats.Msg, 2*maxBatch+16), lost: lost,
		timer: time.NewTimer(time.Hour), encoder: *newEncoder(), seed: maphash.MakeSeed(),
	}
	var err error
	if s.sub, err = d.nc.ChanSubscribe(s.inbox+">", s.in); err != nil {
		return nil, d.failed("publish", err)
	}
	s.begin()
	return s, nil
}

func (s *sender) begin() {
	s.call++
	s.waiting, s.stored, s.dups, s.last = 0, 0, 0, 0
	s.acked = s.acked[:0]
}

// end gives the sender back, unless something may still come.
func (s *sender) end(err error) {
	if err == nil && s.waiting == 0 {
		s.msg.Data = nil
		select {
		case s.d.senders <- s:
			return
		default:
		}
	}
	s.timer.Stop()
	_ = s.sub.Unsubscribe()
}

// reply is where message i is acknowledged.
func (s *sender) reply(i int) string {
	for len(s.replies) <= i {
		s.replies = append(s.replies, s.inbox+strconv.Itoa(len(s.replies)))
	}
	return s.replies[i]
}

// fastReply is where message seq of a batch for partition p is acknowledged. It
// tells the server the batch, how often to acknowledge, to refuse what follows a
// gap, the message's place and what to do.
func (s *sender) fastReply(p, seq int, last bool) string {
	op := byte('1')
	switch {
	case last:
		op = '2'
	case seq == 1:
		op = '0'
	}
	b := s.name[:0]
	b = append(b, s.inbox...)
	b = append(b, 'f', '.')
	b = strconv.AppendInt(b, int64(p), 10)
	b = append(b, '.')
	b = append(b, s.inbox[strings.LastIndexByte(s.inbox[:len(s.inbox)-1], '.')+1:len(s.inbox)-1]...)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(s.batches), 10)
	b = append(b, ".500.fail."...)
	b = strconv.AppendInt(b, int64(seq), 10)
	b = append(b, '.', op)
	b = append(b, ".$FI"...)
	s.name = b
	return string(b)
}

// send writes a message.
func (s *sender) send(m *nats.Msg) error {
	select {
	case <-s.lost:
		return s.d.lostError("publish")
	default:
	}
	if err := s.d.nc.PublishMsg(m); err != nil {
		return s.d.failed("publish", err)
	}
	return nil
}

// before returns the record of the same key that this call sent last, and makes
// i that; -1 where there is none, or no key.
func (s *sender) before(i int, r *event.Record) int {
	if len(r.Key) == 0 {
		return -1
	}
	hash := uint32(maphash.Bytes(s.seed, r.Key))
	slot := hash
	for {
		k := &s.keys[slot%keySlots]
		switch {
		case k.call != s.call:
			*k = keySlot{s.call, hash, int32(i)}
			return -1
		case k.hash == hash:
			last := int(k.last)
			k.last = int32(i)
			return last
		}
		slot++
	}
}

// wait takes acknowledgements until enough says so. The first that is a refusal
// is its error.
func (s *sender) wait(ctx context.Context, enough func() bool, take func(m *nats.Msg) error) error {
	if enough() {
		return nil
	}
	s.timer.Reset(s.d.timeout)
	defer s.timer.Stop()
	for !enough() {
		select {
		case m := <-s.in:
			if err := take(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.d.done:
			return s.d.closedError()
		case <-s.lost:
			return s.d.lostError("publish")
		case <-s.timer.C:
			return errkind.Errorf(errkind.Transient, "publish at %s: no acknowledgement within %v", s.d.where, s.d.timeout)
		}
	}
	return nil
}

// errNoStream says that no stream takes what was sent.
var errNoStream = errors.New("no stream takes the message")

func noStream(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get("Status") == "503"
}

// takeOne takes the acknowledgement of one message.
func (s *sender) takeOne(m *nats.Msg) error {
	i, ok := number([]byte(m.Subject[len(s.inbox):]), "")
	if !ok || int(i) >= len(s.acked) || s.acked[i] {
		return nil
	}
	s.acked[i] = true
	s.waiting--
	if noStream(m) {
		return errNoStream
	}
	var a ack
	if err := a.parse(m.Data); err != nil {
		return err
	}
	s.last = a.seq
	if a.duplicate {
		s.dups++
	} else {
		s.stored++
	}
	return nil
}
