package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/freshet-io/freshet/errkind"
)

// NetworkKind is the kind of an error that came of talking to a server and not
// from the server itself: Transient for what networks do and for deadlines,
// Config for certificates that are not trusted and servers that speak no TLS,
// Canceled for a context that was, and Unknown for everything else.
func NetworkKind(err error) errkind.Kind {
	var (
		ne        net.Error
		oe        *net.OpError
		untrusted *tls.CertificateVerificationError
		plain     tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return errkind.Canceled
	case errors.As(err, &untrusted), errors.As(err, &plain), errors.As(err, &oe) && oe.Op == "remote error": // a TLS alert
		return errkind.Config
	case errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.As(err, &ne), errors.As(err, &oe):
		return errkind.Transient
	}
	return errkind.Unknown
}
