package openai

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/internal/web"
)

// Options is what a driver is opened with.
type Options struct {
	// Settings are the pipeline's options; see the package's comment.
	Settings map[string]any
	// Inputs are the model's inputs, by which the prompt names them: Shape nil for
	// one value a row. At least one is needed.
	Inputs []inference.Signature
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// Driver is one model of one server.
type Driver struct {
	meta   inference.Metadata
	c      *config
	client *web.Client
	gate   *tensors.Gate
	calls  chan struct{} // requests on their way
	base   string
	token  string
	pacer  pacer
	recall recall
	// perByte is how many tokens a byte of a request came to, as bits of a float64.
	perByte  atomic.Uint64
	counters counters
}

var _ inference.Driver = (*Driver)(nil)

// Metadata implements inference.Driver.
func (d *Driver) Metadata() inference.Metadata { return d.meta }

// Concurrency implements inference.Driver.
func (d *Driver) Concurrency() int { return d.c.slots }

// Close implements inference.Driver.
func (d *Driver) Close() error {
	if d.gate.Close() {
		d.client.Close()
	}
	return nil
}

// Infer implements inference.Driver: a request for each row, several at a time, or one
// for them all where they are embedded.
func (d *Driver) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if err := d.gate.Enter(ctx); err != nil {
		return err
	}
	defer d.gate.Leave()
	n, err := tensors.Check(&d.meta, in, out)
	if err != nil {
		return err
	}
	for i := range out {
		tensors.Make(&out[i], &d.meta.Outputs[i], n)
	}
	switch {
	case n == 0:
		return nil
	case d.c.api == embeddings:
		err = d.embed(ctx, in, out, n)
	default:
		err = d.rows(ctx, in, out, n)
	}
	if err != nil {
		return fmt.Errorf("model %q: %w", d.meta.Name, err)
	}
	return nil
}

// rows asks about each row. Where one fails, so does the batch; what the others
// brought is kept for when they are given again.
func (d *Driver) rows(ctx context.Context, in, out []inference.Tensor, n int) error {
	keys := make([][sha256.Size]byte, n)
	outcomes := make([]outcome, n)
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			keys[i], outcomes[i] = d.row(ctx, in, i)
		}
	}
	var others sync.WaitGroup
	for range min(n, d.c.slots) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()

	worst := -1
	for i := range outcomes {
		if err := outcomes[i].err; err != nil && (worst < 0 || rank(err) > rank(outcomes[worst].err)) {
			worst = i
		}
	}
	if worst < 0 {
		for i := range outcomes {
			for j, v := range outcomes[i].values {
				set(&out[j], i, v)
			}
		}
		return nil
	}
	if n > 1 {
		for i, o := range outcomes {
			if o.said {
				d.recall.put(keys[i], o)
			}
		}
		return fmt.Errorf("row %d: %w", worst, outcomes[worst].err)
	}
	return outcomes[0].err
}

// rank orders errors by what the caller should hear of first.
func rank(err error) int {
	switch errkind.Of(err) {
	case errkind.Canceled, errkind.Closed:
		return 4
	case errkind.Config, errkind.NotFound, errkind.Exhausted:
		return 3
	case errkind.Transient, errkind.Throttled:
		return 2
	}
	return 1
}

func (d *Driver) row(ctx context.Context, in []inference.Tensor, i int) (key [sha256.Size]byte, o outcome) {
	text, err := d.text(in, i)
	if err != nil {
		return key, outcome{err: err}
	}
	body, err := d.body(text)
	if err != nil {
		return key, outcome{err: err}
	}
	key = sha256.Sum256(body)
	if o, ok := d.recall.take(key); ok {
		d.counters.count(&d.counters.stats.Recalled)
		return key, o
	}
	path := "/chat/completions"
	if d.c.api == completions {
		path = "/completions"
	}
	var s said
	err = d.call(ctx, path, body, d.c.maxTokens, func(resp *http.Response, began time.Time) (*usage, string, int, error) {
		if !d.c.stream {
			data, err := d.client.Body(resp, new(bytes.Buffer))
			if err == nil {
				err = s.read(data)
			}
			return s.usage, s.model, len(s.text), err
		}
		err := s.stream(resp.Body, d.c.maxAnswer, d.c.schema != nil, func() { d.counters.firstToken(time.Since(began)) })
		if err != nil && errkind.Of(err) == errkind.Unknown {
			err = d.client.Fault(err)
		}
		return s.usage, s.model, len(s.text), err
	})
	if err != nil {
		return key, outcome{err: err}
	}
	values, err := d.values(&s)
	return key, outcome{values, err, true}
}

