package lookup

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// Validate checks what every adapter wants of the options.
func (o *Options) Validate() error {
	if len(o.Fields) == 0 {
		return errkind.New(errkind.Config, "the table names no fields: name those to read, with their kinds")
	}
	seen := map[string]bool{}
	for _, f := range o.Fields {
		switch {
		case f.Name == "":
			return errkind.New(errkind.Config, "a field of the table has no name")
		case seen[f.Name]:
			return errkind.Errorf(errkind.Config, "field %q is named twice", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// ParseURL parses a server's URL. Its errors, all of kind Config, do not hold
// the URL, which may hold a password.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		// What is left may still quote the part that did not parse, as "invalid
		// port" does with a password that holds a colon or a slash.
		reason, _, _ := strings.Cut(err.Error(), `"`)
		return nil, errkind.Errorf(errkind.Config, "the URL cannot be read: %s: percent-encode special characters in user and password", strings.TrimSpace(reason))
	}
	return u, nil
}

// Redact is a URL as logs and errors may show it: scheme, host and path.
func Redact(raw string) string {
	u, err := ParseURL(raw)
	if err != nil || u.Host == "" {
		scheme, _, ok := strings.Cut(raw, "://")
		if !ok {
			return "(no URL)"
		}
		return scheme + "://…"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

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
