package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/pipeline"
)

// maxLine is the longest line read where no broker says less.
const maxLine = 16 << 20

type produceFlags struct {
	format, contract, pipeline, id, key    string
	rate                                   float64
	partitions                             int
	dedup                                  time.Duration
	print                                  bool
	output                                 string
	generate                               string
	count                                  int64
	seed                                   uint64
	days, customers, terminals, partitionN int
}

// produced is the summary of a produce.
type produced struct {
	Topic      string  `json:"topic"`
	Events     int64   `json:"events"`
	Sent       int64   `json:"sent"`
	Duplicates int64   `json:"duplicates"`
	Rejected   int64   `json:"rejected"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"events_per_second"`
}

func (a *app) produceCommand() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce [TOPIC] [FILE...]",
		Short: "Send events from files, standard input or a generator to a topic",
		Long: `Send events to a topic and wait until they are durable. The topic is made where it is missing.

A file holds one event a line: JSON lines, or CSV with a header line (*.csv, or
--format csv). Files may be packed with gzip. "-" is standard input, which is
also read when no file is named. Quoted CSV fields end on their line.

The contract says which field is the event's id and which its key, and gives CSV
columns their types; --pipeline takes the topic and the contract from a pipeline
file. Without a contract, --id and --key name the fields, and CSV values that look
like numbers are numbers. Sending the same file again drops the events that are
there already, as long as the topic remembers their ids.

A line that cannot be read is sent as it is, without a key, so that a pipeline
makes a dead letter of it. A line longer than the broker takes is not sent: it is
reported, counted as rejected, and the exit code is 1. A CSV value that does not
fit its column's type is sent as a string. Events of one key keep their order.`,
		Example: `  freshet produce --pipeline pipeline.yaml payments.csv.gz
  freshet produce clicks --id id --key user events.jsonl
  tail -f app.log.jsonl | freshet produce logs -
  freshet produce --pipeline pipeline.yaml --generate card-fraud --count 100000 --rate 5000`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.produce(cmd, args, f) },
	}
	p := cmd.Flags()
	p.StringVar(&f.pipeline, "pipeline", "", "pipeline file that gives topic, contract, id and key")
	p.StringVar(&f.contract, "contract", "", "contract file that gives id, key and the types of CSV columns")
	p.StringVar(&f.id, "id", "", "field that is the event's id")
	p.StringVar(&f.key, "key", "", "field that is the event's key: its unit of order")
	p.StringVar(&f.format, "format", "auto", "format of the lines: json, csv, or auto (by the file's name)")
	p.Float64Var(&f.rate, "rate", 0, "events a second, by intended times; 0 is flat out")
	p.IntVar(&f.partitions, "partitions", 0, "partitions of the topic where it is made (default 4, or the pipeline's)")
	p.DurationVar(&f.dedup, "dedup-window", pipeline.DedupWindow, "how long the topic remembers ids, where it is made")
	p.BoolVar(&f.print, "print", false, "write the events to standard output as lines instead of sending them")
	p.StringVar(&f.generate, "generate", "", "generate events instead of reading them: card-fraud")
	p.Int64Var(&f.count, "count", 0, "generate so many events; 0 generates --days")
	p.Uint64Var(&f.seed, "seed", 1, "seed of the generator")
	p.IntVar(&f.days, "days", 0, "generate so many simulated days (default 30, without end where --count is set)")
	p.IntVar(&f.customers, "customers", 0, "customers to simulate (default 5000)")
	p.IntVar(&f.terminals, "terminals", 0, "terminals to simulate (default 10000)")
	outputFlag(p, &f.output, "text", "json")
	return cmd
}

func (f *produceFlags) check(cmd *cobra.Command) error {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	switch {
	case f.pipeline != "" && f.contract != "":
		return usagef("--pipeline and --contract: give one of them; the pipeline names its contract")
	case f.format != "auto" && f.format != "json" && f.format != "csv":
		return usagef("--format %q: expected json, csv or auto", f.format)
	case f.rate < 0 || math.IsNaN(f.rate) || math.IsInf(f.rate, 0):
		return usagef("--rate %v: expected 0 or more events a second", f.rate)
	case f.partitions < 0:
		return usagef("--partitions %d: expected 1 or more", f.partitions)
	case f.dedup < 0:
		return usagef("--dedup-window %s: expected 0 or longer", f.dedup)
	case f.count < 0:
		return usagef("--count %d: expected 0 or more", f.count)
	case f.generate != "" && f.generate != "card-fraud":
		return usagef("--generate %q: expected card-fraud", f.generate)
	case f.print && f.output == "json":
		return usagef("--print and --output json both write to standard output: give one of them")
	}
	if f.generate == "" {
		for _, name := range []string{"count", "seed", "days", "customers", "terminals"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s belongs to --generate", name)
			}
		}
	}
	return nil
}

