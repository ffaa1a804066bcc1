package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature/parquet"
	"github.com/freshet-io/freshet/pipeline"
)

func (a *app) featuresCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "features",
		Short:   "Hand out the features that models saw",
		Example: "  freshet features export pipeline.yaml --from 2018-04-01 --to 2018-05-01 --out training",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.featuresExportCommand())
	return cmd
}

type exportFlags struct {
	from, to, out     string
	labels, hasLabels bool
	overwrite         bool
	output            string
}

func (a *app) featuresExportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export PIPELINE",
		Short: "Write every scored row with its features as Parquet",
		Long: `Write every scored row of a pipeline, with its features exactly as the model saw
them and their times, as Parquet files by hour of event time:

  DIR/date=2018-04-01/hour=00/part-0.parquet

pandas, pyarrow, DuckDB and Spark read the folder as one table. An event whose
result went to several topics, or was published twice, is one row. With labels,
what became known about each event is joined by its id. The folder appears when
it is complete. docs/training-data.md describes the columns.`,
		Example: `  freshet features export pipeline.yaml --out training
  freshet features export pipeline.yaml --from 2018-04-01 --to 2018-08-01 --out training --overwrite`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.hasLabels = cmd.Flags().Changed("labels")
			return a.featuresExport(cmd.Context(), args[0], f)
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.from, "from", "", "first event time, as a date or RFC 3339 (default the earliest)")
	p.StringVar(&f.to, "to", "", "event time before which to end (default after the latest)")
	p.StringVar(&f.out, "out", "", "folder to make")
	p.BoolVar(&f.labels, "labels", false, "join the labels (default true where the pipeline has labels by event)")
	p.BoolVar(&f.overwrite, "overwrite", false, "replace the export that the folder holds")
	outputFlag(p, &f.output, "text", "json")
	return cmd
}

func (a *app) featuresExport(ctx context.Context, file string, f exportFlags) (err error) {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	if f.out == "" {
		return usagef("--out: name the folder to make")
	}
	from, err := parseEventTime("--from", f.from)
	if err != nil {
		return err
	}
	to, err := parseEventTime("--to", f.to)
	if err != nil {
		return err
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return usagef("--from %s --to %s: expected an earlier time first", f.from, f.to)
	}
	plan, faults := a.plan(file)
	if len(faults) > 0 {
		a.printFaults(faults)
		return silent{errkind.New(errkind.Config, "the pipeline has faults")}
	}
	o, err := exportOptions(plan, f)
	if cerr := plan.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close the model of %s: %w", file, cerr)
	}
	if err != nil {
		return err
	}
	o.From, o.To, o.Dir, o.Overwrite = from, to, f.out, f.overwrite
	return withBroker(ctx, a.openExisting, func(b *broker.Broker) error {
		sum, err := a.export(ctx, b, o)
		if err != nil {
			return err
		}
		if f.output == "json" {
			return writeJSON(a.Stdout, sum)
		}
		return a.printExport(sum)
	})
}

func parseEventTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() > 1700 && t.Year() < 2250 {
			return t, nil
		}
	}
	return time.Time{}, usagef("%s %q: expected a date such as 2018-04-01, or a time such as 2018-04-01T12:00:00Z", flag, s)
}

// exportOptions says what of a pipeline's results is exported.
func exportOptions(p *pipeline.Plan, f exportFlags) (parquet.Options, error) {
	s := p.Spec
	o := parquet.Options{Pipeline: s.Name, Contract: p.Contract.Version, Digest: p.Contract.Digest}
	if m := p.Models(); len(m) > 0 {
		o.Models = m
	}
	features, outputs := p.ResultColumns()
	for _, c := range outputs {
		o.Outputs = append(o.Outputs, parquet.Column{Name: c.Name, Kind: c.Kind})
	}
	delays, timed := featureTimes(s)
	for _, c := range features {
		o.Features = append(o.Features, parquet.Feature{
			Column: parquet.Column{Name: c.Name, Kind: c.Kind}, Delay: delays[c.Name], Timed: timed[c.Name],
		})
	}
	for _, st := range s.Steps {
		if rt, ok := st.(*pipeline.Route); ok {
			for _, c := range rt.Cases {
				for _, t := range c.To {
					if !slices.Contains(o.Topics, t) {
						o.Topics = append(o.Topics, t)
					}
				}
			}
		}
	}
	byEvent := s.Labels != nil && s.Labels.Event != ""
	switch {
	case f.hasLabels && f.labels && !byEvent:
		return o, usagef("--labels: %s has no labels that name an event; see `labels` in docs/pipelines.md", s.File)
	case byEvent && (f.labels || !f.hasLabels):
		var err error
		if o.Labels, err = labelOptions(s); err != nil {
			return o, err
		}
	}
	return o, nil
}

