package pubsub

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"cloud.google.com/go/auth/credentials"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what the program passes.
type Options struct {
	Logger *slog.Logger
	// Env looks up the environment; nil means an empty one. Google's own client
	// looks at the process's.
	Env    func(string) (string, bool)
	Limits bus.Limits
}

const (
	defaultTimeout = 10 * time.Second
	defaultLease   = time.Minute
	scope          = "https://www.googleapis.com/auth/pubsub"
	// emulatorVariable is read by all of Google's clients.
	emulatorVariable = "PUBSUB_EMULATOR_HOST"
)

// target is what a URL says.
type target struct {
	endpoint *endpoint.Endpoint
	project  string
	// kind is topics or subscriptions; name may be empty for topics.
	kind, name string
	timeout    time.Duration
	lease      time.Duration
	ordering   bool
	client     []option.ClientOption
}

// parse reads a URL; kind is what a path of one part names.
func parse(raw, kind string, o Options) (*target, error) {
	env := o.Env
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	e, err := endpoint.Parse(raw, env)
	if err != nil {
		return nil, err
	}
	t := &target{endpoint: e, kind: kind, name: e.Path}
	if len(e.Hosts) != 1 {
		return nil, errkind.Errorf(errkind.Config, "%s: expected pubsub://PROJECT/%s", e, strings.ToUpper(strings.TrimSuffix(kind, "s")))
	}
	t.project = e.Hosts[0]
	if first, rest, ok := strings.Cut(e.Path, "/"); ok {
		if first != kind {
			return nil, errkind.Errorf(errkind.Config, "%s: expected a name of %s, found %s", e, kind, first)
		}
		t.name = rest
	}
	if strings.Contains(t.name, "/") || t.name == "" && kind == "subscriptions" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected pubsub://PROJECT/%s", e, strings.ToUpper(strings.TrimSuffix(kind, "s")))
	}
	if t.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return nil, err
	}
	if t.lease, err = e.Duration("lease", defaultLease); err != nil {
		return nil, err
	}
	if t.lease < 10*time.Second || t.lease > 10*time.Minute {
		return nil, errkind.Errorf(errkind.Config, "%s: option lease=%v: expected 10s to 600s", e, t.lease)
	}
	switch v := e.Option("ordering", "true"); v {
	case "true", "false":
		t.ordering = v == "true"
	default:
		return nil, errkind.Errorf(errkind.Config, "%s: option ordering=%s: expected true or false", e, v)
	}
	address, file := e.Option("endpoint", ""), e.Option("credentials", "")
	if err := e.Done(); err != nil {
		return nil, err
	}
	if address == "" {
		address, _ = env(emulatorVariable)
	}
	if err := t.reach(address, file); err != nil {
		return nil, err
	}
	return t, nil
}

// reach finds out how to reach the service.
func (t *target) reach(address, file string) error {
	t.client = []option.ClientOption{option.WithTelemetryDisabled()}
	if address != "" {
		t.client = append(t.client, option.WithEndpoint(address))
	}
	secure := t.endpoint.TLS()
	if address != "" && secure == nil {
		t.client = append(t.client, option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
		return nil
	}
	// As often as Google's servers let a client ask whether they are there.
	t.client = append(t.client, option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: t.timeout})))
	if secure != nil {
		t.client = append(t.client, option.WithGRPCDialOption(grpc.WithTransportCredentials(grpccredentials.NewTLS(secure))))
	}
	//nolint:staticcheck // SA1019: the file is the user's own, named in the user's own URL
	found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{scope}, CredentialsFile: file})
	if err != nil {
		return errkind.Errorf(errkind.Config, "open %s: no credentials of Google Cloud: name a file by credentials=, or log in with gcloud auth application-default login: %w", t.endpoint, err)
	}
	t.client = append(t.client, option.WithAuthCredentials(found))
	return nil
}

// path is the full name of a topic or subscription.
func (t *target) path(name string) string {
	return "projects/" + t.project + "/" + t.kind + "/" + name
}

// opened judges what the call that Open makes has returned: a refusal to show
// the thing is no refusal to use it.
func (t *target) opened(err error) error {
	if err == nil || status.Code(err) == codes.PermissionDenied {
		return nil
	}
	return t.failed("open", err)
}

// failed gives an error its kind.
func (t *target) failed(verb string, err error) error {
	return errkind.Errorf(kindOf(err), "%s %s: %w", verb, t.endpoint, err)
}

func kindOf(err error) errkind.Kind {
	if errors.Is(err, io.EOF) {
		return errkind.Transient
	}
	s, ok := status.FromError(err)
	if !ok {
		if k := errkind.Of(err); k != errkind.Unknown {
			return k
		}
		if k := endpoint.NetworkKind(err); k != errkind.Unknown {
			return k
		}
		return errkind.Permanent
	}
	switch s.Code() {
	case codes.NotFound:
		return errkind.NotFound
	case codes.PermissionDenied, codes.Unauthenticated:
		return errkind.Config
	case codes.ResourceExhausted:
		return errkind.Throttled
	case codes.Canceled:
		return errkind.Canceled
	case codes.Unavailable:
		// A certificate that is not trusted comes with this code too.
		if m := s.Message(); strings.Contains(m, "authentication handshake failed") && strings.Contains(m, "tls: ") ||
			strings.Contains(m, "x509: ") {
			return errkind.Config
		}
		return errkind.Transient
	case codes.DeadlineExceeded, codes.Internal, codes.Aborted, codes.Unknown:
		return errkind.Transient
	case codes.Unimplemented:
		return errkind.Config
	case codes.InvalidArgument:
		return errkind.Invalid
	}
	return errkind.Permanent
}
