package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/console"
	"github.com/freshet-io/freshet/errkind"
)

// listenFlags say where the HTTP API is served.
type listenFlags struct {
	address, cert, key string
}

const listenHelp = `With the environment variable FRESHET_TOKEN set, requests must carry it:
"Authorization: Bearer TOKEN". An address that other machines can reach needs the
token and a TLS certificate.`

func (l *listenFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.address, "listen", "127.0.0.1:8080", "address of the HTTP API, or off")
	f.StringVar(&l.cert, "tls-cert", "", "certificate file (PEM) to serve HTTPS with")
	f.StringVar(&l.key, "tls-key", "", "key file (PEM) of the certificate")
}

// listener is an address that this process holds, before anything is served on it.
type listener struct {
	net.Listener
	token string
	tls   *tls.Config
}

// listen takes the address. It returns nil for --listen off.
func (a *app) listen(ctx context.Context, f listenFlags) (*listener, error) {
	if f.address == "off" {
		return nil, nil
	}
	l := &listener{}
	l.token, _ = a.lookupEnv("FRESHET_TOKEN")
	if (f.cert == "") != (f.key == "") {
		return nil, usagef("--tls-cert and --tls-key: give both or none")
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, usagef("--tls-cert %s, --tls-key %s: %w", f.cert, f.key, err)
		}
		l.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if err := console.CheckListen(f.address, l.token, l.tls != nil); err != nil {
		return nil, usagef("--listen: %w; the token comes from FRESHET_TOKEN, the certificate from --tls-cert and --tls-key", err)
	}
	var err error
	l.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", f.address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errkind.Errorf(errkind.Conflict, "listen on %s: the port is in use by another process; choose another with --listen HOST:PORT, or --listen off", f.address)
	case errors.Is(err, syscall.EACCES):
		return nil, errkind.Errorf(errkind.Config, "listen on %s: this user may not; choose a port above 1023 with --listen", f.address)
	case err != nil:
		return nil, errkind.Errorf(errkind.Config, "--listen %s: %w", f.address, err)
	}
	return l, nil
}

// url is where other processes of this machine reach the listener.
func (l *listener) url() string {
	if l == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if strings.Contains(l.Addr().String(), "[") {
			host = "::1"
		}
	}
	scheme := "http://"
	if l.tls != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// serve answers requests until ctx ends; with no listener it only waits.
func (l *listener) serve(ctx context.Context, o console.Options) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	o.Token, o.TLS = l.token, l.tls
	return console.New(o).Serve(ctx, l.Listener)
}

func (l *listener) close() error {
	if l == nil {
		return nil
	}
	return l.Close()
}