// featureTimes are the delays of delayed windows, and the look-ups whose values have times.
func featureTimes(s *pipeline.Spec) (delays map[string]time.Duration, timed map[string]bool) {
	delays, timed = map[string]time.Duration{}, map[string]bool{}
	for _, st := range s.Steps {
		step, ok := st.(*pipeline.Features)
		if !ok {
			continue
		}
		for _, it := range step.Items {
			switch {
			case it.Window != nil:
				delays[it.Name] = it.Window.Delay
			case it.Lookup != nil:
				for _, t := range s.Tables {
					for _, f := range it.Lookup.Fields {
						timed[it.Name+"."+f] = timed[it.Name+"."+f] || t.Name == it.Lookup.Table && t.Time != ""
					}
				}
			}
		}
	}
	return delays, timed
}

func labelOptions(s *pipeline.Spec) (*parquet.Labels, error) {
	l := s.Labels
	path := l.Contract
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(s.File), path)
	}
	c, err := contract.Load(path)
	if err != nil {
		return nil, err
	}
	o := &parquet.Labels{
		Topic: l.Topic, Contract: c, Event: l.Event,
		Time: contract.TimeRule{Field: l.TimeField}, Default: map[string]any{},
	}
	for name, d := range l.Default {
		switch d.Kind {
		case event.Float, event.Int:
			o.Default[name] = d.Float
		case event.Bool:
			o.Default[name] = d.Bool
		default:
			o.Default[name] = d.String
		}
	}
	return o, nil
}

// export runs an export and shows how far it is.
func (a *app) export(ctx context.Context, b *broker.Broker, o parquet.Options) (*parquet.Summary, error) {
	var done, total, rows atomic.Int64
	o.Progress = func(p parquet.Progress) {
		done.Store(p.Records)
		total.Store(p.Total)
		rows.Store(p.Rows)
	}
	p := a.startProgress(func(elapsed time.Duration) string {
		return fmt.Sprintf("%s %s of %s results, %s rows, %s results/s", bar(done.Load(), total.Load(), 20),
			group(done.Load()), group(total.Load()), group(rows.Load()), group(int64(perSecond(done.Load(), elapsed))))
	})
	sum, err := parquet.Export(ctx, b, o)
	p.finish()
	if errkind.Is(err, errkind.NotFound) {
		for _, t := range o.Topics {
			if _, derr := b.Describe(ctx, t, ""); errkind.Is(derr, errkind.NotFound) {
				return nil, a.nameTopics(ctx, b, t, err)
			}
		}
	}
	if err != nil && ctx.Err() != nil && errkind.Is(err, errkind.Canceled) {
		return nil, errkind.New(errkind.Canceled, "interrupted; nothing was exported")
	}
	return sum, err
}

func (a *app) printExport(s *parquet.Summary) error {
	var also []string
	for _, n := range []struct {
		n    int64
		what string
	}{
		{s.Duplicates, "repeated"}, {s.Outside, "outside of the times"}, {s.Foreign, "of other pipelines"},
	} {
		if n.n > 0 {
			also = append(also, group(n.n)+" "+n.what)
		}
	}
	line := fmt.Sprintf("%s rows in %s files, %s, in %s", group(s.Rows), group(int64(s.Files)), bytesText(s.Bytes), s.Dir)
	if len(also) > 0 {
		line += "; results left out: " + strings.Join(also, ", ")
	}
	if l := s.Labels; l != nil {
		line += fmt.Sprintf("; %s of the rows have a label", group(l.Joined))
		if l.Invalid > 0 {
			line += fmt.Sprintf(", %s labels are invalid", group(l.Invalid))
		}
	}
	if s.Unreadable > 0 {
		fmt.Fprintf(a.Stderr, "freshet: %s records are no results; the first: %s\n", group(s.Unreadable), s.FirstUnreadable)
	}
	_, err := fmt.Fprintln(a.Stdout, line)
	return err
}
