package cli

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/pipeline"
)

// shownAlerts is how many of the last alerts are shown.
const shownAlerts = 5

// demoState is what the demo knows beside the pipeline's own counters.
type demoState struct {
	phaseName  string
	began      time.Time
	liveSince  time.Time
	before     histogram.Snapshot // of SinceArrival when the live part began
	historic   int64              // events processed until then
	generated  int64
	sent       int64
	labelTopic string // empty without labels
	known      int64  // labels sent
	damaged    int64
	simulated  int64 // event time reached, Unix seconds
	fraudCount int64
	alerts     int64
	trueAlerts int64
	last       []alert
}

// demoFrame is one picture of the demo.
type demoFrame struct {
	demoState
	stats   pipeline.Stats
	fresh   histogram.Snapshot // of the live part, once it has begun
	lag     broker.Lag
	elapsed time.Duration
	rate    float64 // events processed a second, lately
}

// show draws the demo until ctx ends: four times a second on a terminal, else
// a line every two seconds.
func (d *demo) show(ctx context.Context) {
	width, terminal := d.Width(d.Stdout)
	every := 2 * time.Second
	if terminal {
		every = 250 * time.Millisecond
	}
	d.mu.Lock()
	d.began = d.Now()
	d.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	drawn := 0
	var seen uint64
	at := d.Now()
	rate := 0.0
	for {
		select {
		case <-ctx.Done():
			if drawn > 0 {
				fmt.Fprintf(d.Stdout, "\x1b[%dA\x1b[J", drawn) // the summary takes the view's place
			}
			return
		case <-tick.C:
		}
		f := d.frame(ctx)
		if now := d.Now(); now.Sub(at) >= time.Second || now.Sub(at) >= every {
			rate = float64(f.stats.Consumed-seen) / now.Sub(at).Seconds()
			if now.Sub(at) >= time.Second {
				seen, at = f.stats.Consumed, now
			}
		}
		f.rate = rate
		if !terminal {
			fmt.Fprintln(d.Stdout, f.line())
			continue
		}
		var b bytes.Buffer
		if drawn > 0 {
			fmt.Fprintf(&b, "\x1b[%dA", drawn)
		}
		lines := f.lines(d.flags)
		for _, l := range lines {
			b.WriteString(cut(l, width-1) + "\x1b[K\n")
		}
		if drawn > len(lines) {
			b.WriteString("\x1b[J")
		}
		drawn = len(lines)
		if _, err := d.Stdout.Write(b.Bytes()); err != nil {
			return
		}
	}
}

func (d *demo) frame(ctx context.Context) demoFrame {
	f := demoFrame{stats: d.p.Stats()}
	if d.p.Ready() {
		f.lag, _ = d.p.Lag(ctx) // a picture without it is no failure
	}
	d.mu.Lock()
	f.demoState = d.demoState
	if d.labels != nil {
		f.known = d.labels.stored.Load()
	}
	f.last = slices.Clone(d.last)
	d.mu.Unlock()
	f.elapsed = d.Now().Sub(f.began)
	f.fresh = f.stats.SinceArrival
	if !f.liveSince.IsZero() {
		f.fresh.Sub(f.before)
	}
	return f
}

func (f *demoFrame) freshness() string {
	what := "all payments"
	if !f.liveSince.IsZero() {
		what = "live payments"
	}
	return fmt.Sprintf("p50 %s, p99 %s from arrival to durable result (%s)",
		short(f.fresh.Quantile(0.5)), short(f.fresh.Quantile(0.99)), what)
}

// short writes nanoseconds for people.
func short(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.2f ms", float64(ns)/1e6)
}

func (f *demoFrame) reasons() string {
	var parts []string
	for r := range f.stats.DeadLetters {
		parts = append(parts, r)
	}
	slices.SortFunc(parts, func(a, b string) int {
		if x, y := f.stats.DeadLetters[a], f.stats.DeadLetters[b]; x != y {
			return int(y) - int(x)
		}
		return strings.Compare(a, b)
	})
	for i, r := range parts {
		parts[i] = fmt.Sprintf("%s %s", r, group(int64(f.stats.DeadLetters[r])))
	}
	return strings.Join(parts, ", ")
}

func (f *demoFrame) alertQuality() string {
	if f.alerts == 0 || f.fraudCount == 0 {
		return ""
	}
	return fmt.Sprintf("%d %% of them frauds, %d %% of all frauds", 100*f.trueAlerts/f.alerts, 100*f.trueAlerts/f.fraudCount)
}

func (f *demoFrame) labelled() string {
	if f.labelTopic == "" {
		return ""
	}
	return fmt.Sprintf("; %s turned out by now", group(f.known))
}

