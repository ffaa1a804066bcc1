package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	cardfraud "github.com/freshet-io/freshet/examples/card-fraud"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

type demoFlags struct {
	duration  time.Duration
	rate      float64
	seed      uint64
	history   int
	customers int
}

// alertTopic is the example's topic of alarming payments.
const alertTopic = "fraud-alerts"

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show Freshet at work on generated events",
		Example: "  freshet demo card-fraud",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f demoFlags
	card := &cobra.Command{
		Use:   "card-fraud",
		Short: "Score generated card payments for fraud, live",
		Long: `Score generated card payments for fraud, live.

The payments follow the simulator of the Fraud Detection Handbook. First a history
of simulated days is processed as fast as it goes, so that windows of 30 days have
something in them; then payments arrive at a steady rate and the freshness of their
scores is measured. What a payment turned out to be is known seven simulated days
later: those labels are events too, and what a terminal's payments turned out to be
tells much about its next one. One payment in 1,000 is damaged on purpose and becomes
a dead letter. Topics, state and the example's files stay in the data folder, for you
to look at; a folder that holds something already is left alone and a new one is used.`,
		Example: `  freshet demo card-fraud
  freshet demo card-fraud --duration 1m --rate 20000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), f) },
	}
	p := card.Flags()
	p.DurationVar(&f.duration, "duration", 20*time.Second, "how long payments arrive live, after the history")
	p.Float64Var(&f.rate, "rate", 5000, "live payments a second")
	p.Uint64Var(&f.seed, "seed", 1, "seed of the generator")
	p.IntVar(&f.history, "history", 37, "simulated days processed before")
	p.IntVar(&f.customers, "customers", 5000, "simulated customers, with two terminals for each")
	cmd.AddCommand(card)
	return cmd
}

// demo is one run of the demo.
type demo struct {
	*app
	flags demoFlags
	dir   string // data folder
	file  string // pipeline file
	topic string
	b     *broker.Broker
	p     *pipeline.Pipeline
	gen   *workload.Labelled
	dice  *rand.Rand
	// payments and labels carry events to their topics; labels is nil where the pipeline reads none.
	payments, labels *sender

	mu sync.Mutex
	demoState
	frauds []uint64 // bit set by payment id
}

func (a *app) demo(ctx context.Context, f demoFlags) (err error) {
	switch {
	case f.duration <= 0:
		return usagef("--duration %s: expected longer than nothing", f.duration)
	case !(f.rate > 0) || f.rate > 1e7:
		return usagef("--rate %v: expected more than 0 payments a second, at most 10,000,000", f.rate)
	case f.history < 0:
		return usagef("--history %d: expected 0 days or more", f.history)
	}
	d := &demo{app: a, flags: f, dice: rand.New(rand.NewPCG(f.seed, 1))}
	gen, err := workload.NewCardFraud(workload.CardFraud{Seed: f.seed, Customers: f.customers, Terminals: 2 * f.customers})
	if err != nil {
		return errkind.With(errkind.Config, err)
	}
	d.gen = workload.NewLabelled(gen, workload.LabelDelay, false)
	if err := d.prepare(); err != nil {
		return err
	}
	// The log would tear the live view apart; what matters of it ends the demo as an error.
	a.log = slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	plan, faults := a.plan(d.file)
	if err := pipeline.Error(faults); err != nil {
		return err
	}
	a.data, a.brokerURL = d.dir, "" // the demo is the journal's, and leaves brokers alone
	if d.b, err = a.ownBroker(ctx, ""); err != nil {
		return errors.Join(err, plan.Close())
	}
	defer func() { err = errors.Join(err, d.b.Close()) }()
	d.topic = plan.Spec.Source.Topic
	if d.p, err = pipeline.New(plan, builtin.PipelineDeps(d.b, a.log, filepath.Join(d.dir, "local-state"))); err != nil {
		return errors.Join(err, plan.Close())
	}
	if err := d.run(ctx, plan.Spec); err != nil {
		return err
	}
	return d.summary()
}

// prepare chooses a folder and lays the example's files into it.
func (d *demo) prepare() error {
	for n := 1; ; n++ {
		d.dir = d.data
		if n > 1 {
			d.dir = fmt.Sprintf("%s-%d", filepath.Clean(d.data), n)
		}
		entries, err := os.ReadDir(d.dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
			break
		}
		if err != nil {
			return errkind.Errorf(errkind.Config, "use data folder: %w; choose another with --data", err)
		}
	}
	example := filepath.Join(d.dir, "example")
	d.file = filepath.Join(example, "pipeline.yaml")
	err := fs.WalkDir(cardfraud.Files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(example, filepath.FromSlash(path))
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := cardfraud.Files.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
	if err != nil {
		return fmt.Errorf("write the example: %w", err)
	}
	return nil
}

// run feeds the pipeline, shows it, and stops it: the source first.
func (d *demo) run(ctx context.Context, spec *pipeline.Spec) error {
	hard := context.WithoutCancel(ctx)
	if err := d.openSenders(ctx, spec); err != nil {
		return errors.Join(err, d.p.Close())
	}
	feeding, stopFeeding := context.WithCancel(ctx)
	running, stopRunning := context.WithCancel(hard)
	watching, stopWatching := context.WithCancel(hard)
	defer stopFeeding()
	defer stopRunning()
	defer stopWatching()

	ended := make(chan error, 1)
	go func() {
		err := d.p.Run(running, pipeline.RunOptions{})
		stopFeeding()
		ended <- err
	}()
	var watchers sync.WaitGroup
	watchers.Go(func() { d.watchAlerts(watching) })
	watchers.Go(func() { d.show(watching) })

	ferr := d.feed(feeding)
	// Drain: what was sent is scored before the pipeline stops.
	d.phase("draining")
	derr := d.awaitProcessed(hard, ended)
	stopRunning()
	rerr := <-ended
	d.awaitAlerts(hard)
	stopWatching()
	watchers.Wait()
	if rerr != nil {
		return rerr
	}
	return errors.Join(ferr, derr)
}

// awaitProcessed waits until the group has processed everything that was sent.
func (d *demo) awaitProcessed(ctx context.Context, ended chan error) error {
	for {
		if len(ended) > 0 {
			return nil // the pipeline ended by itself, with its own error
		}
		if d.p.Ready() {
			lag, err := d.p.Lag(ctx)
			if err != nil || lag.Records == 0 {
				return err
			}
		}
		if !wait(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// alert is what the demo shows of a result.
type alert struct {
	SourceID string  `json:"source_id"`
	Time     string  `json:"time"`
	Score    float64 `json:"score"`
}

// watchAlerts reads the alerts as any consumer would.
func (d *demo) watchAlerts(ctx context.Context) {
	for !d.p.Ready() {
		if !wait(ctx, 10*time.Millisecond) {
			return
		}
	}
	t, err := d.b.Describe(ctx, alertTopic, "")
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for i := range t.Partitions {
		wg.Go(func() {
			r, err := d.b.Read(ctx, alertTopic, i, 0)
			if err != nil {
				return
			}
			defer r.Close()
			for {
				b, err := r.Fetch(ctx, fetchRecords)
				if err != nil {
					return
				}
				for j := range b.Records {
					var al alert
					if json.Unmarshal(b.Records[j].Value, &al) == nil {
						d.seeAlert(al)
					}
				}
				b.Release()
			}
		})
	}
	wg.Wait()
}

// awaitAlerts waits until the last alerts have been read, so that the summary counts them.
func (d *demo) awaitAlerts(ctx context.Context) {
	for range 200 {
		t, err := d.b.Describe(ctx, alertTopic, "")
		if err != nil {
			return
		}
		var n int64
		for _, p := range t.Partitions {
			n += p.End
		}
		d.mu.Lock()
		seen := d.alerts
		d.mu.Unlock()
		if seen >= n || !wait(ctx, 10*time.Millisecond) {
			return
		}
	}
}

func (d *demo) seeAlert(al alert) {
	var id int64
	_, err := fmt.Sscan(al.SourceID, &id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alerts++
	if err == nil && id >= 0 && int(id/64) < len(d.frauds) && d.frauds[id/64]&(1<<(id%64)) != 0 {
		d.trueAlerts++
	}
	d.last = append(d.last, al)
	if len(d.last) > shownAlerts {
		d.last = d.last[1:]
	}
}

func (d *demo) phase(name string) {
	d.mu.Lock()
	d.phaseName = name
	d.mu.Unlock()
}
