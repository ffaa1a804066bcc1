package eventgrid

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what the program passes.
type Options struct {
	Logger *slog.Logger
	// Env looks up the environment; nil means an empty one. Azure's own client
	// looks at the process's.
	Env    func(string) (string, bool)
	Limits bus.Limits
}

const (
	apiVersion = "2024-06-01"
	scope      = "https://eventgrid.azure.net/.default"
	// maxAnswer bounds what is read of an answer: 100 events of 1 MB, written in Base64.
	maxAnswer = 160 << 20
	typeJSON  = "application/json"
)

// namespace is where calls go.
type namespace struct {
	*endpoint.Endpoint
	base     string
	timeout  time.Duration
	pipeline runtime.Pipeline
	client   *http.Client
}

// open reads a URL of parts names behind the host; own takes the caller's options.
func open(ctx context.Context, raw string, o Options, parts int, own func(*endpoint.Endpoint) error) (*namespace, []string, error) {
	env := o.Env
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	e, err := endpoint.Parse(raw, env, "eventgrid")
	if err != nil {
		return nil, nil, err
	}
	names := strings.Split(e.Path, "/")
	if len(e.Hosts) != 1 || len(names) != parts || names[0] == "" || names[parts-1] == "" {
		form := "eventgrid://HOST/TOPIC"
		if parts == 2 {
			form += "/SUBSCRIPTION"
		}
		return nil, nil, errkind.Errorf(errkind.Config, "%s: expected %s", e, form)
	}
	n := &namespace{Endpoint: e, base: strings.TrimSuffix(e.Option("endpoint", "https://"+e.Hosts[0]), "/")}
	if n.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, nil, err
	}
	key, err := e.Secret("key", env)
	if err != nil {
		return nil, nil, err
	}
	if err := own(e); err != nil {
		return nil, nil, err
	}
	if err := e.Done(); err != nil {
		return nil, nil, err
	}
	if u, err := url.Parse(n.base); err != nil || u.Host == "" {
		return nil, nil, errkind.Errorf(errkind.Config, "%s: option endpoint: expected https://HOST", e)
	}
	if err := n.authorize(ctx, key); err != nil {
		return nil, nil, err
	}
	return n, names, nil
}

// authorize makes the pipeline: with the access key, else Azure's default credentials.
func (n *namespace) authorize(ctx context.Context, key string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = n.TLS()
	transport.MaxIdleConnsPerHost = 16
	n.client = &http.Client{Transport: transport}
	options := &azcore.ClientOptions{Transport: n.client, Retry: policy.RetryOptions{MaxRetries: -1}} // repeating is the caller's
	var by policy.Policy
	if key != "" {
		// Over plain HTTP only to an address that endpoint= names, such as a proxy on this machine.
		by = runtime.NewKeyCredentialPolicy(azcore.NewKeyCredential(key), "Authorization", &runtime.KeyCredentialPolicyOptions{
			Prefix: "SharedAccessKey ", InsecureAllowCredentialWithHTTP: true,
		})
	} else {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, n.timeout)
			defer cancel()
			_, err = credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
		}
		if err != nil {
			return errkind.Errorf(errkind.Config, "open %s: no credentials of Azure: give key_file=, log in with az login, or run where an identity is given: %w", n, err)
		}
		by = runtime.NewBearerTokenPolicy(credential, []string{scope}, nil)
	}
	n.pipeline = runtime.NewPipeline("freshet", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{by}}, options)
	return nil
}

// call posts body and returns the answer's.
func (n *namespace) call(ctx context.Context, verb, path string, query url.Values, contentType string, body []byte) ([]byte, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("api-version", apiVersion)
	request, err := runtime.NewRequest(ctx, http.MethodPost, n.base+path+"?"+query.Encode())
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "%s %s: %w", verb, n, err)
	}
	if body != nil {
		if err := request.SetBody(streaming.NopCloser(bytes.NewReader(body)), contentType); err != nil {
			return nil, errkind.Errorf(errkind.Permanent, "%s %s: %w", verb, n, err)
		}
	}
	runtime.SkipBodyDownload(request)
	answer, err := n.pipeline.Do(request)
	if err != nil {
		return nil, n.failed(ctx, verb, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, n.failed(ctx, verb, err)
	case answer.StatusCode == http.StatusOK:
		return b, nil
	}
	return nil, errkind.Errorf(kindOf(answer.StatusCode), "%s %s: %s%s", verb, n, answer.Status, reason(b))
}

func (n *namespace) failed(ctx context.Context, verb string, err error) error {
	kind := endpoint.NetworkKind(err)
	var refused *azidentity.AuthenticationFailedError
	switch {
	case ctx.Err() != nil:
		kind = errkind.Of(ctx.Err())
	case errors.As(err, &refused):
		kind = errkind.Config
	case kind == errkind.Unknown:
		kind = errkind.Transient
	}
	return errkind.Errorf(kind, "%s %s: %w", verb, n, err)
}

func kindOf(status int) errkind.Kind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return errkind.Config
	case status == http.StatusNotFound:
		return errkind.NotFound
	case status == http.StatusTooManyRequests:
		return errkind.Throttled
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return errkind.Invalid
	case status == http.StatusRequestTimeout, status >= 500:
		return errkind.Transient
	}
	return errkind.Permanent
}

// reason is what an answer says about itself.
func reason(b []byte) string {
	var said struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(b, &said) != nil || said.Error.Code == "" {
		return ""
	}
	return ": " + said.Error.Code + ": " + said.Error.Message[:min(len(said.Error.Message), 300)]
}

// asked judges the call that Open makes, whose content means nothing: whether
// the service knows us and the topic is what counts.
func asked(err error) error {
	if errkind.Is(err, errkind.Invalid) {
		return nil
	}
	return err
}
