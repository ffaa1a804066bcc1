package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/freshet-io/freshet/feature"
)

const (
	restoreRows  = 60       // rows a key: the handbook's customers have about 58 in 30 days
	restoreChunk = 64 << 10 // bytes of one AppendSnapshot
)

// restore measures how long state takes from disk to memory against reading the same bytes.
func (c *comparison) restore(ctx context.Context) error {
	files, bytes, keys, err := c.stateFiles(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%.2f GB of state, %s keys in %d partitions", float64(bytes)/1e9, number(float64(keys)), len(files))
	g := &group{ID: "i", Title: "Restore: " + name + ", all partitions at the same time, from a file each that is not in the page cache"}
	sides := []side{
		{Name: "restore", What: "read the partition's snapshot chunks, each under a CRC-32C, and apply them to empty windows, ready for the next event",
			run: func(ctx context.Context, _ string) (sample, error) {
				return readState(ctx, files, keys, c.profile, restorePartition)
			}},
		{Name: "read", What: "read the same files to the end, 1 MiB a call",
			run: func(ctx context.Context, _ string) (sample, error) {
				return readState(ctx, files, keys, "", readPartition)
			}},
	}
	if err := c.inTurn(ctx, g, sides...); err != nil {
		return err
	}
	for i := range g.Sides {
		s := &g.Sides[i]
		g.Rows = append(g.Rows,
			row{Name: s.Name, Unit: "s", Value: s.spread(func(x sample) float64 { return x.Wall.Seconds() })},
			row{Name: s.Name + ": CPU", Unit: "s", Value: s.spread(func(x sample) float64 { return x.CPU.Seconds() })})
	}
	var v []float64
	for i := range g.Sides[0].Samples {
		v = append(v, g.Sides[0].Samples[i].Wall.Seconds()/g.Sides[1].Samples[i].Wall.Seconds())
	}
	g.Rows = append(g.Rows, row{Name: "time of restore ÷ time of read", Unit: "×", Value: spreadOf(v), Target: 3, AtMost: true})
	c.add(g)
	return nil
}

// stateFiles writes the snapshot of one partition's windows, as often as there are partitions.
func (c *comparison) stateFiles(ctx context.Context) (files []string, bytes int64, keys int, err error) {
	s, err := newFreshetSliding(ctx, nil, "")
	if err != nil {
		return nil, 0, 0, err
	}
	f := s.(*freshetSliding)
	// A key's rows come one after the other, which fills the windows faster and
	// leaves the same state.
	rng := uint64(1)
	dir := filepath.Join(c.dir, "state")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, 0, 0, err
	}
	first := filepath.Join(dir, "0")
	out, err := os.Create(first)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := bufio.NewWriterSize(out, 1<<20)
	want := c.stateBytes / partitions
	b := &f.batch
	b.N = restoreRows
	var chunk []byte
	for bytes < want {
		// Part by part, so that the whole state is never in memory beside its files.
		for range 10_000 {
			name := fmt.Sprintf("customer-%08d", keys)
			keys++
			for i := range restoreRows {
				rng = rng*6364136223846793005 + 1442695040888963407
				b.Keys[i] = name
				b.Times[i] = slidingStart + int64(i)*int64(12*time.Hour) + int64(rng>>32)*8 // up to 34 s on
				b.Fields[0].Floats[i] = float64(1+rng>>44%20_000) / 100
			}
			f.delta = f.windows.Update(b, f.out, f.delta[:0])
		}
		f.windows.BeginSnapshot()
		for done := false; !done; {
			chunk, done = f.windows.AppendSnapshot(chunk[:0], restoreChunk)
			var head [8]byte
			binary.LittleEndian.PutUint32(head[:], uint32(len(chunk)))
			binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(chunk, castagnoli))
			if _, err := w.Write(head[:]); err != nil {
				return nil, 0, 0, err
			}
			if _, err := w.Write(chunk); err != nil {
				return nil, 0, 0, err
			}
			bytes += int64(len(head) + len(chunk))
		}
		if s, err = newFreshetSliding(ctx, nil, ""); err != nil {
			return nil, 0, 0, err
		}
		f.windows = s.(*freshetSliding).windows
	}
	if err := w.Flush(); err != nil {
		return nil, 0, 0, err
	}
	files = []string{first}
	for p := 1; p < partitions; p++ {
		name := filepath.Join(dir, fmt.Sprint(p))
		if err := copyFile(name, first); err != nil {
			return nil, 0, 0, err
		}
		files = append(files, name)
	}
	return files, bytes * partitions, keys * partitions, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// readState lets one goroutine a file do the work, after the files have left the page cache.
func readState(ctx context.Context, files []string, keys int, profile string, work func(context.Context, string) (any, error)) (out sample, err error) {
	for _, f := range files {
		if err := evict(f); err != nil {
			return sample{}, fmt.Errorf("take %s out of the page cache: %w", f, err)
		}
	}
	stop, err := profileTo(profile)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	states := make([]any, len(files))
	var g errgroup.Group
	m := startMeter()
	for i, f := range files {
		g.Go(func() (err error) {
			states[i], err = work(ctx, f)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return sample{}, err
	}
	out = m.stop(keys)
	runtime.KeepAlive(states)
	return out, nil
}

// evict writes a file to the disk and drops it from the page cache; it fails
// where some of it stays.
func evict(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(mapped) }()
	resident := make([]byte, (len(mapped)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(mapped))), uintptr(len(mapped)), uintptr(unsafe.Pointer(unsafe.SliceData(resident)))); errno != 0 {
		return errno
	}
	stay := 0
	for _, r := range resident {
		stay += int(r & 1)
	}
	if stay > len(resident)/100 {
		return fmt.Errorf("%d of %d pages stay", stay, len(resident))
	}
	return nil
}

func readPartition(_ context.Context, name string) (any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		if _, err := f.Read(buf); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
}

func restorePartition(ctx context.Context, name string) (any, error) {
	s, err := newFreshetSliding(ctx, nil, "")
	if err != nil {
		return nil, err
	}
	var state feature.State = s.(*freshetSliding).windows
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var head [8]byte
	var chunk []byte
	for ctx.Err() == nil {
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return state, nil
		} else if err != nil {
			return nil, err
		}
		n := int(binary.LittleEndian.Uint32(head[:]))
		if cap(chunk) < n {
			chunk = make([]byte, n)
		}
		if _, err := io.ReadFull(r, chunk[:n]); err != nil {
			return nil, err
		}
		if crc32.Checksum(chunk[:n], castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return nil, fmt.Errorf("%s: a chunk is damaged", name)
		}
		if err := state.ApplySnapshot(chunk[:n]); err != nil {
			return nil, err
		}
	}
	return nil, ctx.Err()
}
