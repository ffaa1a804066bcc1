package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/freshet-io/freshet/inference/onnx"
)

type options struct {
	root, out, name, work, only, profile string
	sliding                              string
	runs, events, keys, slidingEvents    int
	brokerEvents                         int
	brokerNames, brokerParts, arrivals   string
	stateBytes                           int64
	limit                                time.Duration
}

// comparison is one run of the program.
type comparison struct {
	options
	out    io.Writer
	dir    string
	s      *scenario
	report *report
}

// compare runs the comparisons and reports them as they are done.
func compare(ctx context.Context, o options, w io.Writer) error {
	dir, err := os.MkdirTemp(o.work, "freshet-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := &comparison{options: o, out: w, dir: dir, report: &report{Started: time.Now()}}
	if c.report.Host, err = describeHost(ctx, dir); err != nil {
		return fmt.Errorf("describe the host: %w", err)
	}
	fmt.Fprintf(w, "%s, %s\n", c.report.Host.CPU, c.report.Host.line())
	if c.s, err = newScenario(dir, o.root, o.events); err != nil {
		return fmt.Errorf("make the events: %w", err)
	}
	fmt.Fprintf(w, "events: %d card payments of %.0f bytes of JSON, %d customers; %d runs, median with least and greatest\n", o.events, c.s.bytes(), customers, o.runs)
	for _, part := range []struct {
		letters string
		run     func(context.Context) error
	}{{"a", c.journal}, {"bcd", c.pipelines}, {"e", c.latency}, {"f", c.evaluators}, {"g", c.hop}, {"h", c.sliding}, {"i", c.restore}, {"j", c.checkpoints}, {"k", c.brokers}, {"l", c.threads}, {"m", c.plainGRPC}, {"n", c.batches}, {"o", c.contributions}, {"p", c.records}} {
		if !strings.ContainsAny(o.only, part.letters) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("comparison %s: %w", part.letters, err)
		}
	}
	c.report.Took = time.Since(c.report.Started).Round(time.Second).String()
	for _, m := range c.report.Missing {
		fmt.Fprintf(w, "\nNOT MEASURED: %s\n", m)
	}
	if o.out == "" {
		return nil
	}
	if err := c.report.save(o.out, o.name); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	fmt.Fprintf(w, "\nwrote %s.json and .md, after %s\n", filepath.Join(o.out, o.name), c.report.Took)
	return nil
}

// inTurn runs every side once, then again, so that whatever the machine does
// beside concerns all of them.
func (c *comparison) inTurn(ctx context.Context, g *group, sides ...side) error {
	for _, s := range sides {
		g.Sides = append(g.Sides, sideResult{side: s})
	}
	for run := range c.runs {
		for i := range g.Sides {
			s := &g.Sides[i]
			if s.once && run > 0 {
				continue
			}
			got, err := inFreshDir(ctx, c.dir, s.run)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			s.Samples = append(s.Samples, got)
			fmt.Fprintf(os.Stderr, "run %d of %d: %s %s a second\n", run+1, c.runs, s.Name, number(got.rate()))
		}
	}
	return nil
}

func (c *comparison) add(g *group) {
	c.report.Groups = append(c.report.Groups, g)
	g.text(c.out)
}

func (c *comparison) journal(ctx context.Context) error {
	g := &group{ID: "a", Title: "The journal: append and consume, one after the other"}
	var syncs atomic.Int64
	err := c.inTurn(ctx, g, journalLog(c.s, c.events, &syncs), bareFile(c.s.events, syncs.Load), jetStreamLog(c.s.events))
	if err != nil {
		return err
	}
	g.rates()
	g.Rows = append(g.Rows, row{Name: "syncs of the journal", Unit: "a run", Value: g.side("journal").spread(func(s sample) float64 { return float64(s.Syncs) })})
	g.ratio("journal", "bare file", 0.5)
	g.ratio("journal", "JetStream embedded", 5)
	c.add(g)
	return nil
}

