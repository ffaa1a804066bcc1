package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

func (a *app) testCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "test PIPELINE [CASES...]",
		Short: "Run a pipeline's own test cases",
		Long: `Run a pipeline's test cases: events in, expected outcomes out. Each case runs on
its own empty broker. Without CASES the files tests/*.yaml beside the pipeline are
run. The exit code is 1 when an expectation does not hold.

A file of cases:

  cases:
    - name: a large payment is an alert
      events:
        - send: {transaction_id: 1, customer_id: 7, tx_amount: 950.0}
          expect: {route: alert, score: {at_least: 0.7}}
        - send: not JSON
          expect: {dead_letter: invalid_json}`,
		Example: `  freshet test pipeline.yaml
  freshet test pipeline.yaml tests/night.yaml --output json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.test(cmd.Context(), args[0], args[1:], output)
		},
	}
	outputFlag(cmd.Flags(), &output, "text", "json")
	return cmd
}

func (a *app) test(ctx context.Context, file string, files []string, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	plan, faults := a.plan(file)
	if err := pipeline.Error(faults); err != nil {
		return err
	}
	if err := plan.Close(); err != nil {
		return fmt.Errorf("close the model of %s: %w", file, err)
	}
	if len(files) == 0 {
		var err error
		pattern := filepath.Join(filepath.Dir(file), "tests", "*.yaml")
		if files, err = filepath.Glob(pattern); err != nil {
			return usagef("look for test cases: %w", err)
		}
		if len(files) == 0 {
			return usagef("%s has no test cases: none match %s; name the files, see freshet test --help", file, pattern)
		}
	}
	var cases []pipeline.Case
	for _, f := range files {
		cs, faults := pipeline.LoadCases(f)
		if err := pipeline.Error(faults); err != nil {
			return err
		}
		cases = append(cases, cs...)
	}
	start := a.Now()
	results := []pipeline.CaseResult{}
	failed := 0
	for i := range cases {
		if ctx.Err() != nil {
			return errkind.Errorf(errkind.Canceled, "interrupted after %d of %d cases", i, len(cases))
		}
		r := pipeline.RunCase(ctx, file, &cases[i], pipeline.CaseDeps{OpenModel: a.models().Open, NewBroker: a.caseBroker, Env: a.lookupEnv})
		if !r.Passed() {
			failed++
		}
		results = append(results, r)
		if output == "text" {
			a.printCase(&r)
		}
	}
	if output == "json" {
		if err := writeJSON(a.Stdout, results); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.Stdout, "%d passed, %d failed (%.1f s)\n", len(results)-failed, failed, a.Now().Sub(start).Seconds())
	}
	if failed > 0 {
		return silent{fmt.Errorf("%d cases failed", failed)}
	}
	return nil
}

func (a *app) printCase(r *pipeline.CaseResult) {
	if r.Passed() {
		fmt.Fprintf(a.Stdout, "ok    %s\n", r.Name)
		return
	}
	fmt.Fprintf(a.Stdout, "FAIL  %s (%s:%d)\n", r.Name, r.File, r.Line)
	if r.Error != "" {
		fmt.Fprintf(a.Stdout, "      %s\n", r.Error)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(a.Stdout, "      %s\n", d)
	}
}

// caseBroker makes an empty journal in a temporary folder. It does not sync:
// the folder goes with the case.
func (a *app) caseBroker() (*broker.Broker, func() error, error) {
	dir, err := os.MkdirTemp("", "freshet-test-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the case: %w", err)
	}
	d, err := builtin.OpenBroker(context.Background(), "journal:"+dir, builtin.BrokerOptions{SyncEvery: time.Minute})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := broker.New(d, broker.Options{Now: a.Now})
	return b, func() error { return errors.Join(b.Close(), os.RemoveAll(dir)) }, nil
}
