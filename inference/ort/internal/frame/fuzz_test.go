package frame

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

// pieces gives its bytes n at a time.
type pieces struct {
	bytes.Buffer
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.Buffer.Read(b[:min(len(b), p.n)]) }

func examples() []inference.Tensor {
	many := make([]float32, 20_000)
	for i := range many {
		many[i] = float32(i)
	}
	return []inference.Tensor{
		{Type: inference.Float32, Shape: []int{2, 2}, F32: []float32{1, float32(math.Inf(1)), -0.5, 3e38}},
		{Type: inference.Float32, Shape: []int{200, 100}, F32: many},
		{Type: inference.Float64, Shape: []int{1}, F64: []float64{math.Pi}},
		{Type: inference.Int64, Shape: []int{3}, I64: []int64{1, -1, math.MaxInt64}},
		{Type: inference.Int32, Shape: []int{1, 1, 1}, I32: []int32{-7}},
		{Type: inference.Bool, Shape: []int{5}, Bool: []bool{true, false, true, true, false}},
		{Type: inference.String, Shape: []int{2, 2}, Str: []string{"", "ä", "long enough to be seen", "\x00"}},
		{Type: inference.Float32, Shape: []int{0, 7}},
	}
}

func TestTensorsTravelInAnyPieces(t *testing.T) {
	all := examples()
	for _, ts := range [][]inference.Tensor{all, all[:1], all[2:], nil, slices.Repeat(all[6:7], 500)} {
		for _, n := range []int{1 << 20, 1000, 63} {
			p := &pieces{n: n}
			c := NewConn(p, 1<<20)
			for seq := range uint64(3) {
				if err := c.WriteTensors(Frame{Kind: Infer, Lane: 2, Seq: seq}, ts); err != nil {
					t.Fatal(err)
				}
			}
			var views []View
			for seq := range uint64(3) {
				f, err := c.Read()
				if err != nil || f.Kind != Infer || f.Lane != 2 || f.Seq != seq {
					t.Fatalf("%+v %v", f, err)
				}
				if views, err = Tensors(f.Body, views); err != nil {
					t.Fatal(err)
				}
				got := make([]inference.Tensor, len(views))
				for i := range views {
					if err := views[i].CopyTo(&got[i]); err != nil {
						t.Fatal(err)
					}
				}
				same := func(a, b inference.Tensor) bool {
					return a.Type == b.Type && slices.Equal(a.Shape, b.Shape) && bytes.Equal(appendData(nil, &a), appendData(nil, &b))
				}
				if !slices.EqualFunc(ts, got, same) {
					t.Fatalf("%v came as %v", ts, got)
				}
			}
			if _, err := c.Read(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
	}
}

func TestRawBytesFollowAFrame(t *testing.T) {
	p := &pieces{n: 1 << 20}
	c := NewConn(p, 1<<20)
	raw := bytes.Repeat([]byte("raw"), 5000)
	if err := c.WriteJSON(Frame{Kind: Load}, LoadBody{Size: len(raw)}); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteRaw(raw); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteJSON(Frame{Kind: Ready}, struct{}{}); err != nil {
		t.Fatal(err)
	}
	f, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	var l LoadBody
	if err := f.JSON(&l); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadRaw(l.Size); err != nil || !bytes.Equal(got, raw) {
		t.Error(err)
	}
	if f, err := c.Read(); err != nil || f.Kind != Ready {
		t.Error(f.Kind, err)
	}
}

func TestAFrameOfAnySizeClaimedCostsNothing(t *testing.T) {
	p := &pieces{n: 1 << 20}
	c := NewConn(p, math.MaxInt32)
	c.begin(Frame{Kind: Result})
	c.out[11] = 0x7f // 2 GiB
	p.Write(c.out)
	if _, err := c.Read(); !errors.Is(err, io.ErrUnexpectedEOF) || len(c.in) > 1<<20 {
		t.Errorf("%v, %d bytes of storage", err, len(c.in))
	}
	p.Reset()
	c = NewConn(p, 1000)
	p.Write(c.out)
	_ = c.Write(Frame{Kind: Result, Body: make([]byte, 1001)})
	if _, err := c.Read(); err == nil {
		t.Error("a body above the limit was read")
	}
}

func FuzzFrames(f *testing.F) {
	for _, ts := range [][]inference.Tensor{examples(), examples()[:1], examples()[6:]} {
		p := &pieces{}
		_ = NewConn(p, 1<<20).WriteTensors(Frame{Kind: Result, Seq: 1}, ts)
		f.Add(p.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &pieces{n: 100}
		p.Write(data)
		c := NewConn(p, 1<<16)
		for {
			f, err := c.Read()
			if err != nil {
				return
			}
			views, err := Tensors(f.Body, nil)
			if err != nil {
				_ = f.Err()
				continue
			}
			// What is read can be written, and is read the same.
			ts := make([]inference.Tensor, len(views))
			for i := range views {
				if views[i].CopyTo(&ts[i]) != nil {
					return
				}
			}
			q := &pieces{n: 1 << 20}
			d := NewConn(q, math.MaxInt32)
			if err := d.WriteTensors(f, ts); err != nil {
				t.Fatal(err)
			}
			again, err := d.Read()
			if err != nil {
				t.Fatal(err)
			}
			others, err := Tensors(again.Body, nil)
			if err != nil || len(others) != len(views) {
				t.Fatal(err)
			}
			for i := range views {
				if !bytes.Equal(views[i].Data, others[i].Data) || !slices.Equal(views[i].Shape, others[i].Shape) {
					t.Fatalf("%+v and %+v", views[i], others[i])
				}
			}
		}
	})
}
