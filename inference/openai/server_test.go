package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

// server speaks the API as vLLM and OpenAI do, and answers by the prompt alone.
type server struct {
	url   string
	calls atomic.Int64
	mu    sync.Mutex
	asked []map[string]any
	// before may answer a request in the server's stead.
	before func(w http.ResponseWriter, r *http.Request, body map[string]any) bool
	// say is the answer to a prompt.
	say func(prompt string) string
	// noUsage leaves the counts out; asBase64 sends embeddings so.
	noUsage, asBase64 bool
	trouble           atomic.Pointer[http.HandlerFunc]
}

// become answers everything but the list of models by h from now on; nil ends that.
func (s *server) become(h http.HandlerFunc) func(testing.TB, inference.Driver) {
	return func(testing.TB, inference.Driver) { s.trouble.Store(&h) }
}

// faults are what a server can do to its callers.
func (s *server) faults() []inferencetest.Fault {
	say := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	hang := func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
	}
	return []inferencetest.Fault{
		{Name: "connections cut", Kind: errkind.Transient, Provoke: s.become(hang), Recover: s.become(nil)},
		{Name: "overloaded", Kind: errkind.Throttled, RetryAfter: time.Second, Provoke: s.become(say(429, `{"error":{"message":"slow down"}}`)), Recover: s.become(nil)},
		{Name: "refused rows", Kind: errkind.Invalid, Provoke: s.become(say(400, `{"error":{"message":"too long"}}`)), Recover: s.become(nil)},
		{Name: "refused key", Kind: errkind.Config, Provoke: s.become(say(401, `{"error":{"message":"no"}}`)), Recover: s.become(nil)},
		{Name: "garbage", Kind: errkind.Permanent, Provoke: s.become(say(200, "data: <html>\n\n")), Recover: s.become(nil)},
	}
}

// freeze holds all requests until thaw is called.
func (s *server) freeze(testing.TB, inference.Driver) (thaw func()) {
	warm := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-warm:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	})
	s.trouble.Store((*http.HandlerFunc)(&h))
	return func() {
		s.become(nil)(nil, nil)
		close(warm)
	}
}

const width = 4

func answerOf(prompt string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(prompt))
	v := h.Sum64()
	category := []string{"billing", "technical", "other"}[v%3]
	return fmt.Sprintf(`{"category": %q, "score": %v, "urgent": %v, "level": %d}`, category, float64(v%1000)/1000, v%2 == 0, v%5)
}

func vectorOf(text string) [width]float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	v := h.Sum64()
	return [width]float32{float32(v % 7), float32(v % 11), -float32(v % 13), 0.1}
}

func start(t testing.TB) *server {
	s := &server{say: answerOf}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		if s.before != nil && s.before(w, r, nil) {
			return
		}
		_, _ = w.Write([]byte(`{"object":"list","data":[{"id":"tiny","object":"model","created":1,"owned_by":"test"}]}`))
	})
	for path, h := range map[string]func(http.ResponseWriter, map[string]any){
		"/v1/chat/completions": s.chat, "/v1/completions": s.complete, "/v1/embeddings": s.embed,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if h := s.trouble.Load(); h != nil && *h != nil {
				(*h)(w, r)
				return
			}
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				http.Error(w, `{"error":{"message":"no JSON"}}`, http.StatusBadRequest)
				return
			}
			s.calls.Add(1)
			s.mu.Lock()
			s.asked = append(s.asked, body)
			s.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			if s.before == nil || !s.before(w, r, body) {
				h(w, body)
			}
		})
	}
	hs := httptest.NewServer(mux)
	t.Cleanup(func() { hs.CloseClientConnections(); hs.Close() })
	s.url = strings.Replace(hs.URL, "http://", "openai://", 1) + "/v1"
	return s
}

