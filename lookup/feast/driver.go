package feast

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lookup"
)

const (
	maxKeys = 1000
	// maxAnswer bounds an answer in bytes, and maxReason what is read of an error.
	maxAnswer = 64 << 20
	maxReason = 4 << 10
	// dialTimeout bounds a connection where Options.Timeout does not.
	dialTimeout = 5 * time.Second
)

// Driver is a lookup.Driver for one feature view and entity.
type Driver struct {
	client   *http.Client
	endpoint string
	where    string // for errors
	key      string
	token    string
	fields   []lookup.Field
	features []string // view:field

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	mu      sync.Mutex
	closed  bool
	entity  entity
	running sync.WaitGroup
}

// entity is what kind of keys the server has.
type entity uint8

const (
	unknownEntity entity = iota
	textEntity
	intEntity
)

// Open returns a driver for a server: feast+http://host:port or feast+https://,
// with the server's path prefix behind it if it has one. Options.From is the
// feature view, Key the entity's join key, Token is sent as a bearer token.
// Options.Time is not used: features have times by themselves.
func Open(url string, o lookup.Options) (*Driver, error) {
	where := lookup.Redact(url)
	fault := func(format string, args ...any) error {
		return errkind.Errorf(errkind.Config, "open %s: %w", where, fmt.Errorf(format, args...))
	}
	if err := o.Validate(); err != nil {
		return nil, fault("%w", err)
	}
	u, err := lookup.ParseURL(url)
	scheme, isFeast := strings.CutPrefix(strings.SplitN(url, ":", 2)[0], "feast+")
	switch {
	case err != nil:
		return nil, fault("%w", err)
	case !isFeast || (scheme != "http" && scheme != "https") || u.Host == "":
		return nil, fault("expected feast+http://host:port or feast+https://host:port")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fault("the URL holds more than scheme, host and path: a token goes into the environment")
	case o.From == "" || strings.Contains(o.From, ":"):
		return nil, fault("name one feature view, without a colon")
	case o.Key == "":
		return nil, fault("the table has no key: name the entity's join key")
	case o.Time != "":
		return nil, fault("features have times of their own: leave the time field out")
	}
	dial := dialTimeout
	if o.Timeout > 0 {
		dial = min(o.Timeout, dial)
	}
	d := &Driver{
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: dial}).DialContext,
				TLSClientConfig:     o.TLS,
				TLSHandshakeTimeout: dial,
				MaxIdleConnsPerHost: 16,
				IdleConnTimeout:     time.Minute,
				ForceAttemptHTTP2:   true,
				Proxy:               http.ProxyFromEnvironment,
			},
			// A redirected POST loses its body or carries the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		endpoint: scheme + "://" + u.Host + strings.TrimSuffix(u.EscapedPath(), "/") + "/get-online-features",
		where:    where + " view " + o.From,
		key:      o.Key, token: o.Token, fields: o.Fields,
	}
	for _, f := range o.Fields {
		d.features = append(d.features, o.From+":"+f.Name)
	}
	d.ctx, d.end = context.WithCancel(context.Background())
	return d, nil
}

// Capabilities implements lookup.Driver.
func (d *Driver) Capabilities() lookup.Capabilities {
	return lookup.Capabilities{MaxKeys: maxKeys, Times: true}
}

// Fields implements lookup.Driver.
func (d *Driver) Fields() []lookup.Field { return d.fields }

// Get implements lookup.Driver.
func (d *Driver) Get(ctx context.Context, keys []string, rows *lookup.Rows) error {
	return d.do(ctx, func(ctx context.Context) error {
		kind, err := d.entityKind(ctx)
		if err != nil {
			return err
		}
		asked := make([]string, 0, len(keys))
		at := make([]int, 0, len(keys))
		for i, key := range keys {
			if holds(kind, key) {
				asked, at = append(asked, key), append(at, i)
			}
		}
		if len(asked) == 0 {
			return nil
		}
		a, err := d.ask(ctx, asked)
		if err != nil {
			return err
		}
		return d.fill(a, at, rows)
	})
}

// holds reports whether the entity can be key.
func holds(kind entity, key string) bool {
	if kind == intEntity {
		v, err := strconv.ParseInt(key, 10, 64)
		return err == nil && strconv.FormatInt(v, 10) == key
	}
	return utf8.ValidString(key) && strings.IndexByte(key, 0) < 0
}

