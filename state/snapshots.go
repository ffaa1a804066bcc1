package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/freshet-io/freshet/errkind"
)

// Snapshots keeps the newest state of a Freezer in an object store. Each Take
// writes the files that the one before did not have, then a manifest, then
// deletes what that made superfluous; whatever dies in between, the newest
// manifest names only files that are there whole.
//
// It has one owner, as an Archive has. It is not safe for concurrent use.
type Snapshots struct {
	name   string
	ledger ledger
	mark   []byte
	files  []snapshotFile
	orphan []objectID
}

// snapshotFile is a frozen file in the object store.
type snapshotFile struct {
	name string // as the Freezer calls it
	id   objectID
	size int64
	sum  uint32 // CRC-32C of all of it
}

// SnapshotStats says what a Take did.
type SnapshotStats struct {
	// Files and Bytes are all of the snapshot, NewFiles and NewBytes what had to be written.
	Files, NewFiles int
	Bytes, NewBytes int64
}

// OpenSnapshots takes over the snapshots under name, or begins them. owner is as
// in OpenArchive. It does not own o.
func OpenSnapshots(ctx context.Context, o Objects, name, owner string) (*Snapshots, error) {
	if err := CheckName(name + "/manifest-0000000000000000"); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &Snapshots{name: name, ledger: ledger{o: o, prefix: name, kind: kindSnapshots, owner: owner}}
	err := s.ledger.claim(ctx, func(body []byte) (err error) {
		s.mark, s.files, err = decodeSnapshot(body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", name, err)
	}
	keep := map[objectID]bool{}
	for _, f := range s.files {
		keep[f.id] = true
	}
	if _, err := s.ledger.collect(ctx, keep); err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", name, err)
	}
	return s, nil
}

// Mark is what the newest Take was given; ok is false where there is no snapshot.
func (s *Snapshots) Mark() (mark []byte, ok bool) { return s.mark, len(s.files) > 0 }

// Take makes d's state durable and keeps mark beside it: where in the stream the
// state belongs. After an error the snapshot before is still there.
func (s *Snapshots) Take(ctx context.Context, d Freezer, mark []byte) (st SnapshotStats, err error) {
	frozen, err := d.Freeze()
	if err != nil {
		return st, fmt.Errorf("take snapshot %s: %w", s.name, err)
	}
	kept := false
	defer func() {
		if rerr := frozen.Release(kept); err == nil && rerr != nil {
			err = fmt.Errorf("take snapshot %s: %w", s.name, rerr)
		}
	}()
	st, err = s.take(ctx, frozen, mark)
	if err != nil {
		return st, fmt.Errorf("take snapshot %s: %w", s.name, err)
	}
	kept = true
	return st, nil
}

func (s *Snapshots) take(ctx context.Context, frozen Frozen, mark []byte) (st SnapshotStats, err error) {
	have := map[string]snapshotFile{}
	for _, f := range s.files {
		have[f.name] = f
	}
	var files []snapshotFile
	for _, f := range frozen.Files() {
		known, ok := have[f.Name]
		delete(have, f.Name)
		if !ok || known.size != f.Size {
			if ok {
				have[f.Name] = known // superfluous then
			}
			known = snapshotFile{name: f.Name, id: s.ledger.newID(), size: f.Size}
			s.orphan = append(s.orphan, known.id)
			if known.sum, err = s.put(ctx, frozen, known); err != nil {
				return st, err
			}
			st.NewFiles++
			st.NewBytes += f.Size
		}
		st.Files++
		st.Bytes += f.Size
		files = append(files, known)
	}
	manifests, err := s.ledger.write(ctx, encodeSnapshot(mark, files))
	if err != nil {
		return st, err
	}
	var gone []objectID
	for _, f := range have {
		gone = append(gone, f.id)
	}
	used := map[objectID]bool{}
	for _, f := range files {
		used[f.id] = true
	}
	for _, id := range s.orphan {
		if !used[id] {
			gone = append(gone, id)
		}
	}
	s.files, s.mark, s.orphan = files, append([]byte(nil), mark...), nil
	s.ledger.remove(ctx, manifests, gone) // what stays is collected at the next open
	return st, nil
}

func (s *Snapshots) put(ctx context.Context, frozen Frozen, f snapshotFile) (uint32, error) {
	r, err := frozen.Open(f.name)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	sum := &summing{r: r, h: crc32.New(castagnoli)}
	var from io.Reader = sum
	if sk, ok := r.(io.Seeker); ok {
		from = &summingSeeker{summing: sum, s: sk}
	}
	if err := s.ledger.o.Put(ctx, s.ledger.objectName(f.id), f.size, from); err != nil {
		return 0, err
	}
	return sum.h.Sum32(), nil
}

// Restore fills d, which must be empty, and returns the snapshot's mark.
// NotFound says that there is none; damage is Corrupt.
func (s *Snapshots) Restore(ctx context.Context, d Freezer) (mark []byte, err error) {
	if len(s.files) == 0 {
		return nil, errkind.Errorf(errkind.NotFound, "restore snapshot %s: there is none yet", s.name)
	}
	byName := map[string]snapshotFile{}
	names := make([]string, 0, len(s.files))
	for _, f := range s.files {
		byName[f.name] = f
		names = append(names, f.name)
	}
	err = d.Thaw(ctx, names, func(name string) (io.ReadCloser, error) {
		f, ok := byName[name]
		if !ok {
			return nil, errkind.Errorf(errkind.NotFound, "the snapshot has no file %s", name)
		}
		object := s.ledger.objectName(f.id)
		r, err := s.ledger.o.Get(ctx, object)
		if errkind.Is(err, errkind.NotFound) {
			err = damaged(object, s.name, errkind.Errorf(errkind.Corrupt, "the manifest names an object that is not there: %w", err))
		}
		if err != nil {
			return nil, err
		}
		return &checkedFile{summing: summing{r: r, h: crc32.New(castagnoli)}, close: r.Close, f: f, object: object, prefix: s.name}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", s.name, err)
	}
	return s.mark, nil
}

// summing takes the checksum of what is read through it.
type summing struct {
	r io.Reader
	h hash.Hash32
	n int64
}

func (s *summing) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.h.Write(b[:n])
	s.n += int64(n)
	return n, err
}

// summingSeeker lets Put begin again.
type summingSeeker struct {
	*summing
	s io.Seeker
}

func (s *summingSeeker) Seek(offset int64, whence int) (int64, error) {
	at, err := s.s.Seek(offset, whence)
	if err == nil && at == 0 {
		s.h.Reset()
	}
	return at, err
}

// checkedFile gives a file whose end is only reached when all of it was right.
type checkedFile struct {
	summing
	close          func() error
	f              snapshotFile
	object, prefix string
}

func (c *checkedFile) Read(b []byte) (int, error) {
	n, err := c.summing.Read(b)
	if c.n > c.f.size || err == io.EOF && (c.n != c.f.size || c.h.Sum32() != c.f.sum) { //nolint:errorlint // a reader's end is io.EOF itself
		return n, damaged(c.object, c.prefix, errkind.Errorf(errkind.Corrupt, "offset %d: size or checksum are not those of the manifest", c.n))
	}
	return n, err
}

func (c *checkedFile) Close() error { return c.close() }

const snapshotVersion = 1

func encodeSnapshot(mark []byte, files []snapshotFile) []byte {
	b := binary.AppendUvarint([]byte{snapshotVersion}, uint64(len(mark)))
	b = append(b, mark...)
	b = binary.AppendUvarint(b, uint64(len(files)))
	for i := range files {
		f := &files[i]
		b = binary.AppendUvarint(b, uint64(len(f.name)))
		b = append(b, f.name...)
		b = binary.AppendUvarint(b, f.id.epoch)
		b = binary.AppendUvarint(b, f.id.seq)
		b = binary.AppendVarint(b, f.size)
		b = binary.AppendUvarint(b, uint64(f.sum))
	}
	return b
}

func decodeSnapshot(b []byte) (mark []byte, files []snapshotFile, err error) {
	if len(b) == 0 {
		return nil, nil, nil // claimed, and none taken yet
	}
	c := cursor{b: b}
	if version := c.byte(); version != snapshotVersion {
		return nil, nil, errkind.Errorf(errkind.Unsupported, "snapshot version %d, this program reads %d: use the newer program", version, snapshotVersion)
	}
	mark = append([]byte(nil), c.bytes()...)
	n := c.uvarint()
	for i := uint64(0); i < n && !c.bad; i++ {
		f := snapshotFile{name: string(c.bytes()), id: objectID{c.uvarint(), c.uvarint()}, size: c.varint()}
		sum := c.uvarint()
		if f.size < 0 || sum > 1<<32-1 || f.name == "" {
			c.bad = true
		}
		f.sum = uint32(sum)
		files = append(files, f)
	}
	if c.bad || len(c.b) != 0 {
		return nil, nil, errkind.New(errkind.Corrupt, "the list of files contradicts itself")
	}
	return mark, files, nil
}
