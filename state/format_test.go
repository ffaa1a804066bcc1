package state

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/freshet-io/freshet/errkind"
)

func exampleManifest() []byte {
	view := archiveView{next: 90, from: 40, cycle: -1}
	segments := []segment{{id: objectID{2, 1}, size: 100, first: 30, last: 44, records: 9, raw: 300}, {id: objectID{3, 7}, size: 50, first: 46, last: 89, records: 44, raw: 80}}
	return encodeManifest(kindArchive, &manifest{number: 9, epoch: 3, owner: "host", body: encodeArchive(view, segments, time.UnixMilli(5))})
}

func exampleSegment() []byte {
	b := appendSegmentHeader(nil, objectID{1, 1})
	var raw []byte
	at := int64(0)
	for i := range int64(5) {
		raw = appendRecord(raw, &Record{Position: 10 + i, CycleBegin: i == 1, CycleEnd: i == 3, Value: bytes.Repeat([]byte("value"), int(i)*10)}, at)
		at = 10 + i
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	plain, packed := packer{}, packer{enc: enc}
	return append(append(b, plain.pack(raw)...), packed.pack(raw)...)
}

// FuzzManifest: what decodes is encoded to the same bytes, and nothing panics.
func FuzzManifest(f *testing.F) {
	f.Add(exampleManifest())
	f.Add(encodeManifest(kindSnapshots, &manifest{number: 9, epoch: 9, body: encodeSnapshot([]byte("mark"), []snapshotFile{{name: "a", id: objectID{1, 2}, size: 3, sum: 4}})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []byte{kindArchive, kindSnapshots} {
			if m, err := decodeManifest(kind, 9, b); err == nil {
				if again, err := decodeManifest(kind, 9, encodeManifest(kind, m)); err != nil || !cmp.Equal(again, m, cmp.AllowUnexported(manifest{})) {
					t.Errorf("%+v becomes %+v, %v", m, again, err)
				}
				b = m.body
			}
		}
		// Bodies, too, as if their checksum were right.
		if v, segments, at, err := decodeArchive(b); err == nil {
			v2, s2, _, err := decodeArchive(encodeArchive(v, segments, at))
			if err != nil || v2 != v || len(s2) != len(segments) {
				t.Errorf("%+v becomes %+v, %v", v, v2, err)
			}
		}
		if mark, files, err := decodeSnapshot(b); err == nil && len(b) > 0 {
			m2, f2, err := decodeSnapshot(encodeSnapshot(mark, files))
			if err != nil || !bytes.Equal(mark, m2) || len(files) != len(f2) {
				t.Errorf("%q becomes %q, %v", mark, m2, err)
			}
		}
	})
}

// FuzzSegment: a segment of any bytes ends or is corrupt, and nothing panics or
// takes more memory than the bytes claim.
func FuzzSegment(f *testing.F) {
	f.Add(exampleSegment())
	f.Fuzz(func(t *testing.T, b []byte) {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		s := &segmentReader{r: bytes.NewReader(b), size: int64(len(b)), id: objectID{1, 1}, dec: dec}
		var buf []byte
		for {
			buf, err = s.next(buf[:0])
			if err != nil {
				break
			}
			last := int64(-1)
			_ = eachRecord(buf, func(r *Record) error {
				if r.Position <= last {
					t.Errorf("position %d behind %d", r.Position, last)
				}
				last = r.Position
				return nil
			})
		}
		if err != io.EOF && !errkind.Is(err, errkind.Corrupt) && !errkind.Is(err, errkind.Unsupported) { //nolint:errorlint // the end is io.EOF itself
			t.Errorf("ends with %v", err)
		}
	})
}

func TestASegmentGivesItsRecords(t *testing.T) {
	b := exampleSegment()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	s := &segmentReader{r: bytes.NewReader(b), size: int64(len(b)), id: objectID{1, 1}, dec: dec}
	for range 2 {
		block, err := s.next(nil)
		if err != nil {
			t.Fatal(err)
		}
		var at []int64
		if err := eachRecord(block, func(r *Record) error {
			at = append(at, r.Position)
			if r.CycleBegin != (r.Position == 11) || r.CycleEnd != (r.Position == 13) || len(r.Value) != int(r.Position-10)*50 {
				t.Errorf("record %+v", r)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int64{10, 11, 12, 13, 14}, at); d != "" {
			t.Error(d)
		}
	}
	if _, err := s.next(nil); err != io.EOF { //nolint:errorlint // the end is io.EOF itself
		t.Errorf("behind the last: %v", err)
	}
}