func (c *comparison) pipelines(ctx context.Context) error {
	model, err := onnx.Load(c.s.model, onnx.Options{})
	if err != nil {
		return err
	}
	defer model.Close()
	slow := min(c.events, 60_000)
	sides := []side{pipelineSide(c.s, c.events, c.profile), passThrough(c.s, c.events)}
	if strings.ContainsAny(c.only, "cd") {
		sides = append(sides,
			handLoop(c.s, model, slow, c.limit, false),
			handLoop(c.s, model, slow, c.limit, true),
			bento(c.s, model, min(c.events, 200_000), c.limit, true, "kafka"),
			bento(c.s, model, min(c.events, 400_000), c.limit, false, "kafka"),
			bento(c.s, model, slow, c.limit, true, "nats"))
	}
	all := &group{}
	if err := c.inTurn(ctx, all, sides...); err != nil {
		return err
	}
	b := &group{ID: "b", Title: "The full pipeline against pass-through on the journal", Sides: all.Sides[:2]}
	b.rates()
	b.ratio("Freshet", "pass-through", 0.3)
	c.add(b)
	if len(all.Sides) > 2 {
		p := &group{ID: "c", Title: "The full pipeline against what people have", Sides: append([]sideResult{all.Sides[0]}, all.Sides[2:]...)}
		p.rates()
		for i, s := range p.Sides[1:] {
			// The targets are for the hand-written loop, whichever way it calls its model, and
			// for Bento with its own validation on the broker that carries it farthest.
			p.ratio("Freshet", s.Name, []float64{60, 60, 20, 0, 0}[i])
		}
		c.add(p)
	}
	d := &group{ID: "d", Title: "Processor time and allocations, embedded servers included"}
	for i := range all.Sides {
		s := &all.Sides[i]
		d.Rows = append(d.Rows, row{Name: s.Name + ": CPU s per million events", Unit: "s", Value: s.spread(sample.cpuPerMillion)})
	}
	for i := range all.Sides {
		s := &all.Sides[i]
		d.Rows = append(d.Rows, row{Name: s.Name + ": allocations an event", Unit: "", Value: s.spread(sample.allocsPerEvent)})
	}
	c.add(d)
	return nil
}

func (c *comparison) latency(ctx context.Context) error {
	g := &group{ID: "e", Title: "Open-loop latency, from when an event should be sent to its durable result read: publish, full pipeline, result topic, on the journal"}
	for _, rate := range []int{2000, 10_000, 50_000} {
		var p50, p99, p999 []float64
		for run := range c.runs {
			h, err := latencies(ctx, c.s, c.dir, rate, 4*time.Second)
			if err != nil {
				return fmt.Errorf("at %d events/s: %w", rate, err)
			}
			p50, p99, p999 = append(p50, millis(h, 50)), append(p99, millis(h, 99)), append(p999, millis(h, 99.9))
			fmt.Fprintf(os.Stderr, "run %d of %d: at %d events/s p99 %s ms\n", run+1, c.runs, rate, number(millis(h, 99)))
		}
		target := 0.0
		if rate == 10_000 {
			target = 5
		}
		at := "at " + number(float64(rate)) + " events/s: "
		g.Rows = append(g.Rows,
			row{Name: at + "p50", Unit: "ms", Value: spreadOf(p50)},
			row{Name: at + "p99", Unit: "ms", Value: spreadOf(p99), Target: target, AtMost: true},
			row{Name: at + "p99.9", Unit: "ms", Value: spreadOf(p999)})
	}
	c.add(g)
	return nil
}

func millis(h *hdrhistogram.Histogram, q float64) float64 {
	return float64(h.ValueAtQuantile(q)) / 1000
}

func (c *comparison) evaluators(context.Context) error {
	models, err := evaluatedModels(c.s, c.root, c.dir)
	if err != nil {
		return err
	}
	if openPeer == nil {
		c.withoutORT()
	}
	g, err := compareEvaluators(models, c.runs, 300*time.Millisecond)
	if err != nil {
		return err
	}
	c.add(g)
	return nil
}
