package rabbitmq

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	// maxIncoming bounds what a server can make us allocate for one frame.
	maxIncoming = 256 << 20
	// maxUnsent is how many bytes may wait to be written before writers wait.
	maxUnsent = 4 << 20
	// heartbeat is asked of the server, which is taken for dead after two and a half.
	heartbeat = 10 * time.Second
	// askedFrame is the frame size asked for; the server's limit wins where it is less.
	askedFrame = 16 << 20
)

// access is how to connect and as whom.
type access struct {
	host           string // host:port
	vhost          string
	user, password string
	external       bool
	tls            *tls.Config
	timeout        time.Duration
}

// conn is one connection. Its read loop never waits for anybody: what a server
// sends is bounded by credits, and answers are handed to calls that have room.
type conn struct {
	nc       net.Conn
	timeout  time.Duration
	frameMax int
	version  string // of the server
	tuned    chan [2]uint32

	done chan struct{} // closed when the connection has ended
	wg   sync.WaitGroup

	wmu     sync.Mutex
	room    *sync.Cond // of wmu: unsent has become less
	unsent  []byte
	spare   []byte
	hasMore chan struct{}

	mu     sync.Mutex
	err    error
	calls  map[uint32]func([]byte) // called by the read loop
	lastID uint32
	subs   [256]*subscription
	pubs   [256]*publisher
}

// dial connects and logs in.
func dial(ctx context.Context, a *access, name string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.host)
	if err != nil {
		return nil, networkError(err)
	}
	if a.tls != nil {
		cfg := a.tls.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(a.host)
		}
		t := tls.Client(nc, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, networkError(err)
		}
		nc = t
	}
	c := &conn{
		nc: nc, timeout: a.timeout, tuned: make(chan [2]uint32, 1), done: make(chan struct{}),
		hasMore: make(chan struct{}, 1), calls: map[uint32]func([]byte){},
	}
	c.room = sync.NewCond(&c.wmu)
	_ = nc.SetReadDeadline(time.Now().Add(a.timeout + time.Second))
	c.wg.Go(c.read)
	c.wg.Go(c.write)
	if err := c.login(ctx, a, name); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// networkError gives an error of dialling or of the connection its kind.
func networkError(err error) error {
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return errkind.With(k, err)
	}
	return errkind.With(errkind.Transient, err)
}

func (c *conn) login(ctx context.Context, a *access, name string) error {
	in, err := c.ask(ctx, cmdPeerProperties, func(b []byte) []byte {
		return appendStrings(b, []string{"product", "Freshet", "connection_name", name, "platform", "Go"})
	})
	if err != nil {
		return err
	}
	for n := in.uint32(); n > 0 && !in.bad; n-- {
		if k, v := in.string(), in.string(); k == "version" {
			c.version = v
		}
	}
	in, err = c.ask(ctx, cmdSaslHandshake, nil)
	if err != nil {
		return err
	}
	var offered []string
	for n := in.uint32(); n > 0 && !in.bad; n-- {
		offered = append(offered, in.string())
	}
	mechanism, secret := "PLAIN", "\x00"+a.user+"\x00"+a.password
	if a.external {
		mechanism, secret = "EXTERNAL", a.user
	}
	if !slices.Contains(offered, mechanism) {
		return errkind.Errorf(errkind.Config, "the server offers %q to log in, and not %s", offered, mechanism)
	}
	if _, err := c.ask(ctx, cmdSaslAuthenticate, func(b []byte) []byte {
		b = appendString(b, mechanism)
		b = binary.BigEndian.AppendUint32(b, uint32(len(secret)))
		return append(b, secret...)
	}); err != nil {
		return err
	}
	var tune [2]uint32
	select {
	case tune = <-c.tuned:
	case <-c.done:
		return c.ended()
	case <-ctx.Done():
		return contextError(ctx)
	}
	c.frameMax = smaller(int(tune[0]), askedFrame)
	beat := smaller(int(tune[1]), int(heartbeat/time.Second))
	if err := c.send(ctx, func(b []byte) []byte {
		b = appendHeader(b, cmdTune)
		b = binary.BigEndian.AppendUint32(b, uint32(c.frameMax))
		return binary.BigEndian.AppendUint32(b, uint32(beat))
	}); err != nil {
		return err
	}
	if _, err := c.ask(ctx, cmdOpen, func(b []byte) []byte { return appendString(b, a.vhost) }); err != nil {
		return err
	}
	c.wg.Go(func() { c.beat(time.Duration(beat) * time.Second) })
	return nil
}

