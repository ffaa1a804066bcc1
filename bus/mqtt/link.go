package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// link is one connection to a broker: packets go out by write, and come in, one
// at a time, to a handler. It ends once, for a reason.
type link struct {
	conn net.Conn
	// What the broker said when it accepted the connection.
	receiveMaximum int    // publications under way to the broker
	maxPacket      uint32 // bytes
	resumed        bool   // the broker had the session

	mu      sync.Mutex // of w
	w       *bufio.Writer
	timeout time.Duration

	ended chan struct{} // closed when nothing comes any more
	once  sync.Once
	err   error // why; valid when ended is closed
	wait  sync.WaitGroup
}

// connect connects to one of the servers. handle gets every packet that comes
// from then on, on one goroutine; its error ends the link.
func connect(ctx context.Context, s *settings, cp *packets.Connect, handle func(*link, *packets.ControlPacket) error) (*link, error) {
	var err error
	for _, host := range s.hosts {
		var l *link
		if l, err = connectTo(ctx, s, host, cp); err == nil {
			l.start(s.keepAlive, handle)
			return l, nil
		}
		if errkind.Is(err, errkind.Canceled) {
			break
		}
	}
	return nil, err
}

func connectTo(ctx context.Context, s *settings, host string, cp *packets.Connect) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	fail := func(err error) error {
		kind := endpoint.NetworkKind(err)
		if kind == errkind.Unknown {
			kind = errkind.Transient
		}
		if ctx.Err() == context.Canceled {
			kind, err = errkind.Canceled, ctx.Err()
		}
		return errkind.Errorf(kind, "connect to %s at %s: %w", s.where, host, err)
	}
	var conn net.Conn
	var err error
	if s.tls != nil {
		conn, err = (&tls.Dialer{Config: s.tls}).DialContext(ctx, "tcp", host)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return nil, fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	l := &link{conn: conn, w: bufio.NewWriterSize(conn, 64<<10), timeout: s.timeout, ended: make(chan struct{}), receiveMaximum: 65535}
	fatal := func(err error) (*link, error) {
		_ = conn.Close()
		return nil, err
	}
	if err := l.write(cp); err != nil {
		// A server that refuses our certificate says why and hangs up, perhaps before we write.
		if _, alert := packets.ReadPacket(conn); alert != nil && endpoint.NetworkKind(alert) == errkind.Config {
			err = alert
		}
		return fatal(fail(err))
	}
	p, err := packets.ReadPacket(conn)
	if err != nil {
		return fatal(fail(err))
	}
	ack, ok := p.Content.(*packets.Connack)
	if !ok {
		return fatal(errkind.Errorf(errkind.Config, "connect to %s at %s: the server answered with %s, expected CONNACK of MQTT 5", s.where, host, p.PacketType()))
	}
	if ack.ReasonCode >= 0x80 {
		return fatal(errkind.Errorf(kindOfReason(ack.ReasonCode), "connect to %s at %s: %s", s.where, host, reason(ack.ReasonCode, ack.Properties)))
	}
	l.resumed = ack.SessionPresent
	if q := ack.Properties; q != nil {
		if q.ReceiveMaximum != nil {
			l.receiveMaximum = int(*q.ReceiveMaximum)
		}
		if q.MaximumPacketSize != nil {
			l.maxPacket = *q.MaximumPacketSize
		}
		if q.ServerKeepAlive != nil {
			s.keepAlive = min(s.keepAlive, time.Duration(*q.ServerKeepAlive)*time.Second)
		}
		if q.MaximumQOS != nil && *q.MaximumQOS < 1 {
			return fatal(errkind.Errorf(errkind.Config, "connect to %s at %s: the server offers QoS 0 only, by which messages can get lost; QoS 1 is needed", s.where, host))
		}
	}
	if !stop() {
		return fatal(fail(ctx.Err()))
	}
	_ = conn.SetDeadline(time.Time{})
	return l, nil
}

