package broker

import (
	"context"
	"time"

	"github.com/freshet-io/freshet/event"
)

// Driver is what an adapter implements; callers hold a *Broker.
//
// All methods may be called concurrently. Slices passed in belong to the caller
// again when the call returns: a driver that needs the bytes longer copies them.
// Errors carry an errkind: NotFound for a missing topic, Transient and Throttled
// for what may pass, Exhausted for a full disk or quota, Invalid for a record
// the broker will never take (too large), Closed after Close.
type Driver interface {
	// Capabilities says what this broker can do. It is constant.
	Capabilities() Capabilities
	// Publish stores recs, in order, on the topic. It returns nil when all of
	// them are as durable as the broker makes them. A record whose partition is
	// not fixed by the caller goes to the partition that its key selects
	// (PartitionFor), or, without a key, to one that the driver chooses.
	// Records with an ID seen within the topic's deduplication window are
	// dropped and counted. At most Capabilities.MaxBatch records a call.
	// On error none, some or all may have been stored.
	Publish(ctx context.Context, topic string, recs []event.Record) (Published, error)
	// Subscribe joins a consumer group on a topic.
	Subscribe(ctx context.Context, s Subscription) (Consumer, error)
	// Read opens one partition outside of any group, at the first record whose
	// position is at least from.
	Read(ctx context.Context, topic string, partition int, from int64) (Reader, error)
	// Describe reports the topic's partitions and, where group is not empty,
	// how far that group has come.
	Describe(ctx context.Context, topic, group string) (Topic, error)
	// Close releases everything. Calls in progress return Closed errors; a second Close returns nil.
	Close() error
}

// Transactor is implemented by drivers whose Capabilities say Transactions.
type Transactor interface {
	// Commit stores every record and moves every position of tx, or none of
	// them, and returns when that is durable. A claim that is no longer held
	// fails the whole transaction with a Conflict error, and nothing is stored.
	//
	// Transient and Throttled say that nothing was applied and nothing will be:
	// the Broker repeats the same tx after them. A driver that cannot tell,
	// because the answer of its server was lost for instance, revokes the claims
	// of tx and returns a Conflict error: who holds the partition next looks at
	// where the group stands. When ctx ends during the call the outcome is unknown.
	Commit(ctx context.Context, tx *Tx) error
}

// Appender is implemented by drivers whose Capabilities say Append. It is how one
// owner of a partition keeps others from writing there, on brokers without
// transactions.
type Appender interface {
	// Append stores recs, in order and all of them or none, on a partition whose
	// end is at, and returns the end behind them, when they are durable. Where
	// anybody has stored something there since, nothing is stored and the error is
	// a Conflict. The end is that of Describe, or of the Append before.
	//
	// An Append of which the outcome is unknown may be repeated: it is a Conflict
	// then if it was applied. IDs are not looked at.
	Append(ctx context.Context, topic string, partition int, at int64, recs []event.Record) (end int64, err error)
}

// Positioner is implemented by the Readers and Claims of drivers whose positions
// have gaps.
type Positioner interface {
	// Position is where the next Fetch begins: behind the records fetched last,
	// and behind what was found to follow them without being a record. It may be
	// called at any time.
	Position() int64
}

// Admin is implemented by drivers that can manage topics.
type Admin interface {
	// CreateTopic makes a topic. A topic that exists with another number of
	// partitions is a Conflict error; one that exists alike is not an error.
	CreateTopic(ctx context.Context, c TopicConfig) error
	// DeleteTopic removes a topic and its records. A missing one is NotFound.
	DeleteTopic(ctx context.Context, name string) error
	// Topics lists the names of all topics, sorted.
	Topics(ctx context.Context) ([]string, error)
	// Trim gives the records before position free. It never fails for records that are gone already.
	Trim(ctx context.Context, topic string, partition int, before int64) error
	// Seek finds the first position whose record was stored at or after t; the
	// end position where there is none.
	Seek(ctx context.Context, topic string, partition int, t time.Time) (int64, error)
}

// Consumer is one member of a consumer group on one topic.
type Consumer interface {
	// Claim waits for the next partition that the group hands to this member.
	// It may be called by one goroutine at a time. After Close it returns a
	// Closed error.
	Claim(ctx context.Context) (Claim, error)
	// Close leaves the group: its claims are revoked and go to other members.
	// The caller has stopped using the claims' batches.
	Close() error
}

// Claim is a partition held by one member of a group until it is revoked.
// Fetch and Commit may run concurrently with each other, each by one goroutine
// at a time.
type Claim interface {
	// Partition is the claimed partition.
	Partition() int
	// Start is the position at which the group continues: the one committed
	// last, or what Subscription.Start says where there is none.
	Start() int64
	// Fetch is Reader.Fetch for the claimed partition, beginning at Start. When
	// the claim is revoked it returns a Conflict error.
	Fetch(ctx context.Context, max int) (*Batch, error)
	// SeekTo makes the next Fetch begin at position. Not concurrently with Fetch.
	SeekTo(position int64) error
	// Commit says that every record before next is done. Drivers with
	// Transactions take it through Tx as well. Positions may be committed again
	// and may go back. A revoked claim returns a Conflict error.
	Commit(ctx context.Context, next int64) error
	// Release gives the partition back to the group.
	Release() error
}