// entityKind asks, once, for a key that both integers and strings can be.
func (d *Driver) entityKind(ctx context.Context) (entity, error) {
	d.mu.Lock()
	kind := d.entity
	d.mu.Unlock()
	if kind != unknownEntity {
		return kind, nil
	}
	a, err := d.ask(ctx, []string{"0"})
	if err != nil {
		return unknownEntity, err
	}
	kind = textEntity
	if i := a.column(d.key); i >= 0 && len(a.Results[i].Values) == 1 && string(a.Results[i].Values[0]) == "0" {
		kind = intEntity
	}
	d.mu.Lock()
	d.entity = kind
	d.mu.Unlock()
	return kind, nil
}

// do runs f under a context that ends with the driver, and gives its error a kind.
func (d *Driver) do(caller context.Context, f func(context.Context) error) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	}
	d.running.Add(1)
	d.mu.Unlock()
	defer d.running.Done()
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	err := f(ctx)
	switch {
	case err == nil:
		return nil
	case caller.Err() != nil:
		return fmt.Errorf("read %s: %w", d.where, caller.Err())
	case d.ctx.Err() != nil:
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	}
	return fmt.Errorf("read %s: %w", d.where, err)
}

// ask posts one request and reads its answer.
func (d *Driver) ask(ctx context.Context, keys []string) (*answer, error) {
	body, err := json.Marshal(request{Features: d.features, Entities: map[string][]string{d.key: keys}})
	if err != nil {
		return nil, errkind.With(errkind.Permanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, errkind.With(errkind.Config, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, networkError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, networkError(err)
	}
	if len(data) > maxAnswer {
		return nil, errkind.Errorf(errkind.Permanent, "the answer is larger than %d bytes", maxAnswer)
	}
	a := new(answer)
	if err := json.Unmarshal(data, a); err != nil {
		return nil, errkind.Errorf(errkind.Permanent, "the answer is not that of a feature server: %w", err)
	}
	if err := a.check(len(keys)); err != nil {
		return nil, err
	}
	return a, nil
}

// networkError gives a failure of the way to the server its kind.
func networkError(err error) error {
	switch k := lookup.NetworkKind(err); {
	case k == errkind.Canceled, k == errkind.Config:
		return errkind.With(k, err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http gives it no type
		return errkind.With(errkind.Config, err)
	}
	return errkind.With(errkind.Transient, err)
}

// statusError is the error of an answer other than 200.
func statusError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason)) // what could be read is better than nothing
	reason := reasonOf(text)
	kind := errkind.Permanent
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		kind = errkind.Throttled
	case code == http.StatusInternalServerError && isConfig(reason):
		kind = errkind.Config
	case code >= 500, code == http.StatusRequestTimeout:
		kind = errkind.Transient
	case code >= 300: // redirects, credentials, paths, views that do not exist, requests that are not understood
		kind = errkind.Config
	}
	return errkind.Errorf(kind, "the server answers %s: %s", resp.Status, reason)
}

// isConfig tells the mistakes that Feast's Python server reports as internal errors.
func isConfig(reason string) bool {
	for _, s := range []string{"not found in projection", "Missing join key", "does not exist", "invalid literal for int()"} {
		if strings.Contains(reason, s) {
			return true
		}
	}
	return false
}

// reasonOf takes the message out of an error's body: Feast sends a JSON string
// that holds, for its own errors, JSON again.
func reasonOf(body []byte) string {
	text := strings.TrimSpace(string(body))
	var s string
	if json.Unmarshal(body, &s) == nil {
		text = s
	}
	var own struct {
		Message string `json:"message"`
		Detail  any    `json:"detail"`
	}
	if json.Unmarshal([]byte(text), &own) == nil {
		switch {
		case own.Message != "":
			text = own.Message
		case own.Detail != nil:
			text = fmt.Sprint(own.Detail)
		}
	}
	const limit = 300
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	if text == "" {
		text = "no reason given"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// Check implements lookup.Driver: it asks for a key as Get does.
func (d *Driver) Check(ctx context.Context) error {
	return d.do(ctx, func(ctx context.Context) error {
		a, err := d.ask(ctx, []string{"0"})
		if err != nil {
			return err
		}
		for _, f := range d.fields {
			if a.column(f.Name) < 0 {
				return errkind.Errorf(errkind.Config, "the view has no feature %q", f.Name)
			}
		}
		return nil
	})
}

// Close implements lookup.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.running.Wait()
	d.client.CloseIdleConnections()
	return nil
}