// start reads packets, and asks the broker for a sign of life where it sends nothing.
func (l *link) start(keepAlive time.Duration, handle func(*link, *packets.ControlPacket) error) {
	l.wait.Go(func() {
		r := bufio.NewReaderSize(l.conn, 64<<10)
		for {
			// An answer to a ping comes within this, or the broker is gone.
			_ = l.conn.SetReadDeadline(time.Now().Add(keepAlive))
			p, err := packets.ReadPacket(r)
			if err != nil {
				l.end(errkind.Errorf(errkind.Transient, "the connection is lost: %w", err))
				return
			}
			switch c := p.Content.(type) {
			case *packets.Disconnect:
				l.end(errkind.Errorf(kindOfReason(c.ReasonCode), "the server ended the connection: %s", reason(c.ReasonCode, c.Properties)))
				return
			case *packets.Pingresp:
				continue
			}
			if err := handle(l, p); err != nil {
				l.end(err)
				return
			}
		}
	})
	l.wait.Go(func() {
		tick := time.NewTicker(keepAlive / 3)
		defer tick.Stop()
		for {
			select {
			case <-l.ended:
				return
			case <-tick.C:
				if err := l.write(&packets.Pingreq{}); err != nil {
					l.end(errkind.Errorf(errkind.Transient, "the connection is lost: %w", err))
					return
				}
			}
		}
	})
}

// write sends packets, in one go where they are small.
func (l *link) write(content ...packets.Packet) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.timeout))
	for _, c := range content {
		p := packets.ControlPacket{Content: c, FixedHeader: packets.FixedHeader{Type: typeOf(c), Flags: flagsOf(c)}}
		if _, err := p.WriteTo(l.w); err != nil {
			return err
		}
	}
	return l.w.Flush()
}

func typeOf(c packets.Packet) byte {
	switch c.(type) {
	case *packets.Connect:
		return packets.CONNECT
	case *packets.Publish:
		return packets.PUBLISH
	case *packets.Puback:
		return packets.PUBACK
	case *packets.Subscribe:
		return packets.SUBSCRIBE
	case *packets.Pingreq:
		return packets.PINGREQ
	default:
		return packets.DISCONNECT
	}
}

func flagsOf(c packets.Packet) byte {
	if _, ok := c.(*packets.Subscribe); ok {
		return 2
	}
	return 0
}

// end ends the link for a reason; the first one counts.
func (l *link) end(err error) {
	l.once.Do(func() {
		l.err = err
		_ = l.conn.Close()
		close(l.ended)
	})
}

// failed is the reason for which the link has ended; nil while it has not.
func (l *link) failed() error {
	select {
	case <-l.ended:
		return l.err
	default:
		return nil
	}
}

// close says goodbye. The connection is closed by the broker, when it has read
// all that was sent: closed from here, acknowledgements could be thrown away, or be overtaken
// by the next connection to the session. The broker may take grace for it.
func (l *link) close(err error, grace time.Duration) {
	if l.failed() == nil && l.write(&packets.Disconnect{Properties: &packets.Properties{}}) == nil {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-l.ended:
		case <-t.C:
		}
	}
	l.end(err)
	l.wait.Wait()
}

// reason names a reason code, and what the server says about it.
func reason(code byte, p *packets.Properties) string {
	text, ok := reasons[code]
	if !ok {
		text = "failure"
	}
	if p != nil && p.ReasonString != "" {
		text += ": " + p.ReasonString
	}
	return fmt.Sprintf("%s (reason 0x%02x)", text, code)
}

var reasons = map[byte]string{
	0x00: "normal end", 0x81: "malformed packet", 0x82: "protocol error", 0x84: "the server does not speak MQTT 5",
	0x85: "the client id is not allowed", 0x86: "user name or password is wrong", 0x87: "not authorized",
	0x88: "the server is unavailable", 0x89: "the server is busy", 0x8a: "banned", 0x8b: "the server is shutting down",
	0x8c: "bad authentication method", 0x8d: "keep alive timeout",
	0x8e: "another client has taken the session over: give each process a client_id of its own",
	0x8f: "the topic filter is not valid", 0x90: "the topic is not valid", 0x93: "more was sent than the receiver allows",
	0x95: "the packet is too large", 0x97: "a quota is exceeded", 0x99: "the payload is not of the format that it says",
	0x9a: "retained messages are not offered", 0x9b: "the QoS is not offered", 0x9c: "use another server", 0x9d: "the server has moved",
	0x9e: "shared subscriptions are not offered", 0x9f: "the connection rate is exceeded", 0xa2: "wildcards are not offered",
}

// kindOfReason sorts reason codes by what may be done about them.
func kindOfReason(code byte) errkind.Kind {
	switch code {
	case 0x89, 0x93, 0x97, 0x9f:
		return errkind.Throttled
	case 0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c, 0x8e, 0x8f, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0xa1, 0xa2:
		return errkind.Config
	}
	return errkind.Transient
}
