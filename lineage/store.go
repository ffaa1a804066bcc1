package lineage

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/freshet-io/freshet/errkind"
)

// The store is an LSM tree. Predictions lie in blocks, of one message each or of those
// of its rows that go at the same time, and blocks in buckets of what expires together,
// so that expiry is the deletion of a range. The keys, numbers big endian:
//
//	V                                       version of the format
//	T                                       the topic
//	Y                                       the policy, as JSON
//	N                                       number of the next block
//	P partition                             position behind what was taken from the topic
//	U bucket                                rows and bytes of a bucket
//	H bucket block                          least and greatest event time, time of publication, rows
//	B bucket block                          the message
//	I bucket hash(event id) block row       \
//	R bucket hash(result id) block row       } nothing
//	K bucket hash(key) block row            /
//
// A bucket is when it expires (8 bytes) and a number (2), since one is closed at a
// sixteenth of what the store may take.
const (
	keyVersion = 'V'
	keyTopic   = 'T'
	keyPolicy  = 'Y'
	keyNext    = 'N'
	keyPlace   = 'P'
	keyBucket  = 'U'
	keyHead    = 'H'
	keyBlock   = 'B'
	keyID      = 'I'
	keyResult  = 'R'
	keyKey     = 'K'

	storeVersion = 1
	bucketBytes  = 10
	// indexBytes is about what the index of a row takes on disk.
	indexBytes = 48
)

// StoreOptions are what OpenStore takes beside the folder. The zero value is good.
type StoreOptions struct {
	// Policy is what is kept of what is taken from now on. Its zero value is the
	// policy of the last time.
	Policy Policy
	// Logger hears of what goes wrong in the background; nil discards.
	Logger *slog.Logger
	// Now is the clock of expiry; nil is time.Now.
	Now func() time.Time

	fs vfs.FS
}

// Store keeps the predictions of a pipeline on the local disk. It holds no more
// than a copy: without its folder, it is made again from the topic. All methods may be called
// concurrently.
type Store struct {
	dir    string
	o      StoreOptions
	db     *pebble.DB
	policy Policy

	life    sync.RWMutex // held by who reads; Close waits for them
	mu      sync.Mutex   // of writing, and of what follows
	keep    *keeper
	buckets map[bucket]usage
	open    map[int64]uint16 // the bucket being filled, by expiry
	next    uint64           // number of the next block
	places  map[int]int64
	topic   string
	swept   time.Time
	lock    *pebble.Lock
	closed  bool
}

type bucket struct {
	expiry int64
	number uint16
}

// usage is what a bucket holds.
type usage struct{ rows, bytes int64 }

// OpenStore opens the store in a folder, which is made where it is missing. One
// that another process holds is a Conflict, a damaged one Corrupt.
func OpenStore(dir string, o StoreOptions) (*Store, error) {
	if err := o.Policy.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	s := &Store{
		dir: dir, o: o, buckets: map[bucket]usage{}, open: map[int64]uint16{}, places: map[int]int64{},
	}
	if err := o.fs.MkdirAll(dir, 0o755); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open store of predictions %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, o.fs)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, errkind.Errorf(errkind.Config, "open store of predictions %s: %w", dir, err)
		}
		return nil, errkind.Errorf(errkind.Conflict, "open store of predictions %s: another process holds it: %w", dir, err)
	}
	p := &pebble.Options{
		FS: o.fs, Lock: lock, CacheSize: 16 << 20, MemTableSize: 16 << 20, FormatMajorVersion: pebble.FormatTableFormatV6,
		Logger: pebbleLogger{o.Logger}, MaxOpenFiles: 256,
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 16 << 10
	}
	if s.db, err = pebble.Open(dir, p); err != nil {
		return nil, errors.Join(s.damaged(err), lock.Close())
	}
	if err := errors.Join(s.load(), s.settle()); err != nil {
		return nil, errors.Join(err, s.db.Close(), lock.Close())
	}
	s.lock = lock
	return s, nil
}

func (s *Store) damaged(err error) error {
	return errkind.Errorf(errkind.Corrupt, "store of predictions %s: %w: remove the folder, and it is made again from the topic", s.dir, err)
}

// settle finds the policy, and remembers it.
func (s *Store) settle() error {
	s.policy = s.o.Policy
	if len(s.policy.Keep) == 0 && s.policy.MaxBytes == 0 {
		was, err := s.get([]byte{keyPolicy})
		if err != nil {
			return err
		}
		if was != nil {
			if err := json.Unmarshal(was, &s.policy); err != nil {
				return s.damaged(err)
			}
		}
	} else {
		is, err := json.Marshal(s.policy)
		if err != nil {
			return err
		}
		if err := s.db.Set([]byte{keyPolicy}, is, pebble.NoSync); err != nil {
			return s.damaged(err)
		}
	}
	s.policy = s.policy.withDefaults()
	s.keep = newKeeper(s.policy)
	return nil
}

