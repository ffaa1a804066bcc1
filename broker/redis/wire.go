package redis

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/errkind"
)

const (
	// maxBulk is the longest string that Redis holds, in bytes.
	maxBulk = 512 << 20
	// growStep bounds what a length that is a lie makes us allocate.
	growStep = 1 << 20
)

// wire is a connection on which one reader waits for records. go-redis connects
// it, with TLS and credentials; the answers are read here, because XREAD's are
// the hot path: records go into one buffer, and a wait ends with its context.
type wire struct {
	d      *Driver
	client *redis.Client
	conn   *redis.Conn
	nc     net.Conn
	in     *bufio.Reader

	mu     sync.Mutex
	dialed net.Conn // go-redis connects on a goroutine of its own
	closed bool
}

// dial connects. Its errors are without a kind.
func (d *Driver) dial(ctx context.Context) (*wire, error) {
	w := &wire{d: d}
	o := d.options
	dialer := o.NewDialer()
	o.PoolSize = 1
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dialer(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed {
			_ = nc.Close()
			return nil, net.ErrClosed
		}
		w.dialed = nc
		return nc, nil
	}
	w.client = redis.NewClient(&o)
	w.conn = w.client.Conn()
	if err := w.conn.Ping(ctx).Err(); err != nil {
		w.shut()
		return nil, err
	}
	w.mu.Lock()
	w.nc = w.dialed
	w.mu.Unlock()
	w.in = bufio.NewReaderSize(w.nc, 64<<10)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		w.shut()
		return nil, d.errClosed()
	}
	d.wires[w] = struct{}{}
	return w, nil
}

// close ends the connection and whoever reads from it.
func (w *wire) close() {
	w.shut()
	w.d.mu.Lock()
	delete(w.d.wires, w)
	w.d.mu.Unlock()
}

func (w *wire) shut() {
	w.mu.Lock()
	nc, first := w.dialed, !w.closed
	w.closed = true
	w.mu.Unlock()
	if !first {
		return
	}
	if nc != nil {
		_ = nc.Close() // first, so that go-redis does not keep it
	}
	_ = w.conn.Close()
	_ = w.client.Close()
}

// appendCommand writes a command as Redis reads it.
func appendCommand(out []byte, words ...string) []byte {
	out = append(out, '*')
	out = strconv.AppendInt(out, int64(len(words)), 10)
	out = append(out, '\r', '\n')
	for _, w := range words {
		out = append(out, '$')
		out = strconv.AppendInt(out, int64(len(w)), 10)
		out = append(out, '\r', '\n')
		out = append(out, w...)
		out = append(out, '\r', '\n')
	}
	return out
}

var errReply = errors.New("the server's answer is none that was expected")

// line reads one line: its first byte, and the number behind it.
func line(in *bufio.Reader) (kind byte, n int64, err error) {
	b, err := in.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, 0, err
	}
	if len(b) >= 1 && b[0] == '-' {
		return 0, 0, replyError(trimLine(b[1:]))
	}
	if err != nil || len(b) < 4 || b[len(b)-2] != '\r' {
		return 0, 0, errReply
	}
	digits := b[1 : len(b)-2]
	negative := digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	v, ok := micros(digits)
	if !ok {
		return 0, 0, errReply
	}
	if negative {
		v = -v
	}
	return b[0], v, nil
}

func trimLine(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return string(b)
}

// array reads the head of an array and returns its length; -1 for none.
func array(in *bufio.Reader) (int, error) {
	kind, n, err := line(in)
	if err == nil && (kind != '*' || n < -1 || n > 1<<31) {
		err = errReply
	}
	return int(n), err
}

// bulk appends a string to buf.
func bulk(in *bufio.Reader, buf []byte) ([]byte, error) {
	kind, n, err := line(in)
	if err != nil {
		return buf, err
	}
	if kind != '$' || n < 0 || n > maxBulk {
		return buf, errReply
	}
	for left := int(n); left > 0; {
		step := min(left, growStep)
		at := len(buf)
		if cap(buf)-at < step {
			buf = append(buf, make([]byte, step)...)
		}
		buf = buf[:at+step]
		if _, err := io.ReadFull(in, buf[at:]); err != nil {
			return buf, err
		}
		left -= step
	}
	cr, err := in.ReadByte()
	if err == nil {
		var lf byte
		if lf, err = in.ReadByte(); err == nil && (cr != '\r' || lf != '\n') {
			err = errReply
		}
	}
	return buf, err
}

// await waits for the first byte of an answer, until ctx ends or the deadline
// passes. Where neither an answer nor a failure came, the connection can go on
// being waited on.
func (w *wire) await(ctx context.Context, deadline time.Time) error {
	if err := w.nc.SetReadDeadline(deadline); err != nil {
		return err
	}
	interrupted := context.AfterFunc(ctx, func() { _ = w.nc.SetReadDeadline(time.Unix(1, 0)) })
	_, err := w.in.Peek(1)
	if !interrupted() && err == nil {
		// It may set its deadline only now: the rest of the answer gets a new connection's time.
		return errkind.With(errkind.Canceled, context.Canceled)
	}
	return err
}
