package pulsar

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/auth"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// settings is what the URL says.
type settings struct {
	tenant, namespace string
	service, admin    string // URLs for the client and for the admin API
	port              string // of brokers whose URL names none
	tls               *tls.Config
	auth              auth.Provider // nil where there are no credentials
	timeout           time.Duration
	maxMessage        int // the broker's limit, in bytes
	queue             int // messages that a reader fetches ahead
	compression       pulsar.CompressionType
}

func readSettings(e *endpoint.Endpoint, env func(string) (string, bool)) (s settings, err error) {
	if len(e.Hosts) == 0 {
		return s, errkind.Errorf(errkind.Config, "%s: the URL names no host: expected pulsar://HOST:6650/TENANT/NAMESPACE", e)
	}
	s.tenant, s.namespace = "public", "default"
	if path := strings.Trim(e.Path, "/"); path != "" {
		var ok bool
		if s.tenant, s.namespace, ok = strings.Cut(path, "/"); !ok || s.tenant == "" || s.namespace == "" || strings.Contains(s.namespace, "/") {
			return s, errkind.Errorf(errkind.Config, "%s: the path is %q: expected TENANT/NAMESPACE", e, e.Path)
		}
	}
	s.tls = e.TLS()
	scheme, web := "pulsar://", "http://"
	s.port = "6650"
	webPort := "8080"
	if s.tls != nil {
		scheme, web, s.port, webPort = "pulsar+ssl://", "https://", "6651", "8443"
	}
	hosts := make([]string, len(e.Hosts))
	for i, h := range e.Hosts {
		hosts[i] = withPort(h, s.port)
	}
	s.service = scheme + strings.Join(hosts, ",")
	first, _, _ := net.SplitHostPort(hosts[0])
	s.admin = strings.TrimSuffix(e.Option("admin", web+net.JoinHostPort(first, webPort)), "/")
	if !strings.HasPrefix(s.admin, "http://") && !strings.HasPrefix(s.admin, "https://") || strings.Contains(s.admin, "@") {
		return s, errkind.Errorf(errkind.Config, "%s: option admin: expected http://HOST:PORT or https://HOST:PORT", e)
	}
	if s.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return s, err
	}
	if s.maxMessage, err = e.Int("max_message", 5<<20, 2*overhead); err != nil {
		return s, err
	}
	if s.queue, err = e.Int("queue", 1000, 1); err != nil {
		return s, err
	}
	switch c := e.Option("compression", "none"); c {
	case "none":
	case "lz4":
		s.compression = pulsar.LZ4
	case "zstd":
		s.compression = pulsar.ZSTD
	default:
		return s, errkind.Errorf(errkind.Config, "%s: option compression=%s: expected none, lz4 or zstd", e, c)
	}
	if s.auth, err = readAuth(e, env, s.tls); err != nil {
		return s, err
	}
	return s, e.Done()
}

// readAuth chooses among OAuth2, a token, user and password, and a certificate.
func readAuth(e *endpoint.Endpoint, env func(string) (string, bool), tlsConfig *tls.Config) (auth.Provider, error) {
	tokenFile, tokenEnv := e.Option("token_file", ""), e.Option("token_env", "")
	issuer, key, audience, scope := e.Option("oauth2_issuer", ""), e.Option("oauth2_key_file", ""), e.Option("oauth2_audience", ""), e.Option("oauth2_scope", "")
	withCert := tlsConfig != nil && len(tlsConfig.Certificates) > 0
	switch {
	case issuer != "" || key != "":
		if issuer == "" || key == "" {
			return nil, errkind.Errorf(errkind.Config, "%s: options oauth2_issuer and oauth2_key_file go together", e)
		}
		p, err := auth.NewAuthenticationOAuth2WithParams(map[string]string{
			auth.ConfigParamType: auth.ConfigParamTypeClientCredentials, auth.ConfigParamIssuerURL: issuer,
			auth.ConfigParamKeyFile: key, auth.ConfigParamAudience: audience, auth.ConfigParamScope: scope,
		})
		if err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: OAuth2: %w", e, err)
		}
		return p, nil
	case tokenFile != "": // read again for each connection, so that it can be renewed
		if _, err := os.Stat(tokenFile); err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: option token_file: %w", e, err)
		}
		return auth.NewAuthenticationTokenFromFile(tokenFile), nil
	case tokenEnv != "":
		token, err := e.Secret("token", env)
		if err != nil {
			return nil, err
		}
		return auth.NewAuthenticationToken(token), nil
	case e.User != "":
		p, err := auth.NewAuthenticationBasic(e.User, e.Password)
		if err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: user and password: %w", e, err)
		}
		return p, nil
	case withCert:
		cert := tlsConfig.Certificates[0]
		return auth.NewAuthenticationFromTLSCertSupplier(func() (*tls.Certificate, error) { return &cert, nil }), nil
	}
	return nil, nil
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// backoff waits up to 2 s between attempts to reconnect: the library's own waits up to a minute.
type reconnect struct{ wait time.Duration }

func (r *reconnect) Next() time.Duration {
	r.wait = min(max(2*r.wait, 100*time.Millisecond), 2*time.Second)
	return r.wait
}
func (r *reconnect) IsMaxBackoffReached() bool { return r.wait >= 2*time.Second }
func (r *reconnect) Reset()                    { r.wait = 0 }
