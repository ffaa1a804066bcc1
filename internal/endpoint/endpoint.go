// Package endpoint reads the URL of a server with everything that is needed to
// reach it: user and password, TLS, certificates, an adapter's own options.
// Every adapter of a network service reads its URL here, so that options,
// secrets and error messages are alike everywhere.
//
//	kafka+tls://user@host:9093,other:9093/?password_env=KAFKA_PASSWORD&tls_ca=/etc/ca.pem&sasl=scram-sha-512
//
// Secrets come from the URL, from a file (password_file) or from the environment
// (password_env), and are never in an error or in String.
package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
)

// Endpoint is a server's URL, read.
type Endpoint struct {
	// Scheme is that of the URL without "+tls".
	Scheme string
	// Hosts are the URL's, each host or host:port; several are separated by commas.
	Hosts []string
	// Path is the URL's, without the leading slash.
	Path string
	// User and Password are the URL's, or those of the options user, password_file and password_env.
	User, Password string

	tls     *tls.Config
	shown   string
	options url.Values
	taken   []string
}

// Parse reads raw. Where the scheme ends in "+tls", is one of secure, or a tls_
// option is given, the connection is encrypted. env looks up the environment.
// Every error is Config and without secrets.
func Parse(raw string, env func(string) (string, bool), secure ...string) (*Endpoint, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme == "" {
		return nil, errkind.Errorf(errkind.Config, "the URL is not of the form scheme://host:port")
	}
	// Several hosts are no URL to net/url: they are put aside.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	info, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		info, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse("x://" + info + "x" + tail)
	if err != nil {
		return nil, errkind.New(errkind.Config, "the URL cannot be read: percent-encode special characters in user and password")
	}
	e := &Endpoint{Scheme: strings.TrimSuffix(scheme, "+tls"), Path: strings.TrimPrefix(u.Path, "/")}
	if hosts != "" {
		e.Hosts = strings.Split(hosts, ",")
	}
	if slices.Contains(e.Hosts, "") {
		return nil, errkind.New(errkind.Config, "the URL names an empty host")
	}
	if u.Fragment != "" {
		return nil, errkind.New(errkind.Config, "the URL has a # in it: percent-encode it as %23")
	}
	e.shown = scheme + "://" + hosts + u.Path
	if e.options, err = url.ParseQuery(u.RawQuery); err != nil {
		return nil, errkind.New(errkind.Config, "the URL's options cannot be read: percent-encode special characters")
	}
	if u.User != nil {
		e.User = u.User.Username()
		e.Password, _ = u.User.Password()
	}
	if user := e.Option("user", ""); user != "" {
		e.User = user
	}
	secret, err := e.Secret("password", env)
	if err != nil {
		return nil, err
	}
	if secret != "" {
		e.Password = secret
	}
	if err := e.readTLS(e.Scheme != scheme || slices.Contains(secure, scheme)); err != nil {
		return nil, err
	}
	return e, nil
}

// String is the URL as logs and errors may show it: without user, password and options.
func (e *Endpoint) String() string { return e.shown }

// Redact is any URL as logs and errors may show it.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		scheme, _, _ = strings.Cut(raw, ":")
		return scheme + ":…"
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	return scheme + "://" + rest
}

// TLS is how to encrypt; nil where the connection is plain. It is the caller's to change.
func (e *Endpoint) TLS() *tls.Config { return e.tls.Clone() }

// Option takes an adapter's own option; absent is its value where the URL has none.
func (e *Endpoint) Option(name, absent string) string {
	e.taken = append(e.taken, name)
	if v, ok := e.options[name]; ok && len(v) > 0 {
		return v[len(v)-1]
	}
	return absent
}

// Duration takes an option that is a duration above 0.
func (e *Endpoint) Duration(name string, absent time.Duration) (time.Duration, error) {
	v := e.Option(name, "")
	if v == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, errkind.Errorf(errkind.Config, "%s: option %s=%s: expected a duration such as 30s", e, name, v)
	}
	return d, nil
}

// Int takes an option that is a number of at least least.
func (e *Endpoint) Int(name string, absent, least int) (int, error) {
	v := e.Option(name, "")
	if v == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least {
		return 0, errkind.Errorf(errkind.Config, "%s: option %s=%s: expected a number of at least %d", e, name, v, least)
	}
	return n, nil
}

// Secret takes a secret from the option NAME_file or NAME_env; empty where neither is given.
func (e *Endpoint) Secret(name string, env func(string) (string, bool)) (string, error) {
	file, variable := e.Option(name+"_file", ""), e.Option(name+"_env", "")
	switch {
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return "", errkind.Errorf(errkind.Config, "%s: option %s_file: %w", e, name, err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	case variable != "":
		v, ok := "", false
		if env != nil {
			v, ok = env(variable)
		}
		if !ok {
			return "", errkind.Errorf(errkind.Config, "%s: option %s_env: the environment has no variable %s", e, name, variable)
		}
		return v, nil
	}
	return "", nil
}

// Done reports options that nobody took: misspelt ones. It is called when all have been.
func (e *Endpoint) Done() error {
	for name := range e.options {
		if slices.Contains(e.taken, name) {
			continue
		}
		known := slices.Clone(e.taken)
		slices.Sort(known)
		hint := "; known are " + strings.Join(slices.Compact(known), ", ")
		if near := spell.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return errkind.Errorf(errkind.Config, "%s: unknown option %q%s", e, name, hint)
	}
	return nil
}

func (e *Endpoint) readTLS(on bool) error {
	ca, cert, key, name := e.Option("tls_ca", ""), e.Option("tls_cert", ""), e.Option("tls_key", ""), e.Option("tls_server_name", "")
	if !on && ca == "" && cert == "" && key == "" && name == "" {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return errkind.Errorf(errkind.Config, "%s: option tls_ca: %w", e, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return errkind.Errorf(errkind.Config, "%s: option tls_ca: %s holds no certificate in PEM", e, ca)
		}
	}
	if (cert == "") != (key == "") {
		return errkind.Errorf(errkind.Config, "%s: options tls_cert and tls_key go together", e)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return errkind.Errorf(errkind.Config, "%s: options tls_cert and tls_key: %w", e, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	e.tls = c
	return nil
}