func (a *app) produce(cmd *cobra.Command, args []string, f produceFlags) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	topic, files, s, err := a.produceTarget(args, &f)
	if err != nil {
		return err
	}
	out := produced{Topic: topic}
	var source eventSource
	switch {
	case f.generate != "" && len(files) > 0:
		return usagef("--generate and FILE: give one of them")
	case f.generate != "":
		source, err = f.generator(s)
	default:
		if len(files) == 0 {
			files = []string{"-"}
		}
		source, err = a.newFileSource(s, f.format, files, func(file string, line, size, limit int) {
			out.Rejected++
			fmt.Fprintf(a.Stderr, "freshet: %s:%d: line of %s not sent: the broker takes at most %s an event\n",
				file, line, bytesText(int64(size)), bytesText(int64(limit)))
		})
	}
	if err != nil {
		return err
	}
	start := a.Now()
	if f.print {
		err = a.printEvents(cmd.Context(), source, f.rate, &out)
	} else {
		err = a.sendEvents(cmd.Context(), topic, source, &f, &out)
	}
	err = errors.Join(err, source.close())
	elapsed := a.Now().Sub(start)
	out.Seconds = elapsed.Seconds()
	out.PerSecond = perSecond(out.Events, elapsed)
	if err != nil && out.Events == 0 {
		return err
	}
	if serr := a.summarize(&out, f); err == nil {
		err = serr
	}
	if err == nil && out.Rejected > 0 {
		err = errkind.Errorf(errkind.Invalid, "%d lines were not sent, see above", out.Rejected)
	}
	return err
}

// produceTarget sorts the arguments out: topic, files and shape of the events.
func (a *app) produceTarget(args []string, f *produceFlags) (topic string, files []string, s shape, err error) {
	contractFile := f.contract
	if f.pipeline != "" {
		spec, faults := pipeline.Load(f.pipeline, a.lookupEnv)
		if err := pipeline.Error(faults); err != nil {
			return "", nil, s, err
		}
		topic, contractFile = spec.Source.Topic, spec.Source.Contract
		if !filepath.IsAbs(contractFile) {
			contractFile = filepath.Join(filepath.Dir(f.pipeline), contractFile)
		}
		if f.partitions == 0 {
			f.partitionN = spec.Source.Partitions
		}
		f.id, f.key = firstText(f.id, spec.Source.ID), firstText(f.key, spec.Source.Key)
		// With a pipeline the topic may be left out: an argument that is not its topic is a file.
		if len(args) > 0 && args[0] == topic {
			args = args[1:]
		}
	} else {
		if len(args) == 0 && !f.print {
			return "", nil, s, usagef("produce needs a TOPIC, or --pipeline FILE to take it from")
		}
		if len(args) > 0 {
			topic, args = args[0], args[1:]
		}
		if topic != "" {
			if err := broker.CheckTopicName(topic); err != nil {
				return "", nil, s, errkind.With(errkind.Config, fmt.Errorf("%w; the first argument is the topic", err))
			}
		}
	}
	if contractFile != "" {
		if s, err = contractShape(contractFile, f.id, f.key); err != nil {
			return "", nil, s, err
		}
	} else {
		s.id, s.key = f.id, f.key
	}
	if f.generate == "card-fraud" {
		s.id = firstText(s.id, "transaction_id")
		s.key = firstText(s.key, "customer_id")
	}
	return topic, args, s, nil
}

