package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/internal/builtin"
)

func (a *app) orchestrateExpireCommand() *cobra.Command {
	var act, name, output string
	cmd := &cobra.Command{
		Use:   "expire --act URL",
		Short: "Take back orders that have expired, where nobody is left to do it",
		Long: `Take back orders that have expired. Those on an object of a cluster (kubernetes, keda) stay
there when the process that gave them dies; the next one takes them back when it begins. Where it might be long until
then, this command does it, and nothing else: run it every minute, as a CronJob. Orders that are
still renewed are left alone.`,
		Example: `  freshet orchestrate expire --act keda://fraud/scorer`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if act == "" {
				return usagef("expire needs --act URL, as it was given to freshet orchestrate")
			}
			return a.orchestrateExpire(cmd.Context(), act, name, output)
		},
	}
	cmd.Flags().StringVar(&act, "act", "", "URL of what carries orders out")
	cmd.Flags().StringVar(&name, "pipeline", "", "name of the pipeline, for http")
	outputFlag(cmd.Flags(), &output, "text", "json")
	return cmd
}

// expired is what an expire found, as --output json has it.
type expired struct {
	TakenBack bool `json:"taken_back"`
	InForce   bool `json:"in_force"`
	Workers   int  `json:"workers"`
}

func (a *app) orchestrateExpire(ctx context.Context, url, name, output string) (err error) {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	unit, err := a.openActuator(ctx, url, builtin.OrchestratorOptions{Logger: a.log, Env: a.lookupEnv, Pipeline: name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unit.Close()) }()
	before, err := unit.Status(ctx)
	if err != nil {
		return err
	}
	after, err := unit.Resume(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(a.Stdout, expired{before.Ours && !after.Ours, after.Ours, after.Workers})
	}
	text := "no order of ours is there"
	switch {
	case after.Ours:
		text = fmt.Sprintf("orders of ours are in force until %s and are left", timeText(after.Expires))
	case before.Ours:
		text = "expired orders of ours were taken back"
	}
	_, err = fmt.Fprintf(a.Stdout, "%s; %d workers are ordered\n", text, after.Workers)
	return err
}