// smaller is the smaller of two limits, of which 0 is none.
func smaller(server, ours int) int {
	if server == 0 {
		return ours
	}
	return min(server, ours)
}

// beat keeps the server from taking us for dead.
func (c *conn) beat(every time.Duration) {
	t := time.NewTicker(every / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_ = c.send(context.Background(), func(b []byte) []byte { return appendHeader(b, cmdHeartbeat) })
		case <-c.done:
			return
		}
	}
}

func appendHeader(b []byte, command uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, command)
	return binary.BigEndian.AppendUint16(b, 1)
}

// send queues one frame, which fill appends without its length. Frames of
// several senders leave in one write.
func (c *conn) send(ctx context.Context, fill func(b []byte) []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for len(c.unsent) > maxUnsent {
		if err := c.failure(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		c.room.Wait()
	}
	if err := c.failure(); err != nil {
		return err
	}
	c.put(fill)
	return nil
}

// sendNow is send that does not wait for room: for small frames, of the read loop
// too.
func (c *conn) sendNow(fill func(b []byte) []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	select {
	case <-c.done:
	default:
		c.put(fill)
	}
}

// put appends a frame to what is not sent; wmu is held.
func (c *conn) put(fill func(b []byte) []byte) {
	at := len(c.unsent)
	c.unsent = fill(append(c.unsent, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(c.unsent[at:], uint32(len(c.unsent)-at-4))
	select {
	case c.hasMore <- struct{}{}:
	default:
	}
}

func (c *conn) write() {
	for {
		select {
		case <-c.hasMore:
		case <-c.done:
			return
		}
		c.wmu.Lock()
		b := c.unsent
		c.unsent = c.spare[:0]
		c.room.Broadcast()
		c.wmu.Unlock()
		if len(b) > 0 {
			_ = c.nc.SetWriteDeadline(time.Now().Add(c.timeout))
			if _, err := c.nc.Write(b); err != nil {
				c.fail(networkError(err))
				return
			}
		}
		if cap(b) > 2*maxUnsent {
			b = nil
		}
		c.wmu.Lock()
		c.spare = b
		c.wmu.Unlock()
	}
}

// ask sends a request and waits for its response; in holds what follows the code.
func (c *conn) ask(ctx context.Context, command uint16, fill func(b []byte) []byte) (*input, error) {
	wait, err := c.request(ctx, command, fill)
	if err != nil {
		return nil, err
	}
	return wait(ctx)
}

// request sends a request; wait returns its response.
func (c *conn) request(ctx context.Context, command uint16, fill func(b []byte) []byte) (wait func(context.Context) (*input, error), err error) {
	return c.requestThen(ctx, command, fill, nil)
}

// requestThen is request; then is called, where not nil, when the response comes.
func (c *conn) requestThen(ctx context.Context, command uint16, fill func(b []byte) []byte, then func()) (wait func(context.Context) (*input, error), err error) {
	ch := make(chan []byte, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.ended()
	}
	c.lastID++
	id := c.lastID
	c.calls[id] = func(b []byte) {
		if then != nil {
			then()
		}
		ch <- b
	}
	c.mu.Unlock()
	err = c.send(ctx, func(b []byte) []byte {
		b = appendHeader(b, command)
		b = binary.BigEndian.AppendUint32(b, id)
		if fill != nil {
			b = fill(b)
		}
		return b
	})
	if err != nil {
		c.mu.Lock()
		delete(c.calls, id)
		c.mu.Unlock()
		return nil, err
	}
	return func(ctx context.Context) (*input, error) {
		t := time.NewTimer(c.timeout)
		defer t.Stop()
		select {
		case b := <-ch:
			return readAnswer(command, b)
		case <-c.done:
			select {
			case b := <-ch: // it came before the end
				return readAnswer(command, b)
			default:
				return nil, c.ended()
			}
		case <-ctx.Done():
			return nil, contextError(ctx)
		case <-t.C:
			return nil, errkind.Errorf(errkind.Transient, "the server did not answer within %v", c.timeout)
		}
	}, nil
}

func readAnswer(command uint16, b []byte) (*input, error) {
	in := &input{b: b}
	if command != cmdMetadata { // it has none
		if err := codeError(in.uint16()); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// contextError is why a call gave up.
func contextError(ctx context.Context) error { return context.Cause(ctx) }

func (c *conn) read() {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	for {
		if err := c.readFrame(r); err != nil {
			c.fail(err)
			return
		}
		_ = c.nc.SetReadDeadline(time.Now().Add(heartbeat * 5 / 2))
	}
}

func (c *conn) readFrame(r *bufio.Reader) error {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return networkError(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	command := binary.BigEndian.Uint16(head[4:])
	if size < 4 || size > maxIncoming {
		return errkind.New(errkind.Config, "the server does not speak the stream protocol of RabbitMQ; its port is 5552, or 5551 with TLS, unless set otherwise")
	}
	b := make([]byte, size-4)
	if _, err := io.ReadFull(r, b); err != nil {
		return networkError(err)
	}
	in := &input{b: b}
	switch command {
	case cmdDeliver:
		c.deliver(in)
	case cmdPublishConfirm:
		c.confirm(in)
	case cmdPublishError:
		c.refuse(in)
	case cmdMetadataUpdate:
		in.uint16()
		c.streamGone(in.string())
	case cmdTune:
		select {
		case c.tuned <- [2]uint32{in.uint32(), in.uint32()}:
		default:
		}
	case cmdClose:
		in.uint32()
		code, reason := in.uint16(), in.string()
		if err := codeError(code); err != nil && code != codeInternal {
			return errkind.Errorf(errkind.Of(err), "the server closed the connection: %s", reason)
		}
		return errkind.Errorf(errkind.Transient, "the server closed the connection: %s", reason)
	case cmdHeartbeat, cmdCredit | answer:
	default:
		if command&answer == 0 {
			break
		}
		id := in.uint32()
		c.mu.Lock()
		answered := c.calls[id]
		delete(c.calls, id)
		c.mu.Unlock()
		if answered != nil {
			answered(in.b)
		}
	}
	if in.bad {
		return errkind.Errorf(errkind.Transient, "the server sent a frame %#x that is cut short", command)
	}
	return nil
}

// fail ends the connection; the first error counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	subs, pubs := c.subs, c.pubs
	c.mu.Unlock()
	close(c.done)
	_ = c.nc.Close()
	c.wmu.Lock()
	c.room.Broadcast()
	c.wmu.Unlock()
	lost := c.ended()
	for _, s := range subs {
		if s != nil {
			s.end(lost)
		}
	}
	for _, p := range pubs {
		if p != nil {
			p.end(lost)
		}
	}
}

// errLost says that a connection ended that had been there.
var errLost = errors.New("connection lost")

var errHungUp = errors.New("the connection was closed here")

// close ends the connection and waits for its goroutines.
func (c *conn) close() {
	c.fail(errkind.With(errkind.Transient, errHungUp))
	c.wg.Wait()
}

func (c *conn) failure() error {
	select {
	case <-c.done:
		return c.ended()
	default:
		return nil
	}
}

// ended is why the connection is no more.
func (c *conn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errkind.Errorf(errkind.Of(c.err), "%w: %w", errLost, c.err)
}

// streamGone ends what works on a stream that was deleted or moved.
func (c *conn) streamGone(stream string) {
	err := errkind.Errorf(errkind.Transient, "stream %q has gone or moved", stream)
	var pubs []*publisher
	c.mu.Lock()
	for i, s := range c.subs {
		if s != nil && s.stream == stream {
			c.subs[i] = nil
			s.end(err)
		}
	}
	for i, p := range c.pubs {
		if p != nil && p.stream == stream {
			c.pubs[i] = nil
			pubs = append(pubs, p)
		}
	}
	c.mu.Unlock()
	for _, p := range pubs {
		p.end(err)
	}
}
