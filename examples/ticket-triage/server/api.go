package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The models that the server says it has.
const (
	chatModel      = "keywords"
	embeddingModel = "bag-of-words"
)

const maxBody = 4 << 20

type api struct {
	delay time.Duration
	rpm   int
	now   func() time.Time

	mu     sync.Mutex
	minute time.Time
	count  int
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens,omitempty"`
	Total      int `json:"total_tokens"`
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		var data []map[string]any
		for _, id := range []string{chatModel, embeddingModel} {
			data = append(data, map[string]any{"id": id, "object": "model", "created": 0, "owned_by": "example"})
		}
		reply(w, map[string]any{"object": "list", "data": data})
	})
	mux.HandleFunc("POST /v1/chat/completions", a.chat)
	mux.HandleFunc("POST /v1/embeddings", a.embeddings)
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

func refuse(w http.ResponseWriter, status int, kind, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": fmt.Sprintf(format, args...), "type": kind, "param": nil, "code": nil}})
}

// read takes a request apart and waits as long as a model would think.
func (a *api) read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v); err != nil {
		refuse(w, http.StatusBadRequest, "invalid_request_error", "the request cannot be read: %v", err)
		return false
	}
	if a.delay > 0 {
		t := time.NewTimer(a.delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return false
		}
	}
	return true
}

// admit counts a request of this minute; otherwise it is how long until the next.
func (a *api) admit() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Sub(a.minute) >= time.Minute {
		a.minute, a.count = now, 0
	}
	if a.rpm > 0 && a.count >= a.rpm {
		return a.minute.Add(time.Minute).Sub(now)
	}
	a.count++
	return 0
}

func (a *api) chat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model    string
		Messages []struct{ Role, Content string }
		Stream   bool
	}
	if rest := a.admit(); rest > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(math.Ceil(rest.Seconds())))
		refuse(w, http.StatusTooManyRequests, "rate_limit_error", "no more than %d requests a minute", a.rpm)
		return
	}
	if !a.read(w, r, &q) {
		return
	}
	var ticket string
	in := 0
	for _, m := range q.Messages {
		in += 4 + tokens(m.Content)
		if m.Role == "user" {
			ticket = m.Content
		}
	}
	switch {
	case q.Model != chatModel:
		refuse(w, http.StatusNotFound, "invalid_request_error", "there is no model %q for chats; there is %s", q.Model, chatModel)
		return
	case ticket == "":
		refuse(w, http.StatusBadRequest, "invalid_request_error", "there is no message of a user")
		return
	}
	text, _ := json.Marshal(sort(ticket))
	u := usage{Prompt: in, Completion: tokens(string(text))}
	u.Total = u.Prompt + u.Completion
	if q.Stream {
		stream(w, string(text), u)
		return
	}
	reply(w, map[string]any{
		"id": "chatcmpl-0", "object": "chat.completion", "created": a.now().Unix(), "model": chatModel, "usage": u,
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": string(text), "refusal": nil}}},
	})
}

// stream writes an answer in pieces, as events.
func stream(w http.ResponseWriter, text string, u usage) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(choices []any, u any) {
		b, _ := json.Marshal(map[string]any{"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": chatModel, "choices": choices, "usage": u})
		fmt.Fprintf(w, "data: %s\n\n", b)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	delta := func(d map[string]any, finish any) []any {
		return []any{map[string]any{"index": 0, "delta": d, "finish_reason": finish}}
	}
	send(delta(map[string]any{"role": "assistant", "content": ""}, nil), nil)
	for _, word := range strings.SplitAfter(text, ",") {
		send(delta(map[string]any{"content": word}, nil), nil)
	}
	send(delta(map[string]any{}, "stop"), nil)
	send([]any{}, u)
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func (a *api) embeddings(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model  string
		Input  texts
		Format string `json:"encoding_format"`
	}
	if !a.read(w, r, &q) {
		return
	}
	if q.Model != embeddingModel {
		refuse(w, http.StatusNotFound, "invalid_request_error", "there is no model %q for embeddings; there is %s", q.Model, embeddingModel)
		return
	}
	data := []any{}
	u := usage{}
	for i, text := range q.Input {
		u.Prompt += tokens(text)
		var e any = embed(text)
		if q.Format == "base64" {
			var raw []byte
			for _, x := range embed(text) {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			e = base64.StdEncoding.EncodeToString(raw)
		}
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": e})
	}
	u.Total = u.Prompt
	reply(w, map[string]any{"object": "list", "model": embeddingModel, "data": data, "usage": u})
}

// texts is one text or a list of them.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// tokens is about what a tokeniser would count.
func tokens(text string) int { return (len(text) + 3) / 4 }
