package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/pipeline"
)

type lineageFlags struct {
	pipeline   string
	from, to   string
	where, key string
	limit, top int
	output     string
}

func (a *app) lineageCommand() *cobra.Command {
	var f lineageFlags
	cmd := &cobra.Command{
		Use:   "lineage [EVENT-ID]",
		Short: "Tell how a prediction came about",
		Long: `Tell how the prediction for an event came about: where the event lies, when it happened,
came, was scored and published, what each feature was and of what time, which version of
which model answered, in which role, in which batch, and why. The id is the event's or
that of its result.

Without an id, find predictions, the newest first: by event time, by key, and by a CEL
condition over what each has. docs/lineage.md lists the names.

Predictions are read from the pipeline's topic of records into a store in the data folder,
lineage/PIPELINE, which remembers how far it is; with --broker, from the topic itself.`,
		Example: `  freshet lineage 1754123 --pipeline card-fraud
  freshet lineage --pipeline card-fraud --where 'score >= 0.9 && role == "canary"' --limit 5
  freshet lineage --key 4713 --from 2018-04-01 --to 2018-04-08 --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.lineage(cmd.Context(), args, f)
		},
	}
	cmd.PersistentFlags().StringVar(&f.pipeline, "pipeline", "", "file or name of the pipeline (default the only one with predictions)")
	p := cmd.Flags()
	p.StringVar(&f.from, "from", "", "first event time, as a date or RFC 3339")
	p.StringVar(&f.to, "to", "", "event time before which to end")
	p.StringVar(&f.where, "where", "", "CEL condition over predictions")
	p.StringVar(&f.key, "key", "", "the events' key")
	p.IntVar(&f.limit, "limit", 20, "how many predictions at most, the newest; 0 means all")
	p.IntVar(&f.top, "top", 8, "how many attributions are listed one by one")
	outputFlag(p, &f.output, "text", "json")
	cmd.AddCommand(a.lineageExportCommand(&f.pipeline))
	return cmd
}

func (a *app) lineage(ctx context.Context, args []string, f lineageFlags) error {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	q, err := lineageQuery(f)
	if err != nil {
		return err
	}
	switch {
	case f.limit < 0:
		return usagef("--limit %d: expected 0 or more", f.limit)
	case f.top < 1:
		return usagef("--top %d: expected 1 or more", f.top)
	case len(args) == 1 && (f.where != "" || f.key != "" || f.from != "" || f.to != ""):
		return usagef("an event's id and a search at once: give the id, or --from, --to, --where and --key")
	}
	return a.withPredictions(ctx, f.pipeline, func(p predictions) error {
		if len(args) == 1 {
			return a.tell(ctx, p, args[0], f)
		}
		return a.find(ctx, p, q, f.output)
	})
}

func lineageQuery(f lineageFlags) (q lineage.Query, err error) {
	if q.From, err = parseEventTime("--from", f.from); err != nil {
		return q, err
	}
	if q.To, err = parseEventTime("--to", f.to); err != nil {
		return q, err
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return q, usagef("--from %s --to %s: expected an earlier time first", f.from, f.to)
	}
	q.Where, q.Key, q.Limit = f.where, f.key, f.limit
	return q, nil
}

// tell prints the story of one event. Where it was scored several times the last
// one is told, and the others are counted.
func (a *app) tell(ctx context.Context, p predictions, id string, f lineageFlags) error {
	found, err := p.event(ctx, id)
	if err != nil {
		return err
	}
	if f.output == "json" {
		for i := range found {
			if err := writeJSON(a.Stdout, &found[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := lineage.WriteStory(a.Stdout, &found[0], f.top); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if n := len(found) - 1; n > 0 {
		_, err = fmt.Fprintf(a.Stdout, "\nThis event has %d more predictions, published before; --output json lists all.\n", n)
	}
	return err
}

// find prints what a search gives.
func (a *app) find(ctx context.Context, p predictions, q lineage.Query, output string) error {
	n := 0
	var werr error
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	err := p.search(ctx, q, func(r *lineage.Record) bool {
		n++
		if output == "json" {
			werr = writeJSON(a.Stdout, r)
			return werr == nil
		}
		if n == 1 {
			fmt.Fprintln(w, "TIME\tEVENT\tKEY\tANSWER\tMODEL\tROLE\tPATH\tROUTE")
		}
		answer, model, role, path := "", "", "", ""
		if len(r.Answers) > 0 {
			x := &r.Answers[len(r.Answers)-1]
			model, role, path = strings.TrimSpace(x.Model+" "+x.Version), x.Role, x.Path
			if len(x.Outputs) > 0 {
				answer = fmt.Sprintf("%s %.6v", x.Outputs[0].Name, x.Outputs[0].Value)
			}
		}
		_, werr = fmt.Fprintln(w, strings.Join([]string{
			r.Times.Event.UTC().Format(time.RFC3339), clip(r.Event.ID), clip(r.Event.Key), clip(answer), clip(model), clip(role), path, clip(r.Result.Route),
		}, "\t"))
		return werr == nil
	})
	switch {
	case err != nil:
		return err
	case werr != nil:
		return fmt.Errorf("write output: %w", werr)
	case n == 0 && output != "json":
		_, err := fmt.Fprintln(a.Stdout, "no such predictions")
		return err
	}
	return w.Flush()
}

// clip makes a text fit for a column.
func clip(s string) string { return cut(visible([]byte(s)), 40) }

// pipelineName is the name of a pipeline that is given by name or as a file, with what
// its file says of records.
func (a *app) pipelineName(arg string) (*pipeline.Spec, error) {
	ext := filepath.Ext(arg)
	_, err := os.Stat(arg)
	if ext != ".yaml" && ext != ".yml" || err != nil && !strings.ContainsAny(arg, `/\.`) {
		if strings.ContainsAny(arg, `/\`) {
			return nil, usagef("--pipeline %s: expected a pipeline's name, or its YAML file", arg)
		}
		return &pipeline.Spec{Name: arg}, nil
	}
	spec, faults := pipeline.Load(arg, a.lookupEnv)
	if err := pipeline.Error(faults); err != nil {
		return nil, err
	}
	return spec, nil
}

// onlyPipeline is the pipeline with predictions where there is one.
func onlyPipeline(ctx context.Context, b *broker.Broker) (*pipeline.Spec, error) {
	topics, err := b.Topics(ctx)
	if err != nil {
		return nil, err
	}
	suffix := (&pipeline.Spec{}).Predictions()
	var names []string
	for _, t := range topics {
		if name, ok := strings.CutSuffix(t, suffix); ok && name != "" {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return nil, errkind.New(errkind.NotFound, "there are no predictions: no pipeline has run with records here; name it with --pipeline")
	case 1:
		return &pipeline.Spec{Name: names[0]}, nil
	}
	return nil, usagef("--pipeline: name one of %s", strings.Join(names, ", "))
}