func (f *demoFrame) line() string {
	return fmt.Sprintf("%5.1fs  %s  events %s (%s/s)  predictions %s  alerts %s  dead letters %s  freshness p50 %s p99 %s  lag %s",
		f.elapsed.Seconds(), f.phaseName, group(int64(f.stats.Consumed)), group(int64(f.rate)), group(int64(f.stats.Predictions)),
		group(f.alerts), group(int64(f.stats.Letters())), short(f.fresh.Quantile(0.5)), short(f.fresh.Quantile(0.99)), group(f.lag.Records))
}

func (f *demoFrame) lines(flags demoFlags) []string {
	until := ""
	if !f.liveSince.IsZero() {
		live := min(f.elapsed-f.liveSince.Sub(f.began), flags.duration)
		until = fmt.Sprintf(", %s of %s", durationText(live.Round(time.Second)), durationText(flags.duration))
	}
	lines := []string{
		"freshet demo: card payments, scored for fraud as they arrive",
		"",
		fmt.Sprintf("  now           %s%s (simulated %s)", f.phaseName, until, time.Unix(f.simulated, 0).UTC().Format("2006-01-02 15:04")),
		fmt.Sprintf("  events        %s, %s a second%s", group(int64(f.stats.Consumed)), group(int64(f.rate)), f.labelled()),
		fmt.Sprintf("  predictions   %s", group(int64(f.stats.Predictions))),
		fmt.Sprintf("  alerts        %s  %s", group(f.alerts), f.alertQuality()),
		fmt.Sprintf("  dead letters  %s  %s", group(int64(f.stats.Letters())), f.reasons()),
		fmt.Sprintf("  freshness     %s", f.freshness()),
		fmt.Sprintf("  lag           %s events, the oldest %s old", group(f.lag.Records), short(int64(f.lag.OldestAge))),
		"",
		"  last alerts",
	}
	for i := range shownAlerts {
		l := ""
		if i < len(f.last) {
			al := f.last[i]
			l = fmt.Sprintf("    %s  payment %-8s  score %.3f", al.Time, al.SourceID, al.Score)
		}
		lines = append(lines, l)
	}
	return lines
}

// summary is the last word of the demo.
func (d *demo) summary() error {
	f := d.frame(context.Background())
	processed := int64(f.stats.Predictions + f.stats.Letters())
	verdict := "every event accounted for"
	if processed != f.sent {
		verdict = fmt.Sprintf("%s sent: %s are missing", group(f.sent), group(f.sent-processed))
	}
	alerts := ""
	if q := f.alertQuality(); q != "" {
		alerts = " (" + q + ")"
	}
	letters := ""
	if r := f.reasons(); r != "" {
		letters = " (" + r + ")"
	}
	live := ""
	speed := group(int64(perSecond(int64(f.stats.Consumed), f.elapsed)))
	if !f.liveSince.IsZero() {
		live = fmt.Sprintf("\n                at %s payments a second", group(int64(d.flags.rate)))
		if f.historic > 0 {
			speed = group(int64(perSecond(f.historic, f.liveSince.Sub(f.began)))) + " while the history was sent and scored flat out"
		}
	}
	labels := ""
	if f.labelTopic != "" {
		labels = fmt.Sprintf("\n  labels        %s on %s, each seven simulated days after its payment", group(f.known), f.labelTopic)
	}
	rel := func(names ...string) string { return filepath.Join(append([]string{d.dir}, names...)...) }
	_, err := fmt.Fprintf(d.Stdout, `Scored %s card payments in %.1f s.

  events        %s: %s%s
  predictions   %s by model %s, version %s
  alerts        %s%s
  dead letters  %s%s; %s were damaged on purpose
  freshness     %s%s
  events/s      %s

The results lie in %s, as JSON lines on the topics scored-transactions,
%s and %s. The pipeline is %s. Try next:

  %s consume %s --limit 3 --data %s
  %s consume %s --limit 3 --data %s
  %s lineage --pipeline %s --where 'score >= 0.7' --limit 3 --data %s
`,
		group(int64(f.stats.Consumed)), f.elapsed.Seconds(),
		group(int64(f.stats.Consumed)), verdict, labels,
		group(int64(f.stats.Predictions)), f.stats.Model, f.stats.Version,
		group(f.alerts), alerts,
		group(int64(f.stats.Letters())), letters, group(f.damaged),
		f.freshness(), live,
		speed,
		d.dir, alertTopic, f.stats.Name+"-dead-letters", rel("example", "pipeline.yaml"),
		d.program(), alertTopic, d.dir, d.program(), f.stats.Name+"-dead-letters", d.dir, d.program(), f.stats.Name, d.dir)
	return err
}
