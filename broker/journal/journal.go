package journal

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Options is what the program passes to Open. The zero value is good.
type Options struct {
	// Address is where this process serves HTTP; a second process that wants
	// the folder is told. See SetAddress.
	Address string
	// Sync is when appended data is synced; the zero value is SyncAlways.
	Sync Sync
	// SegmentBytes is the size of the log's files; 0 means 128 MiB. At most 1 GiB.
	SegmentBytes int64
	// MaxRecordBytes is the largest Record.Size taken; 0 means 1 MiB. At most 64 MiB.
	MaxRecordBytes int
	// Interval is how often retention is applied and space freed; 0 means 30 s.
	Interval time.Duration
	// Clock gives the records' times; nil is time.Now.
	Clock func() time.Time
	// Logger is told of what was repaired and of what cannot be returned to a
	// caller; nil discards.
	Logger *slog.Logger
	// FS is the file system; nil is the operating system's.
	FS FS

	quiet bool // no maintenance goroutine
}

// Sync says when what was appended is synced to disk.
type Sync struct{ every time.Duration }

// SyncAlways syncs before anything is acknowledged.
var SyncAlways = Sync{}

// SyncEvery acknowledges what the operating system has taken and syncs at most d
// later: a crash of the machine, though not of the process, loses up to d of
// what was acknowledged. d ≤ 0 is SyncAlways.
func SyncEvery(d time.Duration) Sync { return Sync{max(0, d)} }

// Journal is an open journal. It implements broker.Driver, broker.Transactor and broker.Admin.
type Journal struct {
	dir          string
	fs           FS
	log          *slog.Logger
	clock        func() time.Time
	sync         Sync
	segmentBytes int64
	growAhead    int64
	maxRecord    int
	interval     time.Duration
	lock         File
	cache        *segmentCache
	ops          *sync.Pool
	chunks       *sync.Pool
	batches      *sync.Pool

	admin sync.Mutex // one change of topics at a time; taken before all others

	// mu guards what is on its way into the log: positions given out, the groups
	// that wait, the consumer groups' membership. Taken before view.
	mu       sync.Mutex
	pending  *group
	inflight *group
	room     chan struct{} // closed when pending was taken
	broken   error
	closing  bool
	groups   map[groupKey]*consumerGroup

	// view guards what is durable and visible. Only the committer changes it,
	// except for wake channels.
	view      sync.RWMutex
	topics    map[uint32]*topic
	byName    map[string]*topic
	nextTopic uint32
	segments  []*segment // ordered by base; the last one is active

	w    writer
	kick chan struct{} // the committer has work

	maintain    chan struct{} // the maintenance has work
	maintaining sync.Mutex
	marked      int64 // size of the active segment after the last mark; under maintaining
	closed      chan struct{}
	stopCommits chan struct{}
	running     sync.WaitGroup  // the committer
	upkeep      sync.WaitGroup  // the maintenance
	ctx         context.Context // ends with Close
	cancel      context.CancelFunc
	closeOnce   sync.Once
}

var (
	_ broker.Driver     = (*Journal)(nil)
	_ broker.Transactor = (*Journal)(nil)
	_ broker.Admin      = (*Journal)(nil)
)