// load reads what the store must know of itself.
func (s *Store) load() error {
	version, err := s.get([]byte{keyVersion})
	switch {
	case err != nil:
		return err
	case version == nil:
		return s.db.Set([]byte{keyVersion}, []byte{storeVersion}, pebble.NoSync)
	case len(version) != 1 || version[0] != storeVersion:
		return errkind.Errorf(errkind.Unsupported, "store of predictions %s: it has format %d, this program uses %d: remove the folder, and it is made again from the topic", s.dir, version, storeVersion)
	}
	topic, err := s.get([]byte{keyTopic})
	if err != nil {
		return err
	}
	s.topic = string(topic)
	next, err := s.get([]byte{keyNext})
	if err != nil {
		return err
	}
	if len(next) == 8 {
		s.next = binary.BigEndian.Uint64(next)
	}
	err = s.each([]byte{keyPlace}, []byte{keyPlace + 1}, func(k, v []byte) bool {
		if len(k) == 5 && len(v) == 8 {
			s.places[int(binary.BigEndian.Uint32(k[1:]))] = int64(binary.BigEndian.Uint64(v))
		}
		return true
	})
	if err != nil {
		return err
	}
	return s.each([]byte{keyBucket}, []byte{keyBucket + 1}, func(k, v []byte) bool {
		if len(k) == 1+bucketBytes && len(v) == 16 {
			b := bucketOf(k[1:])
			s.buckets[b] = usage{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
			s.open[b.expiry] = max(s.open[b.expiry], b.number)
		}
		return true
	})
}

// Close gives the folder back; a second Close returns nil.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.db.Close(), s.lock.Close())
}

var errClosed = errkind.New(errkind.Closed, "the store of predictions is closed")

// Stats says what the store holds.
func (s *Store) Stats() StoreStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StoreStats{Buckets: len(s.buckets)}
	for _, u := range s.buckets {
		st.Rows += u.rows
		st.Bytes += u.bytes
	}
	return st
}

// StoreStats is the size of a store.
type StoreStats struct {
	// Rows is how many predictions there are, Bytes about what they take.
	Rows, Bytes int64
	Buckets     int
}

// get reads a value; nil where there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.damaged(err)
	}
	out := append([]byte{}, v...)
	return out, closer.Close()
}

// each visits the entries from ≤ key < to until visit returns false.
func (s *Store) each(from, to []byte, visit func(k, v []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return s.damaged(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(s.damaged(err), it.Close())
		}
		if !visit(it.Key(), v) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return s.damaged(err)
	}
	return nil
}

func (b bucket) append(k []byte) []byte {
	k = binary.BigEndian.AppendUint64(k, uint64(b.expiry))
	return binary.BigEndian.AppendUint16(k, b.number)
}

func bucketOf(k []byte) bucket {
	return bucket{int64(binary.BigEndian.Uint64(k)), binary.BigEndian.Uint16(k[8:])}
}

func placeKey(partition int) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyPlace}, uint32(partition))
}

func blockKey(sort byte, b bucket, block uint64) []byte {
	return binary.BigEndian.AppendUint64(b.append([]byte{sort}), block)
}

// inOrder are the buckets by what expires first.
func (s *Store) inOrder() []bucket {
	var all []bucket
	for b := range s.buckets {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b bucket) int {
		return cmp.Or(cmp.Compare(a.expiry, b.expiry), cmp.Compare(a.number, b.number))
	})
	return all
}

// position is where to go on in a partition of the topic.
func (s *Store) position(partition int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[partition]
}

// begin prepares to take what a topic holds: a store of another topic is emptied.
func (s *Store) begin(topic string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.topic == topic {
		return nil
	}
	if s.topic != "" {
		if err := s.empty(); err != nil {
			return err
		}
	}
	if err := s.db.Set([]byte{keyTopic}, []byte(topic), pebble.Sync); err != nil {
		return s.damaged(err)
	}
	s.topic = topic
	return nil
}

// restart forgets everything: the topic was made anew.
func (s *Store) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.empty()
}

func (s *Store) empty() error {
	// All keys but the version and the topic.
	b := s.db.NewBatch()
	for _, k := range []byte{keyNext, keyPlace, keyBucket, keyHead, keyBlock, keyID, keyResult, keyKey} {
		if err := b.DeleteRange([]byte{k}, []byte{k + 1}, nil); err != nil {
			return s.damaged(err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return s.damaged(err)
	}
	clear(s.buckets)
	clear(s.open)
	clear(s.places)
	s.next = 0
	return nil
}

type pebbleLogger struct{ l *slog.Logger }

func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.l.Error("store of predictions", "error", fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble calls it where its files and its memory disagree.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.l.Error("store of predictions cannot go on", "error", msg)
	panic("pebble: " + msg)
}