func (s *server) usage(in, out int) string {
	if s.noUsage {
		return "null"
	}
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, in, out, in+out)
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func (s *server) chat(w http.ResponseWriter, body map[string]any) {
	messages := body["messages"].([]any)
	prompt := messages[len(messages)-1].(map[string]any)["content"].(string)
	text := s.say(prompt)
	if body["stream"] != true {
		fmt.Fprintf(w, `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"tiny-1","choices":[{"index":0,"message":{"role":"assistant","content":%s,"refusal":null,"tool_calls":[]},"logprobs":null,"finish_reason":"stop"}],"usage":%s}`,
			quote(text), s.usage(10, 20))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	const event = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"tiny-1\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}],\"usage\":null}\n\n"
	fmt.Fprint(w, ": keep-alive\n\n")
	fmt.Fprintf(w, event, `{"role":"assistant","content":""}`, "null")
	for len(text) > 0 {
		n := min(5, len(text))
		fmt.Fprintf(w, event, `{"content":`+quote(text[:n])+`}`, "null")
		w.(http.Flusher).Flush()
		text = text[n:]
	}
	fmt.Fprintf(w, event, `{}`, `"stop"`)
	fmt.Fprintf(w, "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"tiny-1\",\"choices\":[],\"usage\":%s}\r\n\r\n", s.usage(10, 20))
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func (s *server) complete(w http.ResponseWriter, body map[string]any) {
	text := s.say(body["prompt"].(string))
	if body["stream"] == true {
		fmt.Fprintf(w, "data: {\"model\":\"tiny-1\",\"choices\":[{\"index\":0,\"text\":%s,\"finish_reason\":null}]}\n\n", quote(text))
		fmt.Fprint(w, "data: {\"model\":\"tiny-1\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
		return
	}
	fmt.Fprintf(w, `{"id":"cmpl-1","object":"text_completion","created":1,"model":"tiny-1","choices":[{"index":0,"text":%s,"logprobs":null,"finish_reason":"stop"}],"usage":%s}`,
		quote(text), s.usage(5, 7))
}

func (s *server) embed(w http.ResponseWriter, body map[string]any) {
	var data []string
	for i, text := range body["input"].([]any) {
		v := vectorOf(text.(string))
		e, _ := json.Marshal(v)
		if s.asBase64 {
			var raw []byte
			for _, x := range v {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			e, _ = json.Marshal(base64.StdEncoding.EncodeToString(raw))
		}
		data = append([]string{fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, e)}, data...) // last first
	}
	fmt.Fprintf(w, `{"object":"list","data":[%s],"model":"tiny-1","usage":{"prompt_tokens":%d,"total_tokens":%d}}`, strings.Join(data, ","), 3*len(data), 3*len(data))
}

func schemaSetting() map[string]any {
	return map[string]any{"type": "object", "properties": map[string]any{
		"category": map[string]any{"type": "string", "enum": []any{"billing", "technical", "other"}},
		"score":    map[string]any{"type": "number", "minimum": 0, "maximum": 1},
		"urgent":   map[string]any{"type": "boolean"},
		"level":    map[string]any{"type": "integer"},
	}}
}

var ticket = []inference.Signature{{Name: "subject", Type: inference.String}, {Name: "age", Type: inference.Float64}}

func tryOpen(t testing.TB, url string, settings map[string]any) (*Driver, error) {
	t.Helper()
	return Open(t.Context(), url, Options{Settings: settings, Inputs: ticket, Env: func(name string) (string, bool) { return "sk-hidden", name == "KEY" }})
}

func open(t testing.TB, s *server, settings map[string]any) *Driver {
	t.Helper()
	d, err := tryOpen(t, s.url, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func rows(subjects ...string) []inference.Tensor {
	return []inference.Tensor{
		{Type: inference.String, Shape: []int{len(subjects)}, Str: subjects},
		{Type: inference.Float64, Shape: []int{len(subjects)}, F64: make([]float64, len(subjects))},
	}
}
