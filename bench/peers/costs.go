package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/freshet-io/freshet/pipeline"
)

// Comparisons (g) and (j): the same pipeline twice, with one thing changed.

// variant runs the scenario's pipeline file as change rewrites it; dir is the run's own folder.
func (c *comparison) variant(name, what string, events int, change func(file, dir string) (string, error), check func(dir string) error) side {
	recs := c.s.records(0, events)
	return side{Name: name, What: what, run: func(ctx context.Context, dir string) (out sample, err error) {
		b, err := filledJournal(ctx, dir, recs)
		if err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		file, err := c.s.variant(dir, change)
		if err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, os.Remove(file)) }()
		p, err := newPipeline(file, b)
		if err != nil {
			return sample{}, err
		}
		m := startMeter()
		if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
			return sample{}, fmt.Errorf("run the pipeline: %w", err)
		}
		out = m.stop(events)
		if st := p.Stats(); int(st.Predictions) != events {
			return sample{}, fmt.Errorf("%d predictions of %d events; dead letters: %v", st.Predictions, events, st.DeadLetters)
		}
		return out, check(dir)
	}}
}

// variant writes a changed copy of the pipeline file beside the original.
func (s *scenario) variant(dir string, change func(file, dir string) (string, error)) (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "pipeline.yaml"))
	if err != nil {
		return "", err
	}
	changed, err := change(string(text), dir)
	if err != nil {
		return "", err
	}
	name := filepath.Join(s.dir, filepath.Base(dir)+".yaml")
	return name, os.WriteFile(name, []byte(changed), 0o600)
}

func unchanged(file, _ string) (string, error) { return file, nil }

// shuffled lets the three count windows go by terminal.
func shuffled(file, _ string) (string, error) {
	const customer = "{by: customer_id, count:"
	if n := strings.Count(file, customer); n != 3 {
		return "", fmt.Errorf("%d windows of the scenario count by customer, expected 3", n)
	}
	return strings.ReplaceAll(file, customer, "{by: terminal_id, count:"), nil
}

// checkpointed keeps the state in a folder as well, every second: thirty
// times as often as by default, so that a short run has checkpoints in it.
func checkpointed(file, dir string) (string, error) {
	return fmt.Sprintf("%sstate: {checkpoints: \"file://%s\", every: 1s}\n", file, filepath.Join(dir, "checkpoints")), nil
}

func unchecked(string) error { return nil }

var errNoCheckpoint = errors.New("no checkpoint was written")

// hasCheckpoint fails where nothing was kept: such a run would compare nothing.
func hasCheckpoint(dir string) error {
	var bytes int64
	err := filepath.WalkDir(filepath.Join(dir, "checkpoints"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err == nil && bytes == 0 {
		err = errors.New("the files are empty")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCheckpoint, err)
	}
	return nil
}

func (c *comparison) hop(ctx context.Context) error {
	g := &group{ID: "g", Title: "A hop: the pipeline with one shuffle against the same without"}
	err := c.inTurn(ctx, g,
		c.variant("one shuffle", "the full pipeline with its three count windows by terminal: the events go through an internal topic, keyed by terminal, and on from there", c.events, shuffled, unchecked),
		c.variant("one key", "the same file with all six windows by customer: no shuffle", c.events, unchanged, unchecked))
	if err != nil {
		return err
	}
	g.rates()
	g.ratio("one shuffle", "one key", 0)
	c.cost(g)
	c.add(g)
	return nil
}

func (c *comparison) checkpoints(ctx context.Context) error {
	g := &group{ID: "j", Title: "Checkpoints: the pipeline with them against the same without"}
	err := c.inTurn(ctx, g,
		c.variant("with checkpoints", "the full pipeline with its state in a folder as well, at most 1 s behind", c.events, checkpointed, hasCheckpoint),
		c.variant("without", "the same file; the state is on the journal only", c.events, unchanged, unchecked))
	if errors.Is(err, errNoCheckpoint) {
		c.report.Missing = append(c.report.Missing, "checkpointing: "+err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	g.rates()
	g.ratio("with checkpoints", "without", 0.9)
	c.cost(g)
	c.add(g)
	return nil
}

// cost adds processor time, which tells more than throughput where the disk sets the pace.
func (c *comparison) cost(g *group) {
	for i := range g.Sides {
		s := &g.Sides[i]
		g.Rows = append(g.Rows, row{Name: s.Name + ": CPU s per million events", Unit: "s", Value: s.spread(sample.cpuPerMillion)})
	}
}