// call makes one request within budgets and counts what it came to. output is the most
// tokens that the answer may have; read reads the answer and returns the server's count
// of tokens, the model's name and the answer's length in bytes.
func (d *Driver) call(ctx context.Context, path string, body []byte, output int,
	read func(*http.Response, time.Time) (*usage, string, int, error),
) error {
	perByte := math.Float64frombits(d.perByte.Load())
	input := int(float64(len(body))*perByte) + 16
	tokens, cost := float64(input+output), d.c.cost(input, output)
	if l := d.c.tokensPerMinute; l > 0 && tokens > l {
		return errkind.Errorf(errkind.Invalid, "the call may come to %.0f tokens, beyond the budget of a whole minute, %.0f", tokens, l)
	}
	if l := d.c.costPerMinute; l > 0 && cost > l {
		return errkind.Errorf(errkind.Invalid, "the call may cost %v, beyond the budget of a whole minute, %v", cost, l)
	}
	slot, err := d.pacer.spend(ctx, tokens, cost)
	if err != nil {
		if errkind.Is(err, errkind.Throttled) {
			d.counters.count(&d.counters.stats.Held)
		}
		return err
	}
	select {
	case d.calls <- struct{}{}:
		defer func() { <-d.calls }()
	case <-ctx.Done():
		d.pacer.settle(slot, -tokens, -cost)
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	req, err := d.request(ctx, http.MethodPost, path, body)
	if err != nil {
		d.pacer.settle(slot, -tokens, -cost)
		return err
	}
	began := time.Now()
	resp, err := d.client.Send(req)
	if err != nil {
		err = d.refusal(err)
		if ctx.Err() == nil {
			d.pacer.settle(slot, -tokens, -cost)
		} // Else the server may have worked all the same: what was set aside counts as spent.
		return err
	}
	defer resp.Body.Close()
	d.pacer.answered()
	used, model, length, err := read(resp, began)
	if err != nil && !used.fits() && ctx.Err() != nil {
		return err
	}
	estimated := !used.fits()
	if estimated {
		used = &usage{Prompt: int(float64(len(body)) * perByte), Completion: int(float64(length) * perByte)}
		if d.c.api == embeddings {
			used.Completion = 0
		}
	} else if len(body) > 0 {
		d.perByte.Store(math.Float64bits(0.8*perByte + 0.2*min(1, float64(used.Prompt)/float64(len(body)))))
	}
	if model == "" {
		model = d.c.model
	}
	spent := d.c.cost(used.Prompt, used.Completion)
	d.pacer.settle(slot, float64(used.Prompt+used.Completion)-tokens, spent-cost)
	d.counters.used(strings.Clone(model), *used, estimated, spent)
	return err
}

// refusal takes a server that asks for less at its word.
func (d *Driver) refusal(err error) error {
	var status *web.StatusError
	if !errors.As(err, &status) {
		return err
	}
	var asked *inference.RetryAfter
	var pause time.Duration
	if errors.As(err, &asked) {
		pause = asked.After
	}
	switch {
	case status.Code == http.StatusTooManyRequests && bytes.Contains(status.Body, []byte("insufficient_quota")):
		return errkind.With(errkind.Exhausted, err) // no pause brings money
	case status.Code == http.StatusTooManyRequests:
		d.counters.count(&d.counters.stats.Throttled)
		pause = d.pacer.refused(pause)
		if asked == nil {
			return inference.RetryAfterError(err, pause)
		}
	case pause > 0:
		d.pacer.refused(pause)
	}
	return err
}
