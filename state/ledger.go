package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// A ledger is a run of numbered manifests of which the one with the greatest
// number counts. Manifests are created, never overwritten: of two writers
// that build on the same manifest only one can create the next, and the other's
// Create is a Conflict. A writer first claims the ledger by creating a manifest of
// its own, whose number is its epoch; from then on every older writer conflicts.
//
// Older manifests are deleted when a newer one is there, so a writer that has
// slept could create a number that was used and deleted. It therefore lists once
// behind each Create: where there is a greater number, what it created never
// counted. The newest is never deleted, so the list cannot miss it.
//
// Objects that a manifest names carry the epoch and a sequence number of their
// writer in their names. So nobody overwrites another's, and what a claim may
// collect as garbage is told from what a later owner is just writing.
type ledger struct {
	o      Objects
	prefix string
	kind   byte // what the body is
	owner  string

	number uint64 // of the newest manifest, which is ours
	epoch  uint64 // the number that we claimed with
	seq    uint64 // of the objects written in this epoch
}

const (
	manifestMagic   = "FRSM"
	manifestVersion = 1
	maxManifest     = 64 << 20

	kindArchive   = 1
	kindSnapshots = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// objectID names an object that a manifest refers to.
type objectID struct{ epoch, seq uint64 }

func (l *ledger) objectName(id objectID) string {
	return fmt.Sprintf("%s/data-%016x-%016x", l.prefix, id.epoch, id.seq)
}

func (l *ledger) manifestName(n uint64) string {
	return fmt.Sprintf("%s/manifest-%016x", l.prefix, n)
}

// newID returns an identity that no object had before.
func (l *ledger) newID() objectID {
	l.seq++
	return objectID{l.epoch, l.seq}
}

func parseHex(s string) (uint64, bool) {
	if len(s) != 16 || strings.ToLower(s) != s {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 16, 64)
	return v, err == nil
}

// list returns the numbers of all manifests, ascending, and all objects.
func (l *ledger) list(ctx context.Context) (manifests []uint64, objects []objectID, err error) {
	for _, part := range []string{"/manifest-", "/data-"} {
		all, err := l.o.List(ctx, l.prefix+part)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range all {
			rest := strings.TrimPrefix(o.Name, l.prefix+part)
			if part == "/manifest-" {
				if n, ok := parseHex(rest); ok {
					manifests = append(manifests, n)
				}
				continue
			}
			a, b, _ := strings.Cut(rest, "-")
			epoch, ok := parseHex(a)
			seq, ok2 := parseHex(b)
			if ok && ok2 {
				objects = append(objects, objectID{epoch, seq})
			}
		}
	}
	return manifests, objects, nil
}

// newerThan returns the numbers of the manifests up to n, and whether one is greater.
func (l *ledger) newerThan(ctx context.Context, n uint64) (older []uint64, newer bool, err error) {
	all, err := l.o.List(ctx, l.prefix+"/manifest-")
	if err != nil {
		return nil, false, err
	}
	for _, o := range all {
		m, ok := parseHex(strings.TrimPrefix(o.Name, l.prefix+"/manifest-"))
		switch {
		case ok && m > n:
			newer = true
		case ok && m < n:
			older = append(older, m)
		}
	}
	return older, newer, nil
}

// manifest is a decoded manifest.
type manifest struct {
	number, epoch uint64
	owner         string
	body          []byte
}

func encodeManifest(kind byte, m *manifest) []byte {
	b := append([]byte(manifestMagic), manifestVersion, kind)
	b = binary.BigEndian.AppendUint64(b, m.number)
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = binary.AppendUvarint(b, uint64(len(m.owner)))
	b = append(b, m.owner...)
	b = binary.AppendUvarint(b, uint64(len(m.body)))
	b = append(b, m.body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeManifest(kind byte, number uint64, b []byte) (*manifest, error) {
	if len(b) < len(manifestMagic)+2+16+4 || string(b[:4]) != manifestMagic {
		return nil, errkind.New(errkind.Corrupt, "offset 0: this is no manifest")
	}
	if b[4] != manifestVersion {
		return nil, errkind.Errorf(errkind.Unsupported, "offset 4: manifest version %d, this program reads %d: use the newer program", b[4], manifestVersion)
	}
	end := len(b) - 4
	if got, want := crc32.Checksum(b[:end], castagnoli), binary.BigEndian.Uint32(b[end:]); got != want {
		return nil, errkind.Errorf(errkind.Corrupt, "offset %d: checksum %08x, the bytes have %08x", end, want, got)
	}
	if b[5] != kind {
		return nil, errkind.Errorf(errkind.Config, "offset 5: a manifest of kind %d where kind %d belongs: two things share one name", b[5], kind)
	}
	c := cursor{b: b[6:end]}
	m := &manifest{number: c.fixed64(), epoch: c.fixed64(), owner: string(c.bytes()), body: c.bytes()}
	if c.bad || len(c.b) != 0 || m.number != number || m.epoch > m.number {
		return nil, errkind.New(errkind.Corrupt, "offset 6: the manifest's fields do not fit its length or name")
	}
	return m, nil
}

// newest reads the manifest that counts; nil where there is none.
func (l *ledger) newest(ctx context.Context) (*manifest, error) {
	for tries := 0; ; tries++ {
		all, err := l.o.List(ctx, l.prefix+"/manifest-")
		if err != nil {
			return nil, err
		}
		var n uint64
		for _, o := range all {
			if m, ok := parseHex(strings.TrimPrefix(o.Name, l.prefix+"/manifest-")); ok {
				n = max(n, m)
			}
		}
		if n == 0 {
			return nil, nil
		}
		b, err := readAll(ctx, l.o, l.manifestName(n), maxManifest)
		if errkind.Is(err, errkind.NotFound) && tries < 8 {
			continue // its owner wrote the next one meanwhile
		}
		if err != nil {
			return nil, err
		}
		m, err := decodeManifest(l.kind, n, b)
		if err != nil {
			return nil, damaged(l.manifestName(n), l.prefix, err)
		}
		return m, nil
	}
}

// damaged says where a stored object is wrong and what to do about it.
func damaged(name, prefix string, err error) error {
	if !errkind.Is(err, errkind.Corrupt) {
		return fmt.Errorf("object %s: %w", name, err)
	}
	return fmt.Errorf("object %s: %w: put a good copy of the object back; without one, delete everything under %s/ and begin anew from what the changelog still holds", name, err, prefix)
}

func readAll(ctx context.Context, o Objects, name string, limit int64) ([]byte, error) {
	r, err := o.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, errkind.Errorf(errkind.Corrupt, "object %s has more than the %d bytes allowed", name, limit)
	}
	return b, nil
}

// claim makes this writer the ledger's owner and returns the body that counts;
// nil where there is none. check looks at the body before anything is written.
func (l *ledger) claim(ctx context.Context, check func(body []byte) error) error {
	for tries := 0; ; tries++ {
		m, err := l.newest(ctx)
		if err != nil {
			return err
		}
		if m == nil {
			m = &manifest{}
		}
		if err := check(m.body); err != nil {
			return damaged(l.manifestName(m.number), l.prefix, err)
		}
		l.number, l.epoch, l.seq = m.number, m.number+1, 0
		_, err = l.write(ctx, m.body)
		if err == nil || !errkind.Is(err, errkind.Conflict) || tries == 16 {
			return err
		}
	}
}

// write makes body the ledger's newest manifest. It returns the numbers of the
// manifests that it made superfluous. Another owner is a Conflict.
func (l *ledger) write(ctx context.Context, body []byte) (old []uint64, err error) {
	for {
		n := l.number + 1
		b := encodeManifest(l.kind, &manifest{number: n, epoch: l.epoch, owner: l.owner, body: body})
		err := l.o.Create(ctx, l.manifestName(n), b)
		if errkind.Is(err, errkind.Conflict) {
			theirs, rerr := readAll(ctx, l.o, l.manifestName(n), maxManifest)
			if rerr != nil && !errkind.Is(rerr, errkind.NotFound) {
				return nil, rerr
			}
			ours := bytes.Equal(theirs, b)
			if !ours {
				if m, derr := decodeManifest(l.kind, n, theirs); derr == nil && m.owner == l.owner && m.epoch == l.epoch {
					// An earlier write of ours of which the answer was lost: it
					// is valid, and this one follows it.
					l.number = n
					continue
				}
				return nil, l.lost()
			}
		} else if err != nil {
			return nil, err
		}
		old, newer, err := l.newerThan(ctx, n)
		if err != nil {
			return nil, err
		}
		if newer {
			_ = l.o.Delete(ctx, l.manifestName(n)) // it never counted; the owner's next write deletes it, too
			return nil, l.lost()
		}
		l.number = n
		return old, nil
	}
}

func (l *ledger) lost() error {
	return errkind.Errorf(errkind.Conflict, "%s has another owner by now: the task has moved to another process, and this one must stop writing", l.prefix)
}

// remove deletes manifests and objects that nothing needs, and returns how many
// stayed because that failed; the next claim collects those.
func (l *ledger) remove(ctx context.Context, manifests []uint64, objects []objectID) (left int) {
	for _, id := range objects {
		if l.o.Delete(ctx, l.objectName(id)) != nil {
			left++
		}
	}
	for _, n := range manifests {
		if l.o.Delete(ctx, l.manifestName(n)) != nil {
			left++
		}
	}
	return left
}

// collect deletes what earlier owners left: all of their objects that keep does
// not name, and all older manifests.
func (l *ledger) collect(ctx context.Context, keep map[objectID]bool) (left int, err error) {
	manifests, objects, err := l.list(ctx)
	if err != nil {
		return 0, err
	}
	var old []uint64
	for _, n := range manifests {
		if n < l.number {
			old = append(old, n)
		}
	}
	var gone []objectID
	for _, id := range objects {
		if id.epoch < l.epoch && !keep[id] {
			gone = append(gone, id)
		}
	}
	return l.remove(ctx, old, gone), nil
}

// cursor reads fields and remembers that there were too few bytes.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) fixed64() uint64 {
	if len(c.b) < 8 {
		c.bad, c.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

func (c *cursor) byte() byte {
	if len(c.b) < 1 {
		c.bad, c.b = true, nil
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}
