package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/lineage/export"
	"github.com/freshet-io/freshet/pipeline"
)

type lineageExportFlags struct {
	lineageFlags
	format, out, namespace, tokenEnv string
	every, timeout                   time.Duration
}

func (a *app) lineageExportCommand(name *string) *cobra.Command {
	var f lineageExportFlags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Hand predictions to OpenLineage, OpenTelemetry or Parquet",
		Long: `Hand predictions to other systems.

  openlineage  run events of OpenLineage 2-0-2, a START and a COMPLETE for what each
               version answered in each interval (--every) of publication: to a file
               of JSON lines, or POSTed to a receiver's URL
  otel         an OpenTelemetry span for each call of a model, with links to its events,
               to an OTLP receiver over HTTP
  parquet      a row for each prediction with everything that its record has, to a file

--from, --to, --where and --key choose the predictions. Exporting again gives the same
ids of runs and spans. The tables and result topics of OpenLineage are known where
--pipeline is the pipeline's file.`,
		Example: `  freshet lineage export --format parquet --out predictions.parquet
  freshet lineage export --format openlineage --pipeline pipeline.yaml --every 15m --out http://localhost:5000/api/v1/lineage
  freshet lineage export --format otel --from 2026-01-31 --out http://localhost:4318`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.pipeline = *name
			return a.lineageExport(cmd.Context(), f)
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.format, "format", "", "openlineage, otel or parquet")
	p.StringVar(&f.out, "out", "", "file to write, - for standard output, or URL to send to")
	p.StringVar(&f.from, "from", "", "first event time, as a date or RFC 3339")
	p.StringVar(&f.to, "to", "", "event time before which to end")
	p.StringVar(&f.where, "where", "", "CEL condition over predictions")
	p.StringVar(&f.key, "key", "", "the events' key")
	p.DurationVar(&f.every, "every", time.Hour, "with openlineage: length of an interval")
	p.StringVar(&f.namespace, "namespace", "freshet", "with openlineage: namespace of the job and the topics")
	p.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long one request to a URL may take")
	p.StringVar(&f.tokenEnv, "token-env", "", "environment variable with the bearer token for a URL")
	return cmd
}

func (a *app) lineageExport(ctx context.Context, f lineageExportFlags) error {
	q, err := lineageQuery(f.lineageFlags)
	if err != nil {
		return err
	}
	u, uerr := url.Parse(f.out)
	remote := uerr == nil && (u.Scheme == "http" || u.Scheme == "https")
	token := ""
	if f.tokenEnv != "" {
		var ok bool
		if token, ok = a.lookupEnv(f.tokenEnv); !ok {
			return usagef("--token-env %s: the environment variable is not set", f.tokenEnv)
		}
	}
	switch {
	case f.out == "":
		return usagef("--out: name a file, or a URL to send to")
	case remote && (u.Host == "" || u.User != nil):
		return usagef("--out %s: expected http://HOST:PORT/PATH without a user; a token goes into --token-env", u.Redacted())
	case f.every < time.Second:
		return usagef("--every %s: expected 1s or longer", f.every)
	case f.timeout <= 0:
		return usagef("--timeout %s: expected more than 0s", f.timeout)
	}
	var do func(predictions, *pipeline.Spec) (string, error)
	switch f.format {
	case "openlineage":
		do = func(p predictions, s *pipeline.Spec) (string, error) {
			return a.exportOpenLineage(ctx, p, s, q, f, remote, token)
		}
	case "otel":
		if !remote {
			return usagef("--out %s: spans go to an OTLP receiver, as in --out http://localhost:4318", f.out)
		}
		do = func(p predictions, _ *pipeline.Spec) (string, error) { return a.exportSpans(ctx, p, q, f, token) }
	case "parquet":
		if remote {
			return usagef("--out %s: Parquet goes to a file", f.out)
		}
		do = func(p predictions, _ *pipeline.Spec) (string, error) { return a.exportTable(ctx, p, q, f.out) }
	default:
		return usagef("--format %q: expected openlineage, otel or parquet", f.format)
	}
	spec := &pipeline.Spec{}
	if f.pipeline != "" {
		if spec, err = a.pipelineName(f.pipeline); err != nil {
			return err
		}
	}
	return a.withPredictions(ctx, f.pipeline, func(p predictions) error {
		said, err := do(p, spec)
		if err != nil {
			return err
		}
		to := a.Stdout
		if f.out == "-" {
			to = a.Stderr
		}
		_, err = fmt.Fprintln(to, said)
		return err
	})
}

