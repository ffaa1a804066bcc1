package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/errkind"
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
unless it is named. Damage is reported with file and offset, and the exit code is 1. It may run beside
the process that uses the folder.`,
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
	out := journalReport{Folder: dir, Segments: len(r.Segments), Topics: []journalTopic{}, UnfinishedBytes: r.Unfinished}
	for _, s := range r.Segments {
		out.Frames += s.Frames
		out.Bytes += s.Bytes
	}
	for _, t := range r.Topics {
		out.Events += t.Records
		out.Topics = append(out.Topics, journalTopic{t.Name, t.Partitions, t.Records, t.Bytes})
	}
	if r.Damage != nil {
		out.Damage = &journalDamage{r.Damage.File, r.Damage.Offset, r.Damage.Reason}
	}
	if output == "json" {
		err = writeJSON(a.Stdout, out)
	} else {
		err = a.printReport(&out)
	}
	if err == nil && r.Damage != nil {
		err = errkind.Errorf(errkind.Corrupt, "the journal is damaged at %s; what lies before that place is intact: stop using the folder and bring it back from a copy", r.Damage)
	}
	return err
}

// journalReport is what `journal check` found.
type journalReport struct {
	Folder   string         `json:"folder"`
	Segments int            `json:"segments"`
	Frames   int            `json:"frames"`
	Bytes    int64          `json:"bytes"`
	Events   int64          `json:"events"`
	Topics   []journalTopic `json:"topics"`
	// UnfinishedBytes lie at the end in a frame that nobody was told is durable; the next start cuts them off.
	UnfinishedBytes int64          `json:"unfinished_bytes"`
	Damage          *journalDamage `json:"damage,omitempty"`
}

type journalTopic struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Events     int64  `json:"events"`
	Bytes      int64  `json:"bytes"`
}

type journalDamage struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

func (a *app) printReport(r *journalReport) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITIONS\tEVENTS\tSIZE")
	for _, t := range r.Topics {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", t.Topic, t.Partitions, group(t.Events), bytesText(t.Bytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verdict := "ok"
	if r.Damage != nil {
		verdict = "DAMAGED"
	}
	unfinished := ""
	if r.UnfinishedBytes > 0 {
		unfinished = fmt.Sprintf("; %s of an unfinished frame at the end, which the next start cuts off", bytesText(r.UnfinishedBytes))
	}
	_, err := fmt.Fprintf(a.Stdout, "%s: %s: %d segments, %s frames, %s events, %s checked%s\n",
		r.Folder, verdict, r.Segments, group(int64(r.Frames)), group(r.Events), bytesText(r.Bytes), unfinished)
	return err
}