// Open opens the journal in dir, making the folder where it is missing, and
// holds it until Close.
//
// A folder that another process holds is a Conflict error that names it, one
// that cannot be written a Config error, damage a Corrupt error with file and
// offset. An unfinished frame at the end is cut off and logged.
func Open(dir string, o Options) (*Journal, error) {
	if o.FS == nil {
		o.FS = osFS{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 128 << 20
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = 1 << 20
	}
	if o.Interval == 0 {
		o.Interval = 30 * time.Second
	}
	if o.SegmentBytes < 4<<10 || o.SegmentBytes > 1<<30 || o.MaxRecordBytes < 1 || o.MaxRecordBytes > 64<<20 || o.Interval < 0 {
		return nil, errkind.Errorf(errkind.Config, "open journal %s: segments have 4 KiB to 1 GiB, records 1 byte to 64 MiB, and the interval is positive", dir)
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &Journal{
		dir: dir, fs: o.FS, log: o.Logger, clock: o.Clock, sync: o.Sync,
		segmentBytes: o.SegmentBytes, growAhead: min(growAhead, o.SegmentBytes), maxRecord: o.MaxRecordBytes, interval: o.Interval,
		cache:       &segmentCache{fs: o.FS, maxFiles: 64, maxBytes: 64 << 20, loaded: map[*segment]struct{}{}},
		ops:         newOpPool(),
		pending:     &group{done: make(chan struct{})},
		room:        make(chan struct{}),
		groups:      map[groupKey]*consumerGroup{},
		topics:      map[uint32]*topic{},
		byName:      map[string]*topic{},
		nextTopic:   1,
		kick:        make(chan struct{}, 1),
		maintain:    make(chan struct{}, 1),
		closed:      make(chan struct{}),
		stopCommits: make(chan struct{}),
		ctx:         ctx,
		cancel:      cancel,
	}
	j.chunks, j.batches = newReaderPools()
	if err := j.start(o.Address); err != nil {
		cancel()
		j.cache.closeAll()
		if j.lock != nil {
			_ = j.lock.Close()
		}
		return nil, err
	}
	j.running.Add(1)
	go j.runCommitter()
	if !o.quiet {
		j.upkeep.Add(1)
		go j.runMaintenance()
	}
	return j, nil
}

func (j *Journal) start(address string) error {
	if err := j.fs.MkdirAll(j.dir); err != nil {
		return openError(j.dir, err)
	}
	lock, err := takeLock(j.fs, j.dir, owner(address))
	if err != nil {
		return err
	}
	j.lock = lock
	if err := j.recover(); err != nil {
		return err
	}
	return j.rememberIDs()
}

// SetAddress says where this process serves HTTP, once it does.
func (j *Journal) SetAddress(address string) error {
	return writeOwner(j.lock, owner(address))
}

// Capabilities says what the journal can do.
func (j *Journal) Capabilities() broker.Capabilities {
	return broker.Capabilities{Transactions: true, Gapless: true, Admin: true, Dedup: true, Durable: true, MaxRecordBytes: j.maxRecord}
}

// Close writes what was handed over, ends every waiting call with a Closed
// error and gives the folder free. A second Close returns nil.
func (j *Journal) Close() error {
	var err error
	j.closeOnce.Do(func() {
		j.mu.Lock()
		j.closing = true
		j.mu.Unlock()
		close(j.closed)
		j.cancel()
		j.upkeep.Wait()
		close(j.stopCommits)
		j.running.Wait()
		j.maintaining.Lock() // a call of Maintain in progress
		defer j.maintaining.Unlock()
		j.cache.release(j.w.seg)
		j.cache.closeAll()
		err = j.lock.Close()
	})
	return err
}

func (j *Journal) isClosed() bool {
	select {
	case <-j.closed:
		return true
	default:
		return false
	}
}

// Topics lists the names of all topics, sorted.
func (j *Journal) Topics(ctx context.Context) ([]string, error) {
	if err := j.usable(ctx); err != nil {
		return nil, err
	}
	j.view.RLock()
	defer j.view.RUnlock()
	names := make([]string, 0, len(j.byName))
	for name := range j.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (j *Journal) usable(ctx context.Context) error {
	if j.isClosed() {
		return errClosed
	}
	return ctx.Err()
}

// CreateTopic makes a topic; see broker.Admin.
func (j *Journal) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	if c.Name == "" || len(c.Name) > 249 {
		return errkind.Errorf(errkind.Invalid, "create topic: a name has 1 to 249 bytes, not %d", len(c.Name))
	}
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		return errkind.Errorf(errkind.Invalid, "create topic %q: a topic has 1 to %d partitions, not %d", c.Name, maxPartitions, c.Partitions)
	}
	if c.Retention < 0 || c.RetainBytes < 0 || c.DedupWindow < 0 {
		return errkind.Errorf(errkind.Invalid, "create topic %q: retention and deduplication window cannot be negative", c.Name)
	}
	j.admin.Lock()
	defer j.admin.Unlock()
	j.view.RLock()
	have, id := j.byName[c.Name], j.nextTopic
	j.view.RUnlock()
	if have != nil {
		if have.conf.Partitions != c.Partitions {
			return errkind.Errorf(errkind.Conflict, "topic %q exists with %d partitions, not %d", c.Name, have.conf.Partitions, c.Partitions)
		}
		return nil
	}
	t := newTopic(id, c)
	o := j.newOp()
	b, doc, err := topicBlock(t)
	if err != nil {
		return err
	}
	o.addBlock(b, doc)
	return j.submit(context.WithoutCancel(ctx), o)
}

func topicBlock(t *topic) (opBlock, []byte, error) {
	doc, err := json.Marshal(t.doc())
	if err != nil {
		return opBlock{}, nil, err
	}
	return opBlock{head: blockHead{kind: kindTopic, topic: t.id}, t: t}, doc, nil
}

// maxPartitions is what the format has room for.
const maxPartitions = 1 << 16

// DeleteTopic removes a topic with its records and its groups' positions.
func (j *Journal) DeleteTopic(ctx context.Context, name string) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	j.admin.Lock()
	defer j.admin.Unlock()
	t, err := j.topicByName(name)
	if err != nil {
		return err
	}
	o := j.newOp()
	o.addBlock(opBlock{head: blockHead{kind: kindTopicGone, topic: t.id}, t: t}, nil)
	j.mu.Lock()
	tk, err := j.enqueue(o)
	if err == nil {
		t.deleting = true
	}
	j.mu.Unlock()
	if err != nil {
		j.freeOp(o)
		return err
	}
	return tk.wait(context.WithoutCancel(ctx))
}

