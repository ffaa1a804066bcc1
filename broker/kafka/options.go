package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what the program passes to Open.
type Options struct {
	// Logger gets what happens to groups and transactions; nil is no log.
	Logger *slog.Logger
	// Env looks up the environment for the URL's _env options; nil is the process's.
	Env func(string) (string, bool)
}

// settings are what the URL says.
type settings struct {
	endpoint    *endpoint.Endpoint
	sasl        sasl.Mechanism
	saslName    string
	timeout     time.Duration // of one call to the server
	session     time.Duration // after which the group gives up a silent member
	txTimeout   time.Duration // after which the server aborts an open transaction of a dead owner
	replication int           // of topics that are made; -1 is the server's default
	maxRecord   int           // bytes; 0 asks the server
	compression kgo.CompressionCodec
	clientID    string
	rack        string
	txPrefix    string
}

func readSettings(raw string, env func(string) (string, bool)) (s settings, err error) {
	if env == nil {
		env = os.LookupEnv
	}
	e, err := endpoint.Parse(raw, env)
	if err != nil {
		return s, err
	}
	s.endpoint = e
	switch {
	case e.Scheme != "kafka":
		return s, errkind.Errorf(errkind.Config, "%s: expected kafka://host:port or kafka+tls://host:port", e)
	case len(e.Hosts) == 0:
		return s, errkind.Errorf(errkind.Config, "%s: the URL names no host", e)
	case e.Path != "":
		return s, errkind.Errorf(errkind.Config, "%s: the URL has the path %q; topics are named where they are used", e, e.Path)
	}
	if s.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return s, err
	}
	if s.session, err = e.Duration("session_timeout", 10*time.Second); err != nil {
		return s, err
	}
	if s.txTimeout, err = e.Duration("transaction_timeout", time.Minute); err != nil {
		return s, err
	}
	if s.replication, err = e.Int("replication", -1, 1); err != nil {
		return s, err
	}
	if s.maxRecord, err = e.Int("max_record_bytes", 0, 1024); err != nil {
		return s, err
	}
	s.clientID, s.rack, s.txPrefix = e.Option("client_id", "freshet"), e.Option("rack", ""), e.Option("transactional_id", "freshet")
	switch v := e.Option("compression", "snappy"); v {
	case "none":
		s.compression = kgo.NoCompression()
	case "snappy":
		s.compression = kgo.SnappyCompression()
	case "lz4":
		s.compression = kgo.Lz4Compression()
	case "zstd":
		s.compression = kgo.ZstdCompression()
	case "gzip":
		s.compression = kgo.GzipCompression()
	default:
		return s, errkind.Errorf(errkind.Config, "%s: option compression=%s: expected none, snappy, lz4, zstd or gzip", e, v)
	}
	if err := s.readSASL(env); err != nil {
		return s, err
	}
	return s, e.Done()
}

func (s *settings) readSASL(env func(string) (string, bool)) error {
	e := s.endpoint
	t := tokens{endpoint: e, user: e.User, password: e.Password, env: env, client: newHTTPClient(s.timeout)}
	t.url, t.scope, t.audience = e.Option("token_url", ""), e.Option("token_scope", ""), e.Option("token_audience", "")
	t.file, t.variable = e.Option("token_file", ""), e.Option("token_env", "")
	absent := ""
	if e.User != "" || e.Password != "" {
		absent = "plain"
	}
	s.saslName = e.Option("sasl", absent)
	switch s.saslName {
	case "":
		return nil
	case "plain":
		s.sasl = plain.Auth{User: e.User, Pass: e.Password}.AsMechanism()
	case "scram-sha-256":
		s.sasl = scram.Auth{User: e.User, Pass: e.Password}.AsSha256Mechanism()
	case "scram-sha-512":
		s.sasl = scram.Auth{User: e.User, Pass: e.Password}.AsSha512Mechanism()
	case "oauthbearer":
		if err := t.check(); err != nil {
			return err
		}
		s.sasl = oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := t.token(ctx)
			return oauth.Auth{Token: token}, err
		})
		return nil
	default:
		return errkind.Errorf(errkind.Config, "%s: option sasl=%s: expected plain, scram-sha-256, scram-sha-512 or oauthbearer", e, s.saslName)
	}
	if e.User == "" || e.Password == "" {
		return errkind.Errorf(errkind.Config, "%s: sasl=%s needs a user and a password: write user@ before the host, and password_env or password_file", e, s.saslName)
	}
	return nil
}

// versions are the newest requests that are sent. Those of Produce, Fetch and
// of offsets beyond these name topics by their ids, which the requests built here do not.
func versions(tx2 bool) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(keyProduce, 12)
	v.SetMaxKeyVersion(keyFetch, 12)
	v.SetMaxKeyVersion(keyOffsetCommit, 9)
	v.SetMaxKeyVersion(keyOffsetFetch, 9)
	v.SetMaxKeyVersion(keyTxnOffsetCommit, 5)
	v.SetMaxKeyVersion(keyAddPartitionsToTxn, 3) // later ones are for servers
	if !tx2 {
		// These versions announce KIP-890's second part to the server.
		v.SetMaxKeyVersion(keyProduce, 11)
		v.SetMaxKeyVersion(keyEndTxn, 4)
		v.SetMaxKeyVersion(keyAddOffsetsToTxn, 4)
		v.SetMaxKeyVersion(keyTxnOffsetCommit, 4)
	}
	return v
}

const (
	keyProduce            = 0
	keyFetch              = 1
	keyOffsetCommit       = 8
	keyOffsetFetch        = 9
	keyAddPartitionsToTxn = 24
	keyAddOffsetsToTxn    = 25
	keyEndTxn             = 26
	keyTxnOffsetCommit    = 28
)

// client returns a client of the server with what all of them have in common.
func (s *settings) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(s.endpoint.Hosts...),
		kgo.ClientID(s.clientID),
		kgo.SoftwareNameAndVersion("freshet", "1"),
		kgo.DisableClientMetrics(),
		kgo.DialTimeout(min(s.timeout, 5*time.Second)),
		kgo.RequestTimeoutOverhead(s.timeout),
		kgo.RetryTimeout(s.timeout),
		kgo.RetryBackoffFn(pause),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.UnknownTopicRetries(1),
	}
	if c := s.endpoint.TLS(); c != nil {
		// franz-go fills in ServerName from the address it dials.
		opts = append(opts, kgo.DialTLSConfig(c))
	}
	if s.sasl != nil {
		opts = append(opts, kgo.SASL(s.sasl))
	}
	if s.rack != "" {
		opts = append(opts, kgo.Rack(s.rack))
	}
	cl, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("set up a client: %w", err)
	}
	return cl, nil
}

// pause is how long the client waits after the nth failure in a row.
func pause(n int) time.Duration {
	return min(20*time.Millisecond<<min(max(n-1, 0), 10), time.Second)
}
