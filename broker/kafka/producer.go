package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// producer is a transactional producer: one transaction at a time, under a
// transactional id. It is used by one goroutine at a time. It speaks the protocol itself, because
// then a transaction of a few requests knows at each of them what the server
// knows, which a client with queues of its own does not.
type producer struct {
	d      *Driver
	client *kgo.Client
	id     string

	pid   int64
	epoch int16
	next  map[place]int32 // sequence numbers of this epoch
	// unsure: the transaction before may still be open; begin ends it.
	unsure bool

	raw    []byte // of the batch under construction
	packed bytes.Buffer
}

// producersPerClaim is how many producers take turns. A server that still
// writes the markers of a transaction lets the producer's next one wait for 20 ms
// (add.partitions.to.txn.retry.backoff.ms), so that two of them are several times
// as fast as one. The group's position is that of the offset written last, in
// whichever order the markers come, on the servers that end transactions this
// way. Others have one producer for each claim.
func (d *Driver) producersPerClaim() int {
	if d.tx2 {
		return 2
	}
	return 1
}

func (d *Driver) newProducer(cl *kgo.Client, id string) *producer {
	return &producer{d: d, client: cl, id: id, pid: -1, epoch: -1, next: map[place]int32{}, unsure: true}
}

// begin makes this producer the owner of its id: who was it before is fenced,
// and what that one left open is aborted. Later calls do the same for this
// producer's own transaction, and fail with a conflict where there is a new owner.
func (p *producer) begin(ctx context.Context) error {
	p.unsure = true
	for n := 1; ; n++ {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &p.id
		req.TransactionTimeoutMillis = int32(p.d.s.txTimeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = p.pid, p.epoch
		resp, err := req.RequestWith(ctx, p.client)
		if err == nil {
			err = code(resp.ErrorCode)
		}
		if err == nil {
			p.took(resp.ProducerID, resp.ProducerEpoch)
			p.unsure = false
			return nil
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		if err := wait(ctx, concurrentPause(n)); err != nil {
			return err
		}
	}
}

func (p *producer) took(pid int64, epoch int16) {
	p.pid, p.epoch = pid, epoch
	p.next = map[place]int32{}
}

// concurrentPause is how long to wait for the markers of the transaction before.
func concurrentPause(n int) time.Duration {
	return min(2*time.Millisecond<<min(n-1, 5), 50*time.Millisecond)
}

// part is what a transaction writes to one partition, in batches.
type part struct {
	topic   *topic
	p       int32
	batches []sealed
}

type sealed struct {
	bytes   []byte
	records int
}

// position is where a transaction moves a group.
type position struct {
	c      *consumer
	claims []*claim
	next   []int64
}

// outcome is how a transaction ended where it did not end well.
type outcome uint8

const (
	nothing outcome = iota // nothing was applied, and nothing will be
	unknown                // it may have been
)

// commit runs one transaction.
func (p *producer) commit(ctx context.Context, parts []*part, positions []position) (outcome, error) {
	if p.unsure {
		if err := p.begin(ctx); err != nil {
			return nothing, fmt.Errorf("begin: %w", err)
		}
	}
	p.seal(parts)
	if err := p.write(ctx, parts, positions); err != nil {
		p.abort()
		return nothing, err
	}
	return p.end(ctx)
}

func (p *producer) write(ctx context.Context, parts []*part, positions []position) error {
	if !p.d.tx2 {
		if err := p.announce(ctx, parts, positions); err != nil {
			return err
		}
	}
	for round := 0; ; round++ {
		more, err := p.send(ctx, parts, round)
		if err != nil {
			return fmt.Errorf("write records: %w", err)
		}
		if !more {
			break
		}
	}
	for _, x := range positions {
		if err := p.move(ctx, x); err != nil {
			return fmt.Errorf("move positions of group %q: %w", x.c.s.Group, err)
		}
	}
	return nil
}

// seal writes producer, epoch and sequence into the batches.
func (p *producer) seal(parts []*part) {
	now := time.Now().UnixMilli()
	for _, x := range parts {
		k := place{x.topic.id, x.p}
		for _, b := range x.batches {
			codec := int16(b.bytes[22] & 7)
			finishBatch(b.bytes, batchParams{producer: p.pid, epoch: p.epoch, sequence: p.next[k], records: b.records, time: now, codec: codec})
			p.next[k] += int32(b.records)
		}
	}
}

// announce tells the coordinator what the transaction will touch, as servers
// before KIP-890's second part want it.
func (p *producer) announce(ctx context.Context, parts []*part, positions []position) error {
	if len(parts) > 0 {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.id, p.pid, p.epoch
		for _, x := range parts {
			if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != x.topic.name {
				rt := kmsg.NewAddPartitionsToTxnRequestTopic()
				rt.Topic = x.topic.name
				req.Topics = append(req.Topics, rt)
			}
			rt := &req.Topics[len(req.Topics)-1]
			rt.Partitions = append(rt.Partitions, x.p)
		}
		err := p.repeat(ctx, func() error {
			resp, err := req.RequestWith(ctx, p.client)
			if err != nil {
				return err
			}
			for _, rt := range resp.Topics {
				for _, rp := range rt.Partitions {
					if err := code(rp.ErrorCode); err != nil && !errors.Is(err, kerr.OperationNotAttempted) {
						return err
					}
				}
			}
			return code(resp.ErrorCode)
		})
		if err != nil {
			return fmt.Errorf("add partitions to the transaction: %w", err)
		}
	}
	for _, x := range positions {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = p.id, p.pid, p.epoch, x.c.s.Group
		err := p.repeat(ctx, func() error {
			resp, err := req.RequestWith(ctx, p.client)
			if err != nil {
				return err
			}
			return code(resp.ErrorCode)
		})
		if err != nil {
			return fmt.Errorf("add group %q to the transaction: %w", x.c.s.Group, err)
		}
	}
	return nil
}

// repeat calls f again while the server still writes the markers of the
// transaction before.
func (p *producer) repeat(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		if err := wait(ctx, concurrentPause(n)); err != nil {
			return err
		}
	}
}

// send writes the round-th batch of each partition, all leaders at once.
func (p *producer) send(ctx context.Context, parts []*part, round int) (more bool, err error) {
	byLeader := map[int32][]*part{}
	for _, x := range parts {
		if round < len(x.batches) {
			leader := x.topic.leaders[x.p]
			byLeader[leader] = append(byLeader[leader], x)
			more = true
		}
	}
	if len(byLeader) == 1 {
		for leader, list := range byLeader {
			return more, p.produce(ctx, leader, list, round)
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for leader, list := range byLeader {
		wg.Go(func() {
			if e := p.produce(ctx, leader, list, round); e != nil {
				mu.Lock()
				defer mu.Unlock()
				err = e
			}
		})
	}
	wg.Wait()
	return more, err
}

func (p *producer) produce(ctx context.Context, leader int32, list []*part, round int) error {
	if leader < 0 {
		return errkind.New(errkind.Transient, "a partition has no leader at the moment")
	}
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID = &p.id
	req.Acks = -1
	req.TimeoutMillis = int32(p.d.s.timeout.Milliseconds())
	for _, x := range list {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != x.topic.name {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic = x.topic.name
			req.Topics = append(req.Topics, rt)
		}
		rt := &req.Topics[len(req.Topics)-1]
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = x.p, x.batches[round].bytes
		rt.Partitions = append(rt.Partitions, rp)
	}
	return p.repeat(ctx, func() error {
		kresp, err := p.client.Broker(int(leader)).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		// Where one partition has to be repeated all are: the others are known by their sequence.
		var again error
		for _, rt := range kresp.(*kmsg.ProduceResponse).Topics {
			for _, rp := range rt.Partitions {
				switch err := code(rp.ErrorCode); {
				case err == nil, errors.Is(err, kerr.DuplicateSequenceNumber):
				case errors.Is(err, kerr.ConcurrentTransactions):
					again = err
				default:
					if stale(err) {
						p.d.topics.drop(rt.Topic)
					}
					return fmt.Errorf("topic %q partition %d: %w", rt.Topic, rp.Partition, err)
				}
			}
		}
		return again
	})
}

// move adds a group's positions to the transaction, as the member that holds the claims.
func (p *producer) move(ctx context.Context, x position) error {
	return x.c.asMember(ctx, x.claims, func(member string, generation int32) error {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.id, p.pid, p.epoch
		req.Group, req.MemberID, req.Generation = x.c.s.Group, member, generation
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic = x.c.s.Topic
		for i, c := range x.claims {
			rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = c.part, x.next[i], -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
		return p.repeat(ctx, func() error {
			resp, err := req.RequestWith(ctx, p.client)
			if err != nil {
				return err
			}
			for _, rt := range resp.Topics {
				for _, rp := range rt.Partitions {
					if err := code(rp.ErrorCode); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// end commits. The request may be repeated: the server knows a repeated one by
// its epoch. From the first attempt on the outcome is unknown, until a server says it.
func (p *producer) end(ctx context.Context) (outcome, error) {
	p.unsure = true
	for n := 1; ; n++ {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = p.id, p.pid, p.epoch, true
		resp, err := req.RequestWith(ctx, p.client)
		if err == nil {
			err = code(resp.ErrorCode)
		}
		if err == nil {
			p.unsure = false
			if resp.Version >= 5 && resp.ProducerID >= 0 {
				p.took(resp.ProducerID, resp.ProducerEpoch)
			}
			return nothing, nil
		}
		var ke *kerr.Error
		switch {
		case errors.Is(err, kerr.ConcurrentTransactions):
			err = wait(ctx, concurrentPause(n))
		case errors.As(err, &ke) && !ke.Retriable && ke != kerr.UnknownServerError:
			// The server refuses this transaction. Requests that were lost before, inside
			// of the client too, may have committed it.
			return unknown, fmt.Errorf("commit: %w", err)
		default:
			if e := wait(ctx, min(pause(n), 200*time.Millisecond)); e != nil {
				err = fmt.Errorf("commit: %s", err.Error())
			} else {
				err = nil
			}
		}
		if err != nil {
			return unknown, err
		}
	}
}

// abortPatience bounds how long a failed transaction is ended for.
const abortPatience = 3 * time.Second

// abort ends what was begun. Where that does not succeed at once the next
// transaction does it, or the server after its timeout.
func (p *producer) abort() {
	ctx, cancel := context.WithTimeout(p.d.ctx, abortPatience)
	defer cancel()
	if err := p.begin(ctx); err != nil {
		p.d.log.Debug("an aborted transaction stays open for now", "id", p.id, "error", err)
	}
}

var emptyHeader [batchHeader]byte

// pack makes the batches of records for one partition, each of at most limit bytes.
func (p *producer) pack(x *part, recs []event.Record, limit int) {
	for len(recs) > 0 {
		raw := p.raw[:0]
		raw = append(raw, emptyHeader[:]...)
		n := 0
		for n < len(recs) {
			if size := recordLength(&recs[n], n); n > 0 && len(raw)+size+varintLen(size) > limit {
				break
			}
			raw = appendRecord(raw, &recs[n], n)
			n++
		}
		p.raw = raw
		x.batches = append(x.batches, sealed{p.compress(raw), n})
		recs = recs[n:]
	}
}

// minCompressed is what is not worth compressing, in bytes.
const minCompressed = 256

// compress returns a batch of its own memory, with the codec in its attributes.
func (p *producer) compress(raw []byte) []byte {
	if p.d.packing != nil && len(raw) >= minCompressed {
		p.packed.Reset()
		out, codec := p.d.packing.Compress(&p.packed, raw[batchHeader:])
		if codec != kgo.CodecNone && len(out) < len(raw)-batchHeader {
			b := make([]byte, batchHeader, batchHeader+len(out))
			b[22] = byte(codec)
			return append(b, out...)
		}
	}
	return append([]byte(nil), raw...)
}
