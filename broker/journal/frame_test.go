package journal

import (
	"bytes"
	"testing"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// sample is a frame of records, positions and a trim at log offset 64.
func sample() []byte {
	t := newTopic(1, broker.TopicConfig{Name: "t", Partitions: 3})
	o := &op{buf: make([]byte, frameHeader)}
	o.encode(t, broker.AnyPartition, []event.Record{
		{ID: []byte("id"), Key: []byte("key"), Headers: event.Headers(nil).AppendString("a", "b"), Value: bytes.Repeat([]byte("v"), 200)},
		{Value: []byte{0}}, {Key: []byte("k")},
		{Key: []byte("key"), Headers: event.Headers(nil).AppendString("a", "b")}, // the headers repeat
	})
	o.addMoves(t, "group", []move{{0, 1}, {2, 300}})
	o.addBlock(trimBlock(t.parts[1], 7), nil)
	o.finish(segmentHeader, 10)
	return o.buf
}

// memFile is a File on a byte slice.
type memFile struct {
	File
	r *bytes.Reader
}

func (f memFile) ReadAt(b []byte, off int64) (int, error) { return f.r.ReadAt(b, off) }

// FuzzFrames feeds whatever follows a segment's header to the scanner and the
// decoders behind it: no input may crash them, and what they accept adds up.
func FuzzFrames(f *testing.F) {
	f.Add(sample())
	f.Add(append(sample(), make([]byte, 100)...))
	f.Add(sample()[:50])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(make([]byte, segmentHeader), b...)
		sc := newScanner(memFile{r: bytes.NewReader(b)}, 0, int64(len(b)))
		for {
			at, h, body, err := sc.next()
			if err != nil {
				if _, err := sc.provenDurable(at); err != nil {
					t.Fatal(err)
				}
				return
			}
			if body == nil {
				return
			}
			_ = walkFrame(h, body, func(_ int, b blockHead, data []byte) error {
				switch b.kind {
				case kindRecords:
					recs, err := appendRecords(nil, &b, data, 0)
					if err == nil && b.base >= 0 && len(recs) != b.count {
						t.Fatalf("%d records of %d", len(recs), b.count)
					}
				case kindPositions:
					decodeMoves(&b, data)
				}
				return nil
			})
		}
	})
}

// FuzzBlocks does the same without the checksums' protection.
func FuzzBlocks(f *testing.F) {
	block := sample()[frameHeader:]
	h, data, err := parseBlock(block, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(h.count), data)
	f.Add(uint16(2), block[blockHeader:])
	f.Add(uint16(1), []byte{0, 0, 0, 0})
	f.Add(uint16(2), []byte{0, 0, 3, 1, 'a', 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, count uint16, data []byte) {
		h := blockHead{count: int(count)}
		recs, err := appendRecords(nil, &h, data, 0)
		if err == nil && len(recs) != int(count) {
			t.Fatalf("%d records of %d", len(recs), count)
		}
		if _, moves, ok := decodeMoves(&h, data); ok && len(moves) != int(count) {
			t.Fatal("moves do not add up")
		}
		x, err := decodeIndex(data, 0, 1<<20)
		if err == nil && len(encodeIndex(x, 0, 1<<20)) > len(data) {
			t.Fatal("the index grew")
		}
	})
}

func TestARunMovedForwardReplacesWhatItCovers(t *testing.T) {
	a, b := &segment{base: 1}, &segment{base: 2}
	p := &partition{}
	p.place(run{first: 0, end: 100, bytes: 1000, seg: a})
	p.place(run{first: 100, end: 200, bytes: 1000, seg: b})
	p.place(run{first: 40, end: 60, bytes: 200, seg: b})
	p.place(run{first: 60, end: 100, bytes: 400, seg: b})
	want := []run{{first: 0, end: 40, bytes: 400, seg: a}, {first: 40, end: 200, bytes: 1600, seg: b}}
	if len(p.runs) != len(want) || p.runs[0] != want[0] || p.runs[1] != want[1] {
		t.Fatalf("got %+v", p.runs)
	}
	p.trim(150)
	if len(p.runs) != 1 || p.runs[0].live(150) >= p.runs[0].bytes {
		t.Fatalf("after trim: %+v", p.runs)
	}
}
