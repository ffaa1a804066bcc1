package openai

import (
	"encoding/json"
	"math"
	"slices"
	"text/template"
	"time"

	"github.com/freshet-io/freshet/inference/internal/settings"
)

const (
	chat        = "chat"
	completions = "completions"
	embeddings  = "embeddings"
)

// config is the settings, read.
type config struct {
	api, model, system string
	prompt             *template.Template // nil: the default
	promptText         string
	schema             *schema // nil: the answer is text
	schemaAs           string
	temperature        float64
	topP               float64
	maxTokens          int
	maxTokensAs        string
	seed               int
	hasSeed            bool
	stop               []string
	stream             bool
	width, dimensions  int
	batch, slots       int
	timeout            time.Duration
	maxAnswer          int
	extra              map[string]any
	version            string

	tokensPerMinute, costPerMinute float64
	inputPrice, outputPrice        float64 // of one token
	wait                           time.Duration
}

// own are the fields of a request that extra may not set.
var own = []string{"model", "messages", "prompt", "input", "stream", "stream_options", "response_format", "n", "temperature",
	"top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "dimensions", "encoding_format", "tools", "functions", "echo", "best_of"}

func readSettings(where string, values map[string]any) (*config, error) {
	s := settings.Read(where, values)
	c := &config{
		api:        s.Choice("api", chat, completions, embeddings),
		model:      s.String("model", ""),
		promptText: s.String("prompt", ""),
		slots:      s.Int("concurrency", 8, 1),
		timeout:    s.Duration("timeout", time.Minute),
		wait:       2 * time.Second,
		version:    s.String("version", ""),
	}
	if c.api == embeddings {
		c.batch = s.Int("batch", 64, 1)
		c.maxAnswer = s.Int("max_answer", 64<<20, 1)
		c.dimensions = s.Int("dimensions", 0, 1)
		c.width = s.Int("width", c.dimensions, 1)
		if c.dimensions > 0 && c.width != c.dimensions {
			s.Fail("width", "it is what dimensions asks for, %d", c.dimensions)
		}
		if c.width > maxWidth {
			s.Fail("width", "an embedding has %d numbers at most", maxWidth)
		}
	} else {
		c.readChat(s)
	}
	c.readBudget(s)
	extra := s.Map("extra")
	for _, key := range extra.Keys() {
		if slices.Contains(own, key) {
			extra.Fail(key, "it is set by a setting of its own, or not at all")
		}
		if c.extra == nil {
			c.extra = map[string]any{}
		}
		c.extra[key] = extra.Any(key)
	}
	if _, err := json.Marshal(c.extra); err != nil {
		s.Fail("extra", "it cannot be sent as JSON: %v", err)
	}
	if c.promptText != "" {
		var err error
		if c.prompt, err = parsePrompt(c.promptText); err != nil {
			s.Fail("prompt", "%w", err)
		}
	}
	return c, s.Done()
}

func (c *config) readChat(s *settings.Settings) {
	c.batch = s.Int("batch", 16, 1)
	c.maxAnswer = s.Int("max_answer", 1<<20, 1)
	c.temperature = s.Float("temperature", 0, 0, 2)
	c.topP = s.Float("top_p", 0, 0, 1)
	c.maxTokens = s.Int("max_tokens", 512, 1)
	c.maxTokensAs = s.Choice("max_tokens_as", "max_tokens", "max_completion_tokens")
	c.hasSeed = s.Has("seed")
	c.seed = s.Int("seed", 0, 0)
	c.stop = s.Strings("stop")
	c.stream = s.Bool("stream", false)
	if c.api != chat {
		return
	}
	c.system = s.String("system", "")
	c.schemaAs = s.Choice("schema_as", "json_schema", "json_object", "none")
	if s.Has("schema") {
		var err error
		if c.schema, err = newSchema(s.Any("schema")); err != nil {
			s.Fail("schema", "%w", err)
		}
	}
}

func (c *config) readBudget(s *settings.Settings) {
	b := s.Map("budget")
	c.tokensPerMinute = b.Float("tokens_per_minute", 0, 1, math.MaxInt32)
	c.costPerMinute = b.Float("cost_per_minute", 0, 0, math.Inf(1))
	c.wait = b.Duration("wait", c.wait)
	p := b.Map("price")
	c.inputPrice = p.Float("input", 0, 0, math.Inf(1)) / 1e6
	c.outputPrice = p.Float("output", 0, 0, math.Inf(1)) / 1e6
	if b.Has("cost_per_minute") && c.inputPrice == 0 && c.outputPrice == 0 {
		b.Fail("cost_per_minute", "say what tokens cost: price: {input: 0.15, output: 0.6} for a million each")
	}
	if t := float64(c.maxTokens); c.tokensPerMinute > 0 && t > c.tokensPerMinute {
		b.Fail("tokens_per_minute", "one answer may have max_tokens, %d: no call would fit", c.maxTokens)
	}
	if t := float64(c.maxTokens) * c.outputPrice; c.costPerMinute > 0 && t > c.costPerMinute {
		b.Fail("cost_per_minute", "one answer of max_tokens may cost %v: no call would fit", t)
	}
}

func (c *config) cost(input, output int) float64 {
	return float64(input)*c.inputPrice + float64(output)*c.outputPrice
}