func (a *app) exportOpenLineage(ctx context.Context, p predictions, s *pipeline.Spec, q lineage.Query, f lineageExportFlags, remote bool, token string) (string, error) {
	o := &export.OpenLineage{Namespace: f.namespace, Every: f.every, Version: readVersion().Version, Outputs: map[string][]string{}}
	for _, t := range s.Tables {
		name := t.Topic + t.File
		if t.URL != "" {
			name = t.Name // a URL may hold what is not for others
		}
		o.Tables = append(o.Tables, name)
	}
	for _, st := range s.Steps {
		if rt, ok := st.(*pipeline.Route); ok {
			for _, c := range rt.Cases {
				name := c.Name
				if name == "" && len(c.To) > 0 {
					name = c.To[0]
				}
				o.Outputs[name] = c.To
			}
		}
	}
	n := int64(0)
	err := p.search(ctx, q, func(r *lineage.Record) bool {
		n++
		o.Add(r)
		return true
	})
	if err != nil {
		return "", err
	}
	events, err := o.Events()
	if err != nil {
		return "", err
	}
	if remote {
		err = export.Post(ctx, &http.Client{}, f.out, token, f.timeout, events)
	} else {
		err = a.writeFile(f.out, func(w io.Writer) error {
			for _, e := range events {
				if _, err := w.Write(append(e, '\n')); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return fmt.Sprintf("%s predictions in %s runs, %s events to %s", group(n), group(int64(len(events)/2)), group(int64(len(events))), f.out), err
}

func (a *app) exportSpans(ctx context.Context, p predictions, q lineage.Query, f lineageExportFlags, token string) (_ string, err error) {
	e, err := export.OTLP(ctx, f.out, token, f.timeout)
	if err != nil {
		return "", err
	}
	s := export.NewSpans(e, "freshet", readVersion().Version)
	n := int64(0)
	var aerr error
	err = p.search(ctx, q, func(r *lineage.Record) bool {
		n++
		aerr = s.Add(ctx, r)
		return aerr == nil
	})
	if err = errors.Join(err, aerr); err == nil {
		err = s.Close(ctx)
	}
	return fmt.Sprintf("%s predictions in %s calls, sent to %s", group(n), group(int64(s.Exported)), f.out), err
}

// exportTable reads twice: once for the columns, once for the rows.
func (a *app) exportTable(ctx context.Context, p predictions, q lineage.Query, out string) (string, error) {
	var c export.Columns
	n := int64(0)
	err := p.search(ctx, q, func(r *lineage.Record) bool {
		n++
		c.Learn(r)
		return true
	})
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", usagef("there are no such predictions, and so no columns: choose others with --from, --to, --where and --key")
	}
	rows := int64(0)
	err = a.writeFile(out, func(w io.Writer) error {
		t, err := export.NewTable(w, &c)
		if err != nil {
			return err
		}
		var werr error
		err = p.search(ctx, q, func(r *lineage.Record) bool {
			werr = t.Write(r)
			return werr == nil
		})
		if err := errors.Join(err, werr); err != nil {
			return err
		}
		rows = t.Rows
		return t.Close()
	})
	return fmt.Sprintf("%s predictions to %s", group(rows), out), err
}

// writeFile makes a file that is there whole or not at all; - is standard output.
func (a *app) writeFile(name string, write func(io.Writer) error) (err error) {
	if name == "-" {
		w := bufio.NewWriter(a.Stdout)
		return errors.Join(write(w), w.Flush())
	}
	part := strings.TrimSuffix(name, "/") + ".part"
	f, err := os.Create(part)
	if err != nil {
		return usagef("--out %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(part, name)
}