func firstText(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (f *produceFlags) generator(s shape) (eventSource, error) {
	days := f.days
	if days == 0 && f.count == 0 {
		days = 30
	}
	g, err := workload.NewCardFraud(workload.CardFraud{Seed: f.seed, Customers: f.customers, Terminals: f.terminals, Days: days})
	if err != nil {
		return nil, errkind.With(errkind.Config, err)
	}
	return &paymentSource{gen: g, shape: s, count: f.count}, nil
}

func (a *app) sendEvents(ctx context.Context, topic string, source eventSource, f *produceFlags, out *produced) (err error) {
	// Batches under way are finished when the command is interrupted.
	hard := context.WithoutCancel(ctx)
	b, err := a.openBroker(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if m := b.Capabilities().MaxRecordBytes; m > 0 {
		source.limit(min(maxLine, m))
	}
	partitions, err := ensureTopic(ctx, b, topic, f)
	if err != nil {
		return err
	}
	s := newSender(hard, b, topic, partitions)
	bar := a.startProgress(func(elapsed time.Duration) string { return produceProgress(s, source, elapsed) })
	err = a.pump(ctx, source, f.rate, &out.Events, func(e *outgoing) error {
		if m := b.Capabilities().MaxRecordBytes; m > 0 && len(e.id)+len(e.key)+len(e.value) > m {
			out.Rejected++
			fmt.Fprintf(a.Stderr, "freshet: %s:%d: event of %s not sent: the broker takes at most %s an event\n",
				e.file, e.line, bytesText(int64(len(e.id)+len(e.key)+len(e.value))), bytesText(int64(m)))
			return nil
		}
		return s.add(e.id, e.key, e.value)
	})
	if ferr := s.finish(); err == nil {
		err = ferr
	}
	bar.finish()
	out.Sent, out.Duplicates, out.Bytes = s.stored.Load(), s.duplicates.Load(), s.bytes.Load()
	return err
}

// ensureTopic makes the topic where it is missing and returns how many partitions it has.
func ensureTopic(ctx context.Context, b *broker.Broker, topic string, f *produceFlags) (int, error) {
	t, err := b.Describe(ctx, topic, "")
	if errkind.Is(err, errkind.NotFound) {
		n := f.partitions
		if n == 0 {
			n = f.partitionN
		}
		if n == 0 {
			n = 4
		}
		t, err = b.Ensure(ctx, broker.TopicConfig{Name: topic, Partitions: n, DedupWindow: f.dedup})
	}
	if err != nil {
		return 0, err
	}
	if n := len(t.Partitions); f.partitions > 0 && n != f.partitions {
		return 0, usagef("--partitions %d: topic %q has %d already, and partitions of a topic do not change; leave the flag out", f.partitions, topic, n)
	}
	return len(t.Partitions), nil
}

// pump moves events from the source to take at the rate, until the source or ctx ends.
func (a *app) pump(ctx context.Context, source eventSource, rate float64, n *int64, take func(*outgoing) error) error {
	pace := pacer{rate: rate, start: a.Now()}
	var e outgoing
	for ctx.Err() == nil {
		err := source.next(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if rate > 0 {
			if d := pace.due(a.Now()); d > 0 && !wait(ctx, d) {
				break
			}
		}
		if err := take(&e); err != nil {
			return err
		}
		*n++
	}
	return errkind.Errorf(errkind.Canceled, "interrupted after %s events", group(*n))
}

func (a *app) printEvents(ctx context.Context, source eventSource, rate float64, out *produced) error {
	w := bufio.NewWriterSize(a.Stdout, 64<<10)
	err := a.pump(ctx, source, rate, &out.Events, func(e *outgoing) error {
		out.Bytes += int64(len(e.value))
		if _, err := w.Write(e.value); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return w.WriteByte('\n')
	})
	if ferr := w.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write output: %w", ferr)
	}
	return err
}

func produceProgress(s *sender, source eventSource, elapsed time.Duration) string {
	n := s.stored.Load() + s.duplicates.Load()
	done, total := source.done()
	line := fmt.Sprintf("%s events  %s events/s", group(n), group(int64(perSecond(n, elapsed))))
	if total > 0 {
		line = fmt.Sprintf("%s %3d %%  %s", bar(done, total, 30), min(100, 100*done/total), line)
	}
	return line
}

func (a *app) summarize(p *produced, f produceFlags) error {
	if f.output == "json" {
		return writeJSON(a.Stdout, p)
	}
	w := a.Stdout
	parts := []string{fmt.Sprintf("sent %s events to %s", group(p.Sent), p.Topic)}
	if f.print {
		w = a.Stderr
		parts = []string{fmt.Sprintf("printed %s events", group(p.Events))}
	}
	if p.Duplicates > 0 {
		parts = append(parts, group(p.Duplicates)+" duplicates dropped")
	}
	if p.Rejected > 0 {
		parts = append(parts, group(p.Rejected)+" rejected")
	}
	_, err := fmt.Fprintf(w, "%s (%s in %.1f s, %s events/s)\n",
		strings.Join(parts, ", "), bytesText(p.Bytes), p.Seconds, group(int64(p.PerSecond)))
	return err
}
