package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/freshet-io/freshet/test/servers"
)

// pipelines are those that each broker runs, by their files.
var pipelines = []string{"window", "shuffle"}

type options struct {
	settings
	brokers, faults, pipelines string
	findings, page             string
	pageOnly                   bool
}

func main() {
	var o options
	flag.StringVar(&o.brokers, "broker", "", "brokers, with commas between; all by default")
	flag.StringVar(&o.faults, "fault", "", "faults, with commas between; all by default")
	flag.StringVar(&o.pipelines, "pipeline", "", "pipelines, with commas between: window, shuffle")
	flag.IntVar(&o.rate, "rate", 300, "events a second")
	flag.DurationVar(&o.sending, "for", 12*time.Second, "how long each cell sends")
	flag.DurationVar(&o.patience, "patience", 2*time.Minute, "how long to wait for what must happen")
	flag.StringVar(&o.program, "program", "", "a freshet to use; built by default")
	flag.StringVar(&o.findings, "findings", "test/delivery/findings.json", "file with what cells found")
	flag.StringVar(&o.page, "page", "docs/DELIVERY.md", "the page to write")
	flag.BoolVar(&o.pageOnly, "page-only", false, "write the page from earlier findings")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "delivery:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func (o *options) run(ctx context.Context) error {
	all, err := loadFindings(o.findings)
	if err != nil {
		return err
	}
	unsound := 0
	if !o.pageOnly {
		done, err := o.build(ctx)
		if err != nil {
			return err
		}
		defer done()
		for _, spec := range brokers() {
			if !chosen(o.brokers, spec.name) {
				continue
			}
			err := o.runBroker(ctx, spec, func(f finding) error {
				if !f.sound() {
					unsound++
				}
				all = merge(all, f)
				return saveFindings(o.findings, all)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", spec.name, err)
			}
		}
	}
	page, err := os.Create(o.page)
	if err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	if err := errors.Join(writePage(page, all), page.Close()); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	if unsound > 0 {
		return fmt.Errorf("%d cells lost something or failed", unsound)
	}
	return nil
}

// chosen says whether a list of names has one; an empty list has all.
func chosen(list, name string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// build builds the program where none is named.
func (o *options) build(ctx context.Context) (done func(), err error) {
	if o.program != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "freshet-delivery-*")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	o.program = filepath.Join(dir, "freshet")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", o.program, "./cmd/freshet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build freshet: %w\n%s", err, out)
	}
	return func() { _ = os.RemoveAll(dir) }, nil
}

// runBroker runs the chosen cells of one broker on one server.
func (o *options) runBroker(ctx context.Context, spec brokerSpec, found func(finding) error) (err error) {
	p, err := spec.open(ctx)
	var absent *servers.AbsentError
	if errors.As(err, &absent) {
		fmt.Printf("%-10s NOT RUN: %s\n", spec.name, absent.Why)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		if p != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for _, f := range faults() {
		if !chosen(o.faults, f.name) || (f.server || f.members) && p.server == nil {
			continue
		}
		for _, pipeline := range pipelines {
			if !chosen(o.pipelines, pipeline) {
				continue
			}
			out := finding{
				Broker: spec.name, Version: p.version, Fault: f.name, Pipeline: pipeline,
				Date: time.Now().UTC().Truncate(time.Second), Host: host(), Revision: revision(ctx), Rate: o.rate,
			}
			counts, examples, err := o.cell(ctx, p, f, pipeline)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			out.Counts = counts
			if err != nil {
				out.Failed = err.Error()
			}
			fmt.Printf("%-10s %s", spec.name, row(&out))
			for _, e := range append(examples, out.Failed) {
				if e != "" {
					fmt.Printf("           %s\n", e)
				}
			}
			if err := found(out); err != nil {
				return err
			}
			if out.Failed != "" { // the next cell is not to suffer from what is left of this one
				if err := p.close(); err != nil {
					fmt.Printf("%-10s end server: %v\n", spec.name, err)
				}
				if p, err = spec.open(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// host is the machine, in words.
func host() string {
	return fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
