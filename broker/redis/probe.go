package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// probeFor bounds a look at what kind of server answers.
const probeFor = 2 * time.Second

// diagnose finds out why a server that takes connections does not go on with
// ours: servers with and without TLS only hang up on each other, or wait. It
// returns err where it finds nothing.
func (d *Driver) diagnose(ctx context.Context, err error) error {
	if kindOf(err) != errkind.Transient || notSent(err) || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	nc, dialErr := new(net.Dialer).DialContext(ctx, "tcp", d.options.Addr)
	if dialErr != nil {
		return err
	}
	defer nc.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	if d.options.TLSConfig == nil {
		var alert *net.OpError
		shaken := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // nothing is sent: it is only asked whether this is TLS
		if shaken == nil || errors.As(shaken, &alert) && alert.Op == "remote error" {
			return errkind.Errorf(errkind.Config, "connect to %s: the server wants TLS: use rediss://", d.where)
		}
		return err
	}
	half, stop := context.WithTimeout(ctx, probeFor/2) // a server without TLS waits for more
	defer stop()
	if secure := tls.Client(nc, d.options.TLSConfig); secure.HandshakeContext(half) == nil {
		_, readErr := secure.Read(make([]byte, 1)) // a server that misses a certificate says so only now
		if endpoint.NetworkKind(readErr) == errkind.Config {
			return errkind.Errorf(errkind.Config, "connect to %s: %w", d.where, readErr)
		}
		return err
	}
	plain, dialErr := new(net.Dialer).DialContext(ctx, "tcp", d.options.Addr)
	if dialErr != nil {
		return err
	}
	defer plain.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = plain.SetDeadline(deadline)
	}
	answer := make([]byte, 1)
	if _, writeErr := plain.Write([]byte("PING\r\n")); writeErr != nil {
		return err
	}
	if _, readErr := plain.Read(answer); readErr == nil && (answer[0] == '+' || answer[0] == '-') {
		return errkind.Errorf(errkind.Config, "connect to %s: the server speaks no TLS: use redis://", d.where)
	}
	return err
}
