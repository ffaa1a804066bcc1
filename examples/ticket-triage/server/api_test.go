package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func client(t *testing.T, a *api) openai.Client {
	if a.now == nil {
		a.now = time.Now
	}
	s := httptest.NewServer(a.handler())
	t.Cleanup(s.Close)
	return openai.NewClient(option.WithBaseURL(s.URL+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
}

func question(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: chatModel, Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Sort."), openai.UserMessage(text)}}
}

func TestTheOfficialClientUnderstandsTheServer(t *testing.T) {
	c := client(t, &api{})
	models, err := c.Models.List(t.Context())
	if err != nil || len(models.Data) != 2 || models.Data[0].ID != chatModel {
		t.Fatalf("%+v %v", models, err)
	}
	const ticket = "Refund\n\nI was charged twice, this is urgent, production is down"
	whole, err := c.Chat.Completions.New(t.Context(), question(ticket))
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal([]byte(whole.Choices[0].Message.Content), &a); err != nil || a.Category != "billing" || a.Urgency != "high" || a.Score < 0.7 {
		t.Errorf("%+v %v", a, err)
	}
	if u := whole.Usage; u.PromptTokens == 0 || u.CompletionTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens || whole.Choices[0].FinishReason != "stop" {
		t.Errorf("%+v", whole)
	}
	stream := c.Chat.Completions.NewStreaming(t.Context(), question(ticket))
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Fatalf("a chunk does not fit: %+v", stream.Current())
		}
	}
	if err := stream.Err(); err != nil || acc.Choices[0].Message.Content != whole.Choices[0].Message.Content || acc.Usage.TotalTokens != whole.Usage.TotalTokens {
		t.Errorf("%+v %v", acc, err)
	}
	e, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: embeddingModel,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a refund please", "A refund, please!", "parcel"}}})
	if err != nil || len(e.Data) != 3 || len(e.Data[0].Embedding) != width || e.Usage.PromptTokens == 0 {
		t.Fatalf("%+v %v", e, err)
	}
	dot := func(i, j int) (sum float64) {
		for k := range width {
			sum += e.Data[i].Embedding[k] * e.Data[j].Embedding[k]
		}
		return sum
	}
	if math.Abs(dot(0, 1)-1) > 1e-5 || dot(0, 2) > 0.9 {
		t.Errorf("likeness %v and %v", dot(0, 1), dot(0, 2))
	}
}

func TestRefusalsAreThoseOfTheAPI(t *testing.T) {
	now := time.Unix(0, 0)
	c := client(t, &api{rpm: 1, now: func() time.Time { return now }})
	if _, err := c.Chat.Completions.New(t.Context(), question("x")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Chat.Completions.New(t.Context(), question("x"))
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusTooManyRequests || refused.Response.Header.Get("Retry-After") != "60" || refused.Type != "rate_limit_error" {
		t.Errorf("%v", err)
	}
	now = now.Add(time.Minute)
	q := question("x")
	q.Model = "gpt"
	if _, err := c.Chat.Completions.New(t.Context(), q); !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
		t.Errorf("%v", err)
	}
}

func TestItRunsUntilItIsStopped(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, "127.0.0.1:0", &api{now: time.Now}) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("%q %v", line, err)
	}
	resp, err := http.Get("http://" + address + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
