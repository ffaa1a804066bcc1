package pulsar

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
)

// The client library opens exclusive producers, and none that fences the one
// which is there (access mode ExclusiveWithFencing of the protocol). So fence
// speaks the four commands that this takes itself: connect, producer, close.
// The broker then has a new epoch for the topic, and refuses the older
// producer for ever, even when it connects anew.

// Field numbers and types of the binary protocol's BaseCommand.
const (
	cmdConnect         = 2
	cmdConnected       = 3
	cmdProducer        = 5
	cmdError           = 14
	cmdCloseProducer   = 15
	cmdProducerSuccess = 17
	cmdPing            = 18
	cmdPong            = 19
	cmdAuthChallenge   = 36

	protocolVersion      = 20
	exclusiveWithFencing = 3
	largestCommand       = 1 << 20
)

// exclusive opens the only producer of a topic, fencing others.
func (d *Driver) exclusive(ctx context.Context, physical string, o pulsar.ProducerOptions) (pulsar.Producer, error) {
	ctx, stop := d.scope(ctx)
	defer stop()
	o.Topic, o.ProducerAccessMode = d.url(physical), pulsar.ProducerAccessModeExclusive
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		producer, err := await(ctx, d, func() (pulsar.Producer, error) { return d.client.CreateProducer(o) }, closeProducer)
		if err == nil || !occupied(err) {
			return producer, err
		}
		if err := d.fence(ctx, physical); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// occupied says whether a producer was refused because of others on the topic.
func occupied(err error) bool {
	s := err.Error()
	return strings.Contains(s, "xclusive") || strings.Contains(s, "ProducerFenced") || strings.Contains(s, "ProducerBusy")
}

// fence makes every producer that is on the topic now one of the past.
func (d *Driver) fence(ctx context.Context, physical string) error {
	c, err := d.dialOwner(ctx, physical)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewReader(c)
	connect := appendString(nil, 1, "freshet")
	if a := d.set.auth; a != nil {
		data, err := a.GetData()
		if err != nil {
			return errkind.With(errkind.Config, err)
		}
		connect = appendString(connect, 5, a.Name())
		connect = appendString(connect, 3, string(data))
	}
	connect = appendUint(connect, 4, protocolVersion)
	if err := command(c, in, cmdConnect, connect, cmdConnected); err != nil {
		return err
	}
	producer := appendString(nil, 1, d.url(physical))
	producer = appendUint(appendUint(producer, 2, 1), 3, 1) // producer and request
	producer = appendUint(appendUint(producer, 9, 0), 10, exclusiveWithFencing)
	if err := command(c, in, cmdProducer, producer, cmdProducerSuccess); err != nil {
		return err
	}
	return command(c, in, cmdCloseProducer, appendUint(appendUint(nil, 1, 1), 2, 2), 13)
}

// dialOwner connects to the broker that serves the topic.
func (d *Driver) dialOwner(ctx context.Context, physical string) (net.Conn, error) {
	var owner struct {
		Plain string `json:"brokerUrl"`
		TLS   string `json:"brokerUrlTls"`
		SSL   string `json:"brokerUrlSsl"`
	}
	if err := d.rest.do(ctx, http.MethodGet, "/lookup/v2/topic/"+d.path(physical, ""), nil, &owner); err != nil {
		return nil, err
	}
	address := owner.Plain
	if d.set.tls != nil {
		if address = owner.TLS; address == "" {
			address = owner.SSL
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errkind.Errorf(errkind.Config, "the broker of %s says that its address is %q", physical, address)
	}
	var c net.Conn
	if d.set.tls != nil {
		c, err = (&tls.Dialer{Config: d.set.tls}).DialContext(ctx, "tcp", u.Host)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	}
	return c, err
}

// command sends a command and waits for its answer.
func command(c io.Writer, in *bufio.Reader, kind protowire.Number, body []byte, answer protowire.Number) error {
	if err := writeCommand(c, kind, body); err != nil {
		return err
	}
	for {
		got, body, err := readCommand(in)
		if err != nil {
			return err
		}
		switch got {
		case answer:
			return nil
		case cmdPing:
			if err := writeCommand(c, cmdPong, nil); err != nil {
				return err
			}
		case cmdAuthChallenge:
			return errkind.New(errkind.Unsupported, "the broker asks for an authentication in several steps")
		case cmdError:
			return refusal(body)
		}
	}
}

// refusal reads a CommandError.
func refusal(body []byte) error {
	code, message := uint64(0), ""
	_ = eachField(body, func(n protowire.Number, v uint64, b []byte) {
		switch n {
		case 2:
			code = v
		case 3:
			message = string(b)
		}
	})
	kind := errkind.Transient
	switch code {
	case 3, 4: // AuthenticationError, AuthorizationError
		kind = errkind.Config
	case 11: // TopicNotFound
		kind = errkind.NotFound
	}
	return errkind.Errorf(kind, "the broker answers with error %d: %.300s", code, message)
}

func writeCommand(c io.Writer, kind protowire.Number, body []byte) error {
	cmd := appendString(appendUint(nil, 1, uint64(kind)), kind, string(body))
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(cmd)+4))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(cmd)))
	_, err := c.Write(append(frame, cmd...))
	return err
}

// readCommand reads one frame and returns its command's type and body.
func readCommand(in *bufio.Reader) (kind protowire.Number, body []byte, err error) {
	var size [8]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return 0, nil, err
	}
	total, n := binary.BigEndian.Uint32(size[:]), binary.BigEndian.Uint32(size[4:])
	if n > largestCommand || total < n+4 || total > largestCommand {
		return 0, nil, errkind.Errorf(errkind.Config, "the server does not speak Pulsar's protocol: a command of %d bytes in a frame of %d", n, total)
	}
	frame := make([]byte, total-4)
	if _, err := io.ReadFull(in, frame); err != nil {
		return 0, nil, err
	}
	fields := map[protowire.Number][]byte{}
	err = eachField(frame[:n], func(num protowire.Number, v uint64, b []byte) {
		if num == 1 {
			kind = protowire.Number(v)
			return
		}
		fields[num] = b
	})
	return kind, fields[kind], err
}

// eachField calls f with every field of a message.
func eachField(b []byte, f func(n protowire.Number, v uint64, b []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("read command: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("read command: %w", protowire.ParseError(n))
			}
			f(num, v, nil)
			b = b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("read command: %w", protowire.ParseError(n))
			}
			f(num, 0, v)
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return fmt.Errorf("read command: %w", protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	return nil
}

func appendString(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}
