package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/bench/policies"
	"github.com/freshet-io/freshet/orchestrator/forecast"
	"github.com/freshet-io/freshet/orchestrator/learn"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

type benchForecastsFlags struct {
	traces       []string
	leads        []time.Duration
	members      []string
	span         time.Duration
	uncalibrated bool
	output       string
}

// lstmName is the forecaster that package forecast does not know.
const lstmName = "lstm"

func (a *app) benchForecastsCommand() *cobra.Command {
	var f benchForecastsFlags
	cmd := &cobra.Command{
		Use:   "forecasts [FILE…]",
		Short: "Compare forecasters of arrivals, and what each earns in the ensemble",
		Long: `Compare forecasters on traces of arrivals: what the ensemble and each of its members said at some
lead times, against what came. A third of each trace is learned from and not scored.

Pinball loss and absolute error (WAPE) are shares of the mean rate; coverage is the share of what came that
was at most the quantile of that level; the weight is that in the ensemble.

` + traceHelp,
		Example: `  freshet bench forecasts --trace requests.csv
  freshet bench forecasts --trace requests.csv --lead 1m,5m --members last,day,ridge --output json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.benchForecasts(cmd.Context(), append(f.traces, args...), f)
		},
	}
	p := cmd.Flags()
	traceFlag(p, &f.traces)
	p.DurationSliceVar(&f.leads, "lead", []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute}, "lead times")
	p.StringSliceVar(&f.members, "members", nil, "members of the ensemble, of "+strings.Join(append(forecast.Names(), lstmName), ", ")+"; default those of the orchestrator")
	p.DurationVar(&f.span, "span", 30*time.Second, "length of the means that are foretold")
	p.BoolVar(&f.uncalibrated, "uncalibrated", false, "leave out the calibration of quantiles")
	outputFlag(p, &f.output, "text", "json", "markdown")
	return cmd
}

func (a *app) benchForecasts(ctx context.Context, names []string, f benchForecastsFlags) error {
	if err := checkOutput(f.output, "text", "json", "markdown"); err != nil {
		return err
	}
	c := forecast.ForScaling()
	c.Span, c.Uncalibrated = f.span, f.uncalibrated
	if len(f.members) > 0 {
		c.Members = slices.DeleteFunc(slices.Clone(f.members), func(m string) bool { return m == lstmName })
	}
	if slices.Contains(f.members, lstmName) {
		c.Extra = []func(forecast.Grid) forecast.Member{func(g forecast.Grid) forecast.Member { return learn.NewForecaster(g, 1) }}
	}
	if err := c.Validate(); err != nil {
		return usagef("--members, --span: %w", err)
	}
	for _, l := range f.leads {
		if l < 0 || l > 24*time.Hour {
			return usagef("--lead %s: expected 0s to 24h", l)
		}
		c.Horizon = max(c.Horizon, l)
	}
	traces, err := a.traces(names)
	if err != nil {
		return err
	}
	w := policies.DefaultWorld()
	for i, t := range traces {
		shown := a.startProgress(func(time.Duration) string { return fmt.Sprintf("%s, %d of %d", t.Name, i+1, len(traces)) })
		tab := forecast.Backtest(t.Scale(w.Mean()).Draw(1, c.Grid), c, f.leads, 1./3)
		shown.finish()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("compare forecasters: %w", err)
		}
		if err := a.writeForecasts(t, &tab, f.output); err != nil {
			return err
		}
	}
	return nil
}

// forecastLine is a row of the table as JSON.
type forecastLine struct {
	Trace      string    `json:"trace"`
	Lead       float64   `json:"lead_s"`
	Forecaster string    `json:"forecaster"`
	Scored     int       `json:"scored"`
	Pinball    float64   `json:"pinball_over_mean"`
	WAPE       float64   `json:"wape"`
	Levels     []float64 `json:"levels"`
	Coverage   []float64 `json:"coverage"`
	Weight     float64   `json:"weight"`
}

// coverageShown are the levels whose coverage a table has room for.
var coverageShown = []float64{0.5, 0.9, 0.99}

func (a *app) writeForecasts(t *trace.Trace, tab *forecast.Table, output string) error {
	if output == "json" {
		for _, r := range tab.Rows {
			err := writeJSON(a.Stdout, forecastLine{t.Name, r.Lead.Seconds(), r.Name, r.Scored, r.Pinball, r.WAPE, tab.Levels, r.Coverage, r.Weight})
			if err != nil {
				return err
			}
		}
		return nil
	}
	head := []string{"lead", "forecaster", "pinball", "wape"}
	for _, l := range coverageShown {
		head = append(head, fmt.Sprintf("≤ %g %%", 100*l))
	}
	rows := [][]string{append(head, "weight")}
	for _, r := range tab.Rows {
		row := []string{r.Lead.String(), r.Name, fmt.Sprintf("%.2f %%", 100*r.Pinball), fmt.Sprintf("%.1f %%", 100*r.WAPE)}
		for _, l := range coverageShown {
			k := slices.Index(tab.Levels, l)
			if k < 0 || k >= len(r.Coverage) {
				row = append(row, "–")
				continue
			}
			row = append(row, fmt.Sprintf("%.1f %%", 100*r.Coverage[k]))
		}
		rows = append(rows, append(row, fmt.Sprintf("%.2f", r.Weight)))
	}
	var b bytes.Buffer
	if output == "markdown" {
		fmt.Fprintf(&b, "## %s\n\n", t.Name)
		for i, row := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(&b, "| --- | --- %s|\n", strings.Repeat("| ---: ", len(row)-2))
			}
		}
		b.WriteByte('\n')
		return a.writeOut(&b)
	}
	fmt.Fprintf(&b, "%s, means over %s\n\n", t.Name, tab.Span)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, "  "+strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("lay out table: %w", err)
	}
	b.WriteByte('\n')
	return a.writeOut(&b)
}
