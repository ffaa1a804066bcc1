package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// CheckListen reports, as a Config error, an address that must not be served
// as it is: one that other machines can reach needs both a token and TLS.
func CheckListen(addr, token string, tls bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return errkind.Errorf(errkind.Config, "listen address %q: expected HOST:PORT, as in 127.0.0.1:8080", addr)
	}
	switch {
	case isLoopback(host):
		return nil
	case token == "" && !tls:
		return errkind.Errorf(errkind.Config, "listen address %q can be reached from other machines: set a token and a TLS certificate, or listen on 127.0.0.1", addr)
	case token == "":
		return errkind.Errorf(errkind.Config, "listen address %q can be reached from other machines: set a token, or listen on 127.0.0.1", addr)
	case !tls:
		return errkind.Errorf(errkind.Config, "listen address %q can be reached from other machines and the token would travel in the clear: set a TLS certificate, or listen on 127.0.0.1", addr)
	}
	return nil
}

// isLoopback reports whether host is a name or an address of this machine
// alone. The empty host means all addresses.
func isLoopback(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// guard lets through who may ask. Health is for everybody.
func (s *Server) guard(next http.Handler) http.Handler {
	token := sha256.Sum256([]byte(s.o.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.URL.Path == "/livez" || r.URL.Path == "/readyz":
		case s.bySignature(r):
			if !enter(w, s.signed) {
				return
			}
			defer func() { <-s.signed }()
			if !s.checkSignature(w, r) {
				return
			}
		case s.o.Token != "" && isHandshake(r):
		case s.o.Token != "":
			got := sha256.Sum256([]byte(bearer(r))) // equal lengths: the time tells nothing
			if subtle.ConstantTimeCompare(got[:], token[:]) != 1 {
				h.Set("WWW-Authenticate", `Bearer realm="freshet"`)
				writeProblem(w, problem{Status: http.StatusUnauthorized, Detail: "this server needs its token, as in: Authorization: Bearer TOKEN"})
				return
			}
		// Without a token a web page could reach the server through its
		// visitor's browser: by a name of its own that resolves to 127.0.0.1,
		// or by a plain cross-site request.
		case !isLoopback(hostOnly(r.Host)):
			writeProblem(w, problem{Status: http.StatusForbidden, Detail: "a server without a token answers only to localhost, 127.0.0.1 and [::1] in the Host header"})
			return
		case foreignOrigin(r):
			writeProblem(w, problem{Status: http.StatusForbidden, Detail: "requests from web pages of another origin are refused"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer is the token that a request comes with: in its Authorization, or in the
// query of one that stores events, as RFC 6750 says for those that can send no header.
func bearer(r *http.Request) string {
	if a := r.Header.Get("Authorization"); a != "" || r.Method != http.MethodPost {
		scheme, token, _ := strings.Cut(a, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return ""
		}
		return strings.TrimSpace(token)
	}
	return r.URL.Query().Get("access_token")
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// foreignOrigin reports whether the request names a web page of another origin as its sender.
func foreignOrigin(r *http.Request) bool {
	for _, o := range r.Header.Values("Origin") {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) || (u.Scheme == "https") != (r.TLS != nil) {
			return true
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return true
}