// Reader reads one partition in order.
type Reader interface {
	// Fetch waits until at least one record is there and returns up to max of
	// them (max ≥ 1), consecutive: none is left out that is kept. A position that
	// has been trimmed, or at which there is no record, continues at the first
	// record behind it. It never returns an empty batch without an error.
	Fetch(ctx context.Context, max int) (*Batch, error)
	// Close releases the reader; not concurrently with Fetch.
	Close() error
}

// Capabilities declares what a driver can do; the suite holds it to them.
type Capabilities struct {
	// Transactions: the driver is a Transactor.
	Transactions bool
	// Admin: the driver is an Admin.
	Admin bool
	// Dedup: records with an ID seen in the topic's window are dropped at Publish.
	Dedup bool
	// Durable: what was published survives the end of the process or server.
	Durable bool
	// Append: the driver is an Appender.
	Append bool
	// Gapless: positions count from 0, and each record's is its predecessor's + 1.
	// Elsewhere they only rise, and Readers and Claims are Positioners.
	Gapless bool
	// MaxBatch is the largest number of records of one Publish, Append or
	// Publication; 0 means no limit.
	MaxBatch int
	// MaxRecordBytes is the largest Record.Size; 0 means no limit.
	MaxRecordBytes int
}

// Published counts what a Publish did.
type Published struct {
	// Stored is the number of records stored.
	Stored int
	// Duplicates is the number of records dropped because their ID was seen before.
	Duplicates int
}

// Subscription says what to consume and as whom.
type Subscription struct {
	Topic string
	// Group names the set of consumers that share the topic and its positions.
	Group string
	// Start is where a group without a committed position begins.
	Start StartAt
}

// StartAt is where a group without a position begins.
type StartAt uint8

const (
	// Earliest begins at the first record kept.
	Earliest StartAt = iota
	// Latest begins after the last record at the time of the claim.
	Latest
)

// TopicConfig describes a topic to be made.
type TopicConfig struct {
	Name string
	// Partitions is the number of partitions, at least 1.
	Partitions int
	// Retention is how long records are kept after they were stored; 0 keeps them for ever.
	Retention time.Duration
	// RetainBytes is how many bytes each partition keeps; 0 means no limit.
	RetainBytes int64
	// DedupWindow is how long IDs are remembered; 0 turns deduplication off.
	DedupWindow time.Duration
}

// Topic is the state of a topic.
type Topic struct {
	Config     TopicConfig
	Partitions []PartitionState
}

// PartitionState is the state of one partition, with positions as half-open ranges.
type PartitionState struct {
	// Start is the first position kept.
	Start int64
	// End is behind every record: the position that the next one will get, or,
	// where positions have gaps, one that is not above it.
	End int64
	// Bytes is the size of the records kept, approximately.
	Bytes int64
	// Committed is the group's next position; -1 where it has none (or no group was named).
	Committed int64
	// Waiting is how many records the group has still to process, those kept where
	// it has no position. Where positions have gaps it may be an estimate, but 0
	// exactly when nothing waits.
	Waiting int64
	// OldestTime is when the group's oldest unprocessed record was stored, in
	// Unix nanoseconds; 0 where nothing waits.
	OldestTime int64
}

// Batch is a run of records of one partition.
type Batch struct {
	Topic     string
	Partition int
	// Records, with everything they point at, are valid until Release.
	Records []event.Record
	// End is the partition's end position when the batch was read.
	End int64
	// After is where the next Fetch begins, where that is not behind the last
	// record's position; else 0.
	After int64
	// Free is called by Release; the driver sets it where it reuses memory.
	Free func(*Batch)
}

// Release hands the batch's memory back. The batch must not be used afterwards.
func (b *Batch) Release() {
	if b != nil && b.Free != nil {
		b.Free(b)
	}
}

// Next is the position after the batch.
func (b *Batch) Next() int64 {
	if b.After > 0 {
		return b.After
	}
	return b.Records[len(b.Records)-1].Position + 1
}

// Tx is one atomic change: everything in it becomes durable and visible at once, or nothing does.
type Tx struct {
	Publish   []Publication
	Positions []ClaimPosition
}

// Publication is a run of records for a topic.
type Publication struct {
	Topic string
	// Partition fixes the partition of all records; AnyPartition lets each record's key select it.
	Partition int
	Records   []event.Record
}

// AnyPartition lets a record's key select its partition.
const AnyPartition = -1

// ClaimPosition moves a claim's group position.
type ClaimPosition struct {
	Claim Claim
	Next  int64
}