// Trim gives the records before position free: they are not read any more when
// it returns, and their space is used again later.
func (j *Journal) Trim(ctx context.Context, topic string, partition int, before int64) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	t, p, err := j.partition(topic, partition)
	if err != nil {
		return err
	}
	j.view.RLock()
	start, end := p.start, p.end
	j.view.RUnlock()
	if before > end {
		return errkind.Errorf(errkind.Invalid, "trim topic %q partition %d: position %d is behind the end, %d", t.conf.Name, partition, before, end)
	}
	if before <= start {
		return nil
	}
	o := j.newOp()
	o.addBlock(trimBlock(p, before), nil)
	return j.submit(ctx, o)
}

func trimBlock(p *partition, before int64) opBlock {
	return opBlock{head: blockHead{kind: kindTrim, topic: p.topic.id, partition: p.num, base: before}, p: p}
}

func (j *Journal) partition(topic string, partition int) (*topic, *partition, error) {
	t, err := j.topicByName(topic)
	if err != nil {
		return nil, nil, err
	}
	if partition < 0 || partition >= len(t.parts) {
		return nil, nil, errNoPartition(t, partition)
	}
	return t, t.parts[partition], nil
}

// Describe reports the topic's partitions and how far a group has come.
func (j *Journal) Describe(ctx context.Context, topic, group string) (broker.Topic, error) {
	var out broker.Topic
	if err := j.usable(ctx); err != nil {
		return out, err
	}
	t, err := j.topicByName(topic)
	if err != nil {
		return out, err
	}
	out.Config = t.conf
	out.Partitions = make([]broker.PartitionState, len(t.parts))
	j.view.RLock()
	committed := t.positions[group]
	for i, p := range t.parts {
		s := broker.PartitionState{Start: p.start, End: p.end, Committed: -1}
		for k := range p.runs {
			s.Bytes += p.runs[k].live(p.start)
		}
		if committed != nil && group != "" {
			s.Committed = committed[i]
		}
		s.Waiting = s.End - min(max(s.Committed, s.Start), s.End)
		out.Partitions[i] = s
	}
	j.view.RUnlock()
	if group == "" {
		return out, nil
	}
	for i := range out.Partitions {
		s := &out.Partitions[i]
		if from := max(s.Committed, s.Start); from < s.End {
			if s.OldestTime, err = j.timeAt(t.parts[i], from); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}
