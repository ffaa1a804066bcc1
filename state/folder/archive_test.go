package folder_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/folder"
)

// BenchmarkRestore reads an archive of 256 MiB from the page cache, and beside
// it the same objects as plain bytes.
func BenchmarkRestore(b *testing.B) {
	const total = 256 << 20
	for _, c := range []struct {
		name    string
		record  int
		squeeze bool // half of the bytes are zero
	}{{"small", 1000, false}, {"large", 256 << 10, false}, {"large-zstd", 256 << 10, true}} {
		f, err := folder.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		a, err := state.OpenArchive(b.Context(), f, "p/s/0", "a", state.ArchiveConfig{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		value := make([]byte, c.record)
		for i := range int64(total / c.record) {
			for j := range value {
				if !c.squeeze || j%64 < 32 {
					value[j] = byte(rng.Uint32())
				}
			}
			if err := a.Append(b.Context(), state.Record{Position: i, Value: value}); err != nil {
				b.Fatal(err)
			}
		}
		if err := a.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(total)
			for b.Loop() {
				n := 0
				if _, err := a.Restore(b.Context(), func(r state.Record) error { n += len(r.Value); return nil }); err != nil || n != total/c.record*c.record {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(a.Stats().Bytes)/float64(total), "stored/raw")
		})
		b.Run(c.name+"-plain-read", func(b *testing.B) {
			b.SetBytes(total)
			buf := make([]byte, 1<<20)
			for b.Loop() {
				all, err := f.List(b.Context(), "p/s/0/data")
				if err != nil {
					b.Fatal(err)
				}
				for _, o := range all {
					r, err := f.Get(b.Context(), o.Name)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); err != nil {
						b.Fatal(err)
					}
					_ = r.Close()
				}
			}
		})
		_ = a.Close()
	}
}

func TestAnArchiveInAFolderIsRestored(t *testing.T) {
	f, err := folder.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for round := range int64(3) {
		a, err := state.OpenArchive(t.Context(), f, "p/s/0", fmt.Sprint("owner ", round), state.ArchiveConfig{SegmentBytes: 1 << 20}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		next, err := a.Restore(t.Context(), func(r state.Record) error {
			if r.Position != n || !bytes.Equal(r.Value, bytes.Repeat([]byte{byte(n)}, 40_000)) {
				t.Errorf("record %d is %d with %d bytes", n, r.Position, len(r.Value))
			}
			n++
			return nil
		})
		if err != nil || next != round*100 || n != next {
			t.Fatalf("round %d: %d records up to %d, %v", round, n, next, err)
		}
		for i := range int64(100) {
			at := round*100 + i
			if err := a.Append(t.Context(), state.Record{Position: at, Value: bytes.Repeat([]byte{byte(at)}, 40_000)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
