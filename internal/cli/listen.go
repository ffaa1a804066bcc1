package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/console"
	"github.com/freshet-io/freshet/errkind"
)

// listenFlags say where the HTTP API is served.
type listenFlags struct {
	address, cert, key string
	origins            []string
	rate               int
	secrets            string // a file
}

const listenHelp = `With the environment variable FRESHET_TOKEN set, requests must carry it:
"Authorization: Bearer TOKEN". An address that other machines can reach needs the
token and a TLS certificate.

With --webhook-secret-file or the environment variable FRESHET_WEBHOOK_SECRETS,
events that come without the token have to be signed as standardwebhooks.com says,
with one of the secrets: each on its line, so that a new one can stand beside the old.`

func (l *listenFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.address, "listen", "127.0.0.1:8080", "address of the HTTP API, or off")
	f.StringVar(&l.cert, "tls-cert", "", "certificate file (PEM) to serve HTTPS with")
	f.StringVar(&l.key, "tls-key", "", "key file (PEM) of the certificate")
	f.StringSliceVar(&l.origins, "webhook-origin", nil, "sender whose webhook handshake is granted, such as eventgrid.azure.net; * is every one")
	f.IntVar(&l.rate, "webhook-rate", 0, "requests a minute that the handshake allows (0 sets no bound)")
	f.StringVar(&l.secrets, "webhook-secret-file", "", "file with the secrets that events may be signed with")
}

// listener is an address that this process holds, before anything is served on it.
type listener struct {
	net.Listener
	token    string
	tls      *tls.Config
	webhooks console.Webhooks
}

// readWebhooks reads what the flags and the environment say of webhooks.
func (a *app) readWebhooks(f listenFlags) (console.Webhooks, error) {
	w := console.Webhooks{Origins: f.origins, Rate: f.rate}
	if f.rate < 0 {
		return w, usagef("--webhook-rate %d: expected 0 or more", f.rate)
	}
	text, where := "", "--webhook-secret-file "+f.secrets
	if f.secrets != "" {
		b, err := os.ReadFile(f.secrets)
		if err != nil {
			return w, usagef("%s: %w", where, err)
		}
		if text = string(b); strings.TrimSpace(text) == "" {
			return w, usagef("%s: there is no secret in it", where)
		}
	} else {
		where = "FRESHET_WEBHOOK_SECRETS"
		text, _ = a.lookupEnv(where)
	}
	var err error
	if w.Secrets, err = console.ParseSecrets(text); err != nil {
		return w, usagef("%s: %w", where, err)
	}
	return w, nil
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
	if l.webhooks, err = a.readWebhooks(f); err != nil {
		return nil, err
	}
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
	o.Token, o.TLS, o.Webhooks = l.token, l.tls, l.webhooks
	return console.New(o).Serve(ctx, l.Listener)
}

func (l *listener) close() error {
	if l == nil {
		return nil
	}
	return l.Close()
}
