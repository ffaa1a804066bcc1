package memory

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// A layer is a file of the keys that changed between two snapshots, in order:
// for each key one byte, 0 for gone, 1 for an entry; the key's length (uvarint)
// and the key; for an entry its expiry (varint), the value's length (uvarint) and
// the value. Later layers win. The name begins with the layer's number, and ends
// with 16 random bytes, so that no two processes make one name.
const (
	layerGone  = 0
	layerEntry = 1
	maxPiece   = 1 << 30 // of a key or value; longer ones are damage
	maxLayers  = 64
)

// layers remembers what a next snapshot has to hold.
type layers struct {
	token   string
	next    int
	kept    []state.FrozenFile  // lowest first
	changed map[string]struct{} // since the last of kept; nil before the first
	frozen  *frozen
}

func newLayers() layers {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return layers{token: hex.EncodeToString(b[:])}
}

func (l *layers) touch(key string) {
	if l.changed != nil {
		l.changed[key] = struct{}{}
	}
}

// frozen is the tree at a moment and the layers that hold it.
type frozen struct {
	s       *Store
	root    *node
	files   []state.FrozenFile
	changed []string // the keys of the last layer, sorted; nil: all
	before  map[string]struct{}
	rebase  bool
}

// Freeze is in state.Freezer. The time that it takes is that of sorting and
// measuring what changed.
func (s *Store) Freeze() (state.Frozen, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	l := &s.layers
	if l.frozen != nil {
		return nil, errkind.New(errkind.Conflict, "freeze the store in memory: the last state frozen is not released")
	}
	f := &frozen{s: s, root: s.t.share(), before: l.changed, rebase: l.changed == nil || len(l.kept) >= maxLayers}
	if !f.rebase {
		above := int64(0)
		for _, k := range l.kept[1:] {
			above += k.Size
		}
		f.rebase = above > l.kept[0].Size
	}
	if !f.rebase {
		f.changed = make([]string, 0, len(l.changed))
		for k := range l.changed {
			f.changed = append(f.changed, k)
		}
		slices.Sort(f.changed)
		f.files = append(f.files, l.kept...)
	}
	l.changed = map[string]struct{}{}
	if f.rebase || len(f.changed) > 0 {
		var n counter
		if err := f.write(&n); err != nil {
			return nil, err
		}
		f.files = append(f.files, state.FrozenFile{Name: fmt.Sprintf("layer-%08d-%s", l.next, l.token), Size: int64(n)})
		l.next++
	}
	l.frozen = f
	return f, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func (f *frozen) Files() []state.FrozenFile { return f.files }

// write writes the newest layer.
func (f *frozen) write(w io.Writer) (err error) {
	var b []byte
	one := func(key string, it *item) bool {
		b = b[:0]
		if it == nil {
			b = append(b, layerGone)
		} else {
			b = append(b, layerEntry)
		}
		b = binary.AppendUvarint(b, uint64(len(key)))
		b = append(b, key...)
		if it != nil {
			b = binary.AppendVarint(b, it.expires)
			b = binary.AppendUvarint(b, uint64(len(it.value)))
			b = append(b, it.value...)
		}
		_, err = w.Write(b)
		return err == nil
	}
	if f.rebase {
		f.root.ascend("", "", func(it *item) bool { return one(it.key, it) })
		return err
	}
	for _, k := range f.changed {
		if !one(k, f.root.get(k)) {
			break
		}
	}
	return err
}

// Open is in state.Frozen; it writes the layer as it is read.
func (f *frozen) Open(name string) (io.ReadCloser, error) {
	if len(f.files) == 0 || f.files[len(f.files)-1].Name != name {
		return nil, errkind.Errorf(errkind.NotFound, "open layer %s: it is kept elsewhere, or none of these", name)
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := bufio.NewWriterSize(w, 256<<10)
		err := f.write(buf)
		if err == nil {
			err = buf.Flush()
		}
		_ = w.CloseWithError(err)
	}()
	return &layerReader{PipeReader: r, done: done}, nil
}

// layerReader waits at Close for the goroutine that writes.
type layerReader struct {
	*io.PipeReader
	done <-chan struct{}
}

func (r *layerReader) Close() error {
	err := r.PipeReader.Close()
	<-r.done
	return err
}

func (f *frozen) Release(kept bool) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	l := &f.s.layers
	if l.frozen != f {
		return nil
	}
	l.frozen = nil
	if kept {
		l.kept = f.files
		return nil
	}
	if f.before == nil {
		l.changed = nil
		return nil
	}
	for k := range f.before {
		l.changed[k] = struct{}{}
	}
	return nil
}

// Thaw is in state.Freezer.
func (s *Store) Thaw(ctx context.Context, names []string, open func(name string) (io.ReadCloser, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	if s.t.keys > 0 || s.layers.changed != nil || s.layers.frozen != nil {
		return errkind.New(errkind.Conflict, "thaw a state into the store in memory: it is not empty")
	}
	kept := make([]state.FrozenFile, 0, len(names))
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.thaw(name, open)
		if err != nil {
			s.t = tree{generation: s.t.generation + 1}
			return fmt.Errorf("thaw layer %s: %w", name, err)
		}
		kept = append(kept, state.FrozenFile{Name: name, Size: n})
	}
	s.layers.kept, s.layers.next = kept, s.layers.next+len(kept)
	if len(kept) > 0 {
		s.layers.changed = map[string]struct{}{}
	}
	return nil
}

// thaw reads one layer and returns its size.
func (s *Store) thaw(name string, open func(name string) (io.ReadCloser, error)) (int64, error) {
	src, err := open(name)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	var size counter
	r := bufio.NewReaderSize(io.TeeReader(src, &size), 256<<10)
	for {
		kind, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return int64(size), nil
		}
		if err != nil {
			return 0, err
		}
		if kind > layerEntry {
			return 0, errkind.New(errkind.Corrupt, "an entry of a kind not known here")
		}
		key, err := piece(r)
		if err != nil {
			return 0, err
		}
		if kind == layerGone {
			s.t.remove(string(key))
			continue
		}
		it := item{key: string(key)}
		if it.expires, err = binary.ReadVarint(r); err != nil {
			return 0, cut(err)
		}
		if it.value, err = piece(r); err != nil {
			return 0, err
		}
		s.t.put(it)
	}
}

// piece reads a length and as many bytes.
func piece(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, cut(err)
	}
	if n > maxPiece {
		return nil, errkind.New(errkind.Corrupt, "a length is impossible")
	}
	if n <= 64<<10 {
		b := make([]byte, n)
		_, err = io.ReadFull(r, b)
		return b, cut(err)
	}
	var b bytes.Buffer // grows with what is there, not with what is claimed
	if _, err = io.CopyN(&b, r, int64(n)); err != nil {
		return nil, cut(err)
	}
	return b.Bytes(), nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errkind.New(errkind.Corrupt, "the layer is cut short")
	}
	return err
}
