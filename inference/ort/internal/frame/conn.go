package frame

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"unsafe"

	"github.com/freshet-io/freshet/inference"
)

// Version is that of the frames; both sides must have the same.
const Version = 1

// Kind says what a frame is.
type Kind uint8

// The kinds of frames.
const (
	Hello Kind = iota + 1
	Load
	Ready
	Infer
	Result
	Failed
	Cancel
)

// String is the kind's name.
func (k Kind) String() string {
	names := [...]string{"?", "hello", "load", "ready", "infer", "result", "failed", "cancel"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

const (
	headerSize = 64
	magic      = 0x46524f31 // FRO1
	align      = 64
	// together is up to how many bytes a frame is copied into one piece to be written.
	together = 64 << 10
)

// Frame is one that was read. The body is valid until the next Read.
type Frame struct {
	Kind Kind
	Lane uint32
	Seq  uint64
	Body []byte
}

// Conn reads and writes frames. One goroutine may read beside one that writes.
type Conn struct {
	rw    io.ReadWriter
	limit int // of a body

	in     []byte // begins at a multiple of align
	filled int
	taken  int // length of the frame at the beginning of in, which the caller has done with

	out     []byte
	pending net.Buffers
	pieces  [][]byte
}

// NewConn takes bodies of up to limit bytes from rw.
func NewConn(rw io.ReadWriter, limit int) *Conn { return &Conn{rw: rw, limit: limit} }

// errPeer is a frame that does not keep to the format.
var errPeer = errors.New("the other side does not keep to the format of frames")

// Read returns the next frame. After an error that is a timeout the next Read goes on
// where this one ended. Storage grows as bytes come in, whatever the header claims.
func (c *Conn) Read() (f Frame, err error) {
	if c.taken > 0 {
		c.filled = copy(c.in, c.in[c.taken:c.filled])
		c.taken = 0
	}
	need := headerSize
	for known := false; ; {
		if c.filled >= need {
			if known {
				break
			}
			if f, need, err = c.header(); err != nil {
				return f, err
			}
			known = true
			continue
		}
		if c.filled == len(c.in) {
			c.grow()
		}
		n, err := c.rw.Read(c.in[c.filled:])
		c.filled += n
		if err != nil && c.filled < need {
			if errors.Is(err, io.EOF) && c.filled > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
	}
	f.Body = c.in[headerSize:need:need]
	c.taken = need
	return f, nil
}

// ReadRaw reads the n bytes that follow the last frame, which are none themselves.
func (c *Conn) ReadRaw(n int) ([]byte, error) {
	b := make([]byte, n)
	had := copy(b, c.in[c.taken:c.filled])
	c.taken += had
	_, err := io.ReadFull(c.rw, b[had:])
	return b, err
}

// WriteRaw sends bytes that are no frame.
func (c *Conn) WriteRaw(b []byte) error {
	_, err := c.rw.Write(b)
	return err
}

func (c *Conn) header() (f Frame, size int, err error) {
	h := c.in[:headerSize]
	length := binary.LittleEndian.Uint64(h[8:])
	f = Frame{Kind: Kind(h[4]), Lane: binary.LittleEndian.Uint32(h[16:]), Seq: binary.LittleEndian.Uint64(h[24:])}
	switch {
	case binary.LittleEndian.Uint32(h) != magic || f.Kind < Hello || f.Kind > Cancel:
		return f, 0, fmt.Errorf("%w: header % x", errPeer, h[:8])
	case length > uint64(c.limit):
		return f, 0, fmt.Errorf("%w: %v of %d bytes, at most %d are allowed", errPeer, f.Kind, length, c.limit)
	}
	return f, headerSize + int(length), nil
}

// grow makes twice the room.
func (c *Conn) grow() {
	in := aligned(max(2*len(c.in), 4<<10))
	copy(in, c.in[:c.filled])
	c.in = in
}

func aligned(size int) []byte {
	b := make([]byte, size+align-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (align - 1))
	return b[off : off+size : off+size]
}

// begin begins a frame in out.
func (c *Conn) begin(f Frame) {
	c.out = append(c.out[:0], make([]byte, headerSize)...)
	binary.LittleEndian.PutUint32(c.out, magic)
	c.out[4] = byte(f.Kind)
	binary.LittleEndian.PutUint32(c.out[16:], f.Lane)
	binary.LittleEndian.PutUint64(c.out[24:], f.Seq)
}

// Write sends a frame with the body as it is.
func (c *Conn) Write(f Frame) error {
	c.begin(f)
	binary.LittleEndian.PutUint64(c.out[8:], uint64(len(f.Body)))
	if len(f.Body) > together {
		c.pieces = append(c.pieces[:0], c.out, f.Body)
		c.pending = c.pieces
		return c.Flush()
	}
	c.out = append(c.out, f.Body...)
	c.pieces = append(c.pieces[:0], c.out)
	c.pending = c.pieces
	return c.Flush()
}

// WriteJSON sends a frame whose body is v as JSON.
func (c *Conn) WriteJSON(f Frame, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f.Body = body
	return c.Write(f)
}

// Flush goes on with a frame whose writing a timeout has interrupted.
func (c *Conn) Flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	if len(c.pending) == 1 { // one plain write
		n, err := c.rw.Write(c.pending[0])
		c.pending[0] = c.pending[0][n:]
		if err == nil {
			c.pending = nil
		}
		return err
	}
	_, err := c.pending.WriteTo(c.rw)
	return err
}

// Detach copies what is left of an interrupted frame, so that Flush no longer
// reads the tensors of the caller.
func (c *Conn) Detach() {
	if len(c.pending) > 0 {
		c.pending = net.Buffers{slices.Concat(c.pending...)}
	}
}

var zeros [align]byte

// WriteTensors sends a frame whose body is ts. Elements go out from where they
// lie, or are copied into one piece with the header where they are few.
func (c *Conn) WriteTensors(f Frame, ts []inference.Tensor) error {
	c.begin(f)
	c.out = binary.LittleEndian.AppendUint32(c.out, uint32(len(ts)))
	data := 0
	for i := range ts {
		t := &ts[i]
		c.out = append(c.out, byte(t.Type), byte(len(t.Shape)), 0, 0)
		for _, d := range t.Shape {
			c.out = binary.LittleEndian.AppendUint64(c.out, uint64(d))
		}
		n := dataSize(t)
		c.out = binary.LittleEndian.AppendUint64(c.out, uint64(n))
		data += n + pad(n)
	}
	c.out = append(c.out, zeros[:pad(len(c.out))]...)
	binary.LittleEndian.PutUint64(c.out[8:], uint64(len(c.out)-headerSize+data))
	if len(c.out)+data <= together {
		for i := range ts {
			c.out = appendData(c.out, &ts[i])
			c.out = append(c.out, zeros[:pad(len(c.out))]...)
		}
		c.pieces = append(c.pieces[:0], c.out)
		c.pending = c.pieces
		return c.Flush()
	}
	c.pieces = append(c.pieces[:0], c.out)
	for i := range ts {
		raw := Raw(&ts[i])
		if ts[i].Type == inference.String {
			raw = appendData(nil, &ts[i])
		}
		if len(raw) == 0 {
			continue
		}
		c.pieces = append(c.pieces, raw)
		if p := pad(len(raw)); p > 0 {
			c.pieces = append(c.pieces, zeros[:p])
		}
	}
	c.pending = c.pieces
	return c.Flush()
}

func pad(n int) int { return -n & (align - 1) }
