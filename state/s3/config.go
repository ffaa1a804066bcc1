package s3

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// Options are what the program passes.
type Options struct {
	// Getenv reads the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
	// AWS_SESSION_TOKEN; else AWS_SHARED_CREDENTIALS_FILE (by default
	// ~/.aws/credentials) and AWS_PROFILE; else the role of a pod or container
	// where AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_CREDENTIALS_FULL_URI or
	// _RELATIVE_URI is set. AWS_REGION, AWS_ENDPOINT_URL and AWS_CA_BUNDLE stand
	// in for what the URL leaves out. nil is os.Getenv.
	Getenv func(string) string
	// Idle is how long a call may take without a byte moving; 30 s by default.
	Idle time.Duration
}

// target is a parsed URL.
type target struct {
	bucket, prefix string
	endpoint       *url.URL
	region         string
	options        minio.Options
}

const urlForm = "write s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION"

func bad(format string, args ...any) error {
	return errkind.Errorf(errkind.Config, "object store URL: "+format+"; "+urlForm, args...)
}

// parse reads s3://bucket/prefix?endpoint=…&region=…; errors never repeat the
// URL, which might hold a secret by mistake.
func parse(raw string, o *Options) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "s3" {
		return nil, bad("it does not parse")
	}
	if u.User != nil {
		return nil, bad("credentials do not belong there; put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials")
	}
	t := &target{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if t.bucket == "" || u.Fragment != "" {
		return nil, bad("it names no bucket, or has a fragment")
	}
	if t.prefix != "" {
		if err := state.CheckName(t.prefix); err != nil {
			return nil, bad("the prefix: %v", err)
		}
		t.prefix += "/"
	}
	endpoint := o.Getenv("AWS_ENDPOINT_URL")
	t.region = o.Getenv("AWS_REGION")
	for key, values := range u.Query() {
		switch {
		case len(values) != 1:
			return nil, bad("%s is given %d times", key, len(values))
		case key == "endpoint":
			endpoint = values[0]
		case key == "region":
			t.region = values[0]
		default:
			return nil, bad("there is no parameter %q", key)
		}
	}
	if t.region == "" {
		t.region = "us-east-1"
	}
	if endpoint == "" {
		endpoint = "https://s3." + t.region + ".amazonaws.com"
	}
	t.endpoint, err = url.Parse(endpoint)
	if err != nil || t.endpoint.Host == "" || t.endpoint.User != nil || strings.Trim(t.endpoint.Path, "/") != "" {
		return nil, bad("the endpoint is not https://HOST:PORT")
	}
	switch {
	case t.endpoint.Scheme == "https":
	case t.endpoint.Scheme == "http" && loopback(t.endpoint.Hostname()):
	default:
		return nil, bad("the endpoint %s is not encrypted: only a loopback one may be http", t.endpoint.Host)
	}
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	creds, err := newCredentials(o)
	if err != nil {
		return nil, err
	}
	t.options = minio.Options{
		Creds: creds, Secure: t.endpoint.Scheme == "https", Region: t.region, Transport: transport,
		MaxRetries: 1, // state.WithRetry repeats
	}
	return t, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newCredentials(o *Options) (*credentials.Credentials, error) {
	key, secret := o.Getenv("AWS_ACCESS_KEY_ID"), o.Getenv("AWS_SECRET_ACCESS_KEY")
	if (key == "") != (secret == "") {
		return nil, errkind.New(errkind.Config, "object store: of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY one is set and one is not")
	}
	if key != "" {
		return credentials.NewStaticV4(key, secret, o.Getenv("AWS_SESSION_TOKEN")), nil
	}
	if o.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" || o.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" || o.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" {
		return credentials.NewIAM(""), nil
	}
	c := credentials.NewFileAWSCredentials(o.Getenv("AWS_SHARED_CREDENTIALS_FILE"), o.Getenv("AWS_PROFILE"))
	if _, err := c.GetWithContext(nil); err != nil {
		return nil, errkind.New(errkind.Config, "object store: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into ~/.aws/credentials")
	}
	return c, nil
}

func newTransport(o *Options) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: o.Idle,
		ExpectContinueTimeout: 2 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		MaxConnsPerHost:       64,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // the bytes are ours
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if file := o.Getenv("AWS_CA_BUNDLE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, errkind.Errorf(errkind.Config, "object store: read AWS_CA_BUNDLE: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, errkind.Errorf(errkind.Config, "object store: AWS_CA_BUNDLE %s holds no certificate", file)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, nil
}
