package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// tokens gives the bearer token of OAUTHBEARER: from a file or a variable, read
// anew at each connection, or from an OpenID provider's token endpoint by client
// credentials, kept until shortly before it expires.
type tokens struct {
	endpoint             *endpoint.Endpoint
	file, variable       string
	url, scope, audience string
	user, password       string
	env                  func(string) (string, bool)
	client               *http.Client

	mu    sync.Mutex
	value string
	until time.Time
}

func newHTTPClient(timeout time.Duration) *http.Client { return &http.Client{Timeout: timeout} }

// check reports options that do not fit together.
func (t *tokens) check() error {
	given := 0
	for _, v := range []string{t.file, t.variable, t.url} {
		if v != "" {
			given++
		}
	}
	if given != 1 {
		return errkind.Errorf(errkind.Config, "%s: sasl=oauthbearer needs one of the options token_file, token_env and token_url", t.endpoint)
	}
	if t.url == "" {
		_, err := t.token(context.Background())
		return err
	}
	u, err := url.Parse(t.url)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		return errkind.Errorf(errkind.Config, "%s: option token_url: expected https://host/path without a user", t.endpoint)
	}
	if t.user == "" || t.password == "" {
		return errkind.Errorf(errkind.Config, "%s: option token_url needs the client's id as user and its secret as password (password_env or password_file)", t.endpoint)
	}
	return nil
}

func (t *tokens) token(ctx context.Context) (string, error) {
	switch {
	case t.file != "":
		b, err := os.ReadFile(t.file)
		if err != nil {
			return "", errkind.Errorf(errkind.Config, "%s: option token_file: %w", t.endpoint, err)
		}
		return t.checked(strings.TrimSpace(string(b)), "the file of token_file")
	case t.variable != "":
		v, _ := t.env(t.variable)
		return t.checked(strings.TrimSpace(v), "the variable of token_env")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value != "" && time.Now().Before(t.until) {
		return t.value, nil
	}
	if err := t.request(ctx); err != nil {
		return "", err
	}
	return t.value, nil
}

func (t *tokens) checked(token, where string) (string, error) {
	if token == "" {
		return "", errkind.Errorf(errkind.Config, "%s: %s holds no token", t.endpoint, where)
	}
	return token, nil
}

// maxAnswer bounds what is read of a provider's answer.
const maxAnswer = 1 << 20

// request asks the provider; t.mu is held.
func (t *tokens) request(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, v := range map[string]string{"scope": t.scope, "audience": t.audience} {
		if v != "" {
			form.Set(name, v)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, strings.NewReader(form.Encode()))
	if err != nil {
		return errkind.Errorf(errkind.Config, "%s: option token_url: %w", t.endpoint, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// RFC 6749, section 2.3.1: both are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(t.user), url.QueryEscape(t.password))
	resp, err := t.client.Do(req)
	if err != nil {
		return errkind.Errorf(kindOf(err), "%s: ask for a token: %w", t.endpoint, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return errkind.Errorf(errkind.Transient, "%s: read the token: %w", t.endpoint, err)
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return errkind.Errorf(errkind.Throttled, "%s: the provider of tokens answered %s", t.endpoint, resp.Status)
	case resp.StatusCode >= 500:
		return errkind.Errorf(errkind.Transient, "%s: the provider of tokens answered %s", t.endpoint, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return errkind.Errorf(errkind.Config, "%s: the provider of tokens refused the client: %s", t.endpoint, resp.Status)
	}
	if err := t.take(body); err != nil {
		return errkind.Errorf(errkind.Config, "%s: the answer of token_url: %w", t.endpoint, err)
	}
	return nil
}

// take reads a token response of RFC 6749, section 5.1.
func (t *tokens) take(body []byte) error {
	var a struct {
		Token   string  `json:"access_token"`
		Expires float64 `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("expected JSON with access_token: %w", err)
	}
	if a.Token == "" {
		return fmt.Errorf("expected JSON with access_token, which is missing")
	}
	const most = 24 * 3600
	expires := min(max(a.Expires, 0), most)
	if a.Expires == 0 {
		expires = 60
	}
	t.value = a.Token
	t.until = time.Now().Add(time.Duration(expires * 0.8 * float64(time.Second)))
	return nil
}
