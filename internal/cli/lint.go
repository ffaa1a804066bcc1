package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/pipeline"
)

func (a *app) lintCommand() *cobra.Command {
	var output string
	var picture, schema bool
	cmd := &cobra.Command{
		Use:   "lint PIPELINE...",
		Short: "Check pipeline files with their contracts, tables and models",
		Long: `Check pipeline files, and whether they fit their contracts, tables and models.
Nothing is run. Every fault is shown with file, line, column, what was expected and
what to do. The exit code is 2 when there is a fault.

With --plan it shows, for each pipeline without faults, what will run where: topics,
tasks, their keys, and the steps that each of them does in one pass.

With --schema it prints the JSON Schema of pipeline files, from which editors complete
keys and explain them, and checks nothing.`,
		Example: `  freshet lint pipeline.yaml
  freshet lint --plan pipeline.yaml
  freshet lint --output json pipelines/*.yaml
  freshet lint --schema > pipeline.schema.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if schema {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if schema {
				_, err := a.Stdout.Write(pipeline.Schema())
				return err
			}
			return a.lint(args, output, picture)
		},
	}
	outputFlag(cmd.Flags(), &output, "text", "json")
	cmd.Flags().BoolVar(&picture, "plan", false, "show what will run where")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of pipeline files")
	return cmd
}

func (a *app) lint(files []string, output string, picture bool) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	if picture && output == "json" {
		return usagef("--plan is a text: leave --output json out")
	}
	all := []pipeline.Fault{}
	for i, file := range files {
		plan, faults := a.plan(file)
		shown := ""
		if plan != nil {
			shown = plan.Picture()
			if err := plan.Close(); err != nil {
				return fmt.Errorf("close the model of %s: %w", file, err)
			}
		}
		all = append(all, faults...)
		switch {
		case output == "json" || len(faults) > 0:
		case picture && i > 0:
			fmt.Fprintf(a.Stdout, "\n%s", shown)
		case picture:
			fmt.Fprint(a.Stdout, shown)
		default:
			fmt.Fprintf(a.Stdout, "%s: ok\n", file)
		}
	}
	if output == "json" {
		if err := writeJSON(a.Stdout, all); err != nil {
			return err
		}
	} else {
		a.printFaults(all)
	}
	if len(all) > 0 {
		return silent{errkind.New(errkind.Config, "the pipelines have faults")}
	}
	return nil
}

func (a *app) printFaults(faults []pipeline.Fault) {
	for _, f := range faults {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
		}
		fmt.Fprintf(a.Stdout, "%s: %s\n", place, f.Message)
		if f.Remedy != "" {
			fmt.Fprintf(a.Stdout, "    %s\n", f.Remedy)
		}
	}
}

// plan loads a pipeline file and fits it to its contract, tables and model.
func (a *app) plan(file string) (*pipeline.Plan, []pipeline.Fault) {
	spec, faults := pipeline.Load(file, a.lookupEnv)
	if len(faults) > 0 {
		return nil, faults
	}
	return pipeline.MakePlan(spec, a.models().Open)
}
