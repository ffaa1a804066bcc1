package oip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/jsontensor"
	"github.com/freshet-io/freshet/inference/internal/web"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// headLength says how much of a body with raw contents is JSON.
const headLength = "Inference-Header-Content-Length"

// keepBytes is the size above which the memory of an answer is not kept for the next.
const keepBytes = 4 << 20

// httpClient talks to one server by HTTP.
type httpClient struct {
	c     *config
	web   *web.Client
	url   string // of the model
	auth  func(*http.Request)
	m     *model
	tail  []byte // of a request: the outputs wanted, and parameters
	spare sync.Pool
	size  atomic.Int64 // of the last request
	calls atomic.Uint64
}

func newHTTP(c *config, e *endpoint.Endpoint, host, prefix, token string) *httpClient {
	base := "http://"
	if e.TLS() != nil {
		base = "https://"
	}
	base += host + "/"
	if prefix != "" {
		base += (&url.URL{Path: prefix}).EscapedPath() + "/"
	}
	h := &httpClient{c: c, url: base + "v2/models/" + url.PathEscape(c.model)}
	if c.version != "" {
		h.url += "/versions/" + url.PathEscape(c.version)
	}
	h.auth = func(r *http.Request) {
		switch {
		case token != "":
			r.Header.Set("Authorization", "Bearer "+token)
		case e.User != "" || e.Password != "":
			r.SetBasicAuth(e.User, e.Password)
		}
	}
	h.web = web.New(web.Config{
		Where: "model " + c.model + " at " + host, TLS: e.TLS(), Connections: c.slots, MaxAnswer: int64(c.maxAnswer),
	})
	return h
}

func (h *httpClient) close() error {
	h.web.Close()
	return nil
}

func (h *httpClient) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, h.web.Errorf(errkind.Config, "the URL cannot be used")
	}
	if h.c.host != "" {
		req.Host = h.c.host
	}
	req.Header.Set("Accept", "application/json")
	h.auth(req)
	// A call may be made twice: where the server closed a kept connection, it is, at once.
	req.Header["X-Idempotency-Key"] = nil // which is not sent
	return req, nil
}

// get asks for a document; an answer that is no JSON is Permanent.
func (h *httpClient) get(ctx context.Context, path string, v any) error {
	req, err := h.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := h.web.Call(req, &buf); err != nil {
		return err
	}
	if buf.Len() == 0 {
		return nil
	}
	if err := json.Unmarshal(buf.Bytes(), v); err != nil {
		return h.web.Errorf(errkind.Permanent, "%s answers what is no description of a model: %s", h.url+path, web.Shown(buf.Bytes()))
	}
	return nil
}

func (h *httpClient) describe(ctx context.Context) (*description, error) {
	d := &description{}
	err := h.get(ctx, "", d)
	if err == nil && d.Name == "" {
		err = h.web.Errorf(errkind.Permanent, "what answers speaks HTTP, but not the Open Inference Protocol")
	}
	return d, err
}

func (h *httpClient) ready(ctx context.Context) (bool, error) {
	said := struct{ Ready *bool }{}
	err := h.get(ctx, "/ready", &said)
	var status *web.StatusError
	if errors.As(err, &status) {
		switch kind := errkind.Of(err); {
		case kind == errkind.Invalid, status.Code >= 500:
			return false, nil
		}
	}
	return said.Ready == nil || *said.Ready, err
}

func (h *httpClient) use(m *model) {
	h.m = m
	b := []byte(`],"outputs":[`)
	for i := range m.outputs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = jsontensor.AppendText(b, m.outputs[i].sig.Name)
		if h.c.binary {
			b = append(b, `,"parameters":{"binary_data":true}`...)
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	b = appendJSONParameters(b, h.c.params, -1)
	b = append(b, '}')
	h.tail = b
}

// appendJSONParameters writes ,"parameters":{…}; raw is the size of the raw contents, or negative.
func appendJSONParameters(b []byte, params []parameter, raw int) []byte {
	if len(params) == 0 && raw < 0 {
		return b
	}
	b = append(b, `,"parameters":{`...)
	for i, p := range params {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsontensor.AppendText(b, p.name), ':')
		v, err := json.Marshal(p.value)
		if err != nil { // none of the values that settings allow
			v = []byte("null")
		}
		b = append(b, v...)
	}
	if raw >= 0 {
		if len(params) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `"binary_data_size":`...), int64(raw), 10)
	}
	return append(b, '}')
}

// write makes the body of a request, and says how much of it is JSON. Some servers
// cannot answer a request without an id.
func (h *httpClient) write(b []byte, id string, n int, in []inference.Tensor) ([]byte, int, error) {
	var scratch [maxRank]int
	b = append(append(append(b, `{"id":"`...), id...), `","inputs":[`...)
	for i := range in {
		p := &h.m.inputs[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsontensor.AppendText(append(b, `{"name":`...), p.sig.Name), `,"shape":[`...)
		count := 1
		for j, d := range p.wireShape(scratch[:0], n, &in[i]) {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(d), 10)
			count *= d
		}
		b = append(append(append(b, `],"datatype":"`...), p.dt.name...), '"')
		if h.c.binary {
			b = appendJSONParameters(b, p.params, p.dt.rawSize(&in[i], count))
		} else {
			b = appendJSONParameters(b, p.params, -1)
			b = append(b, `,"data":`...)
			var err error
			if b, err = h.c.nan.AppendFlat(b, &in[i], count); err != nil {
				return b, 0, fmt.Errorf("input %q: %w", p.sig.Name, err)
			}
		}
		b = append(b, '}')
	}
	b = append(b, h.tail...)
	head := len(b)
	if h.c.binary {
		for i := range in {
			dt := h.m.inputs[i].dt
			count := 1
			for _, d := range in[i].Shape {
				count *= d
			}
			if need := len(b) + dt.rawSize(&in[i], count); cap(b) < need {
				b = append(make([]byte, 0, need), b...)
			}
			b = dt.appendRaw(b, &in[i])
		}
	}
	return b, head, nil
}

func (h *httpClient) infer(ctx context.Context, n int, in, out []inference.Tensor) error {
	// Of its own for each call: the client may read it for a moment after the answer.
	id := strconv.FormatUint(h.calls.Add(1), 10)
	body, head, err := h.write(make([]byte, 0, h.size.Load()), id, n, in)
	if err != nil {
		return h.web.Errorf(errkind.Of(err), "%w", err)
	}
	h.size.Store(int64(len(body)))
	req, err := h.request(ctx, http.MethodPost, "/infer", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if h.c.binary {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set(headLength, strconv.Itoa(head))
	}
	resp, err := h.web.Send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	buf, _ := h.spare.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	defer func() {
		if buf.Cap() <= keepBytes {
			h.spare.Put(buf)
		}
	}()
	text, err := h.web.Body(resp, buf)
	if err != nil {
		return err
	}
	var raw []byte
	if v := resp.Header.Get(headLength); v != "" {
		size, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || size < 0 || size > len(text) {
			return h.web.Errorf(errkind.Permanent, "the answer has %d bytes and says that %s of them are JSON", len(text), web.Shown([]byte(v)))
		}
		text, raw = text[:size], text[size:]
	}
	if err := h.read(text, raw, id, n, out); err != nil {
		return h.web.Errorf(errkind.Permanent, "%w: %s", err, web.Shown(text))
	}
	return nil
}
