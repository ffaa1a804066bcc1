package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// decisionFlags are shared by the commands that read a journal of decisions.
type decisionFlags struct {
	pipeline string
	since    time.Duration
	output   string
}

func (a *app) orchestrateJournalCommands() []*cobra.Command {
	var d decisionFlags
	var last, costliest int
	var changes bool
	var policies string
	var u undoFlags
	log := &cobra.Command{
		Use: "log", Short: "List decisions, oldest first", Args: cobra.NoArgs,
		Example: `  freshet orchestrate log --changes
  freshet orchestrate log --since 1h --output json`,
		RunE: func(*cobra.Command, []string) error { return a.orchestrateLog(&d, last, changes) },
	}
	log.Flags().IntVar(&last, "last", 20, "the latest so many; 0 is all")
	log.Flags().BoolVar(&changes, "changes", false, "only those that changed an order, and what is no round")
	explain := &cobra.Command{
		Use:   "explain [ID...]",
		Short: "Account for decisions: what was seen, expected, weighed, ordered, and what came of it",
		Long: `Account for decisions: what was seen, what was expected and by whom, what was weighed and
why it lost, what was ordered and what a rail changed, what came of it. Without an ID it is
the latest decision that changed an order. --costliest takes those behind which the most was
paid, of those that raised the number of workers, each from another stretch of time.`,
		Example: `  freshet orchestrate explain
  freshet orchestrate explain 1204 1205
  freshet orchestrate explain --costliest 3`,
		RunE: func(_ *cobra.Command, args []string) error { return a.orchestrateExplain(&d, args, costliest) },
	}
	explain.Flags().IntVar(&costliest, "costliest", 0, "so many of those behind which the most was paid")
	counterfactual := &cobra.Command{
		Use:   "counterfactual",
		Short: "Say what other policies would have ordered on the same inputs, and what that would have cost",
		Long: `Say what other policies would have ordered on the recorded signals and forecasts, and what
that would have cost, against what was done. Each is asked as if it had looked on: with the
signals and orders that there were, of which its own are no part, and without rails. Late
is an estimate: the recorded arrivals into a queue that the policy's workers serve.`,
		Example: `  freshet orchestrate counterfactual --policies floor,keda,hpa:target=0.5
  freshet orchestrate counterfactual --since 6h --output json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.orchestrateCounterfactual(&d, policies) },
	}
	counterfactual.Flags().StringVar(&policies, "policies", "horizon floor hpa keda kpa ds2 flink", "policies, apart by blanks: "+policyNames()+"; settings as in hpa:target=0.5,sync=15s")
	undo := &cobra.Command{
		Use:   "undo [ID|last]",
		Short: "Take the orders back that are in force, and keep off for a while",
		Long: `Take the orders back that are in force: what scaled the pipeline before scales it again. The
journal says who did it and why, and the loop keeps its hands off for a while. With --act the
orders are taken back at once, also where no loop runs any more; without it the running
loop does it, and this command waits for its answer.`,
		Example: `  freshet orchestrate undo --why "the database behind cannot take so many"
  freshet orchestrate undo last --act keda://default/scorer --hands-off 2h`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.orchestrateUndo(cmd.Context(), &d, args, &u)
		},
	}
	u.add(undo.Flags())
	all := []*cobra.Command{log, explain, counterfactual, undo}
	for _, c := range all {
		c.Flags().StringVar(&d.pipeline, "pipeline", "", "name of what is scaled; not needed where there is one journal")
		if c != undo {
			c.Flags().DurationVar(&d.since, "since", 0, "only this long back from the latest entry; 0s is since the latest start, at most 24h, and all for log")
		}
		outputFlag(c.Flags(), &d.output, "text", "json")
	}
	return append(all, a.orchestrateExpireCommand())
}

// decisionFolder finds the journal of what is scaled.
func (a *app) decisionFolder(name string) (string, error) {
	if name != "" {
		folder := a.decisions(name)
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			return "", errkind.Errorf(errkind.NotFound, "no decision about %q is in %s; there are %s", name, a.data, firstText(strings.Join(a.decided(), ", "), "none"))
		}
		return folder, nil
	}
	switch names := a.decided(); len(names) {
	case 0:
		return "", errkind.Errorf(errkind.NotFound, "no decision is in %s: freshet orchestrate --observe trace:%s makes some", a.data, demoTrace)
	case 1:
		return a.decisions(names[0]), nil
	default:
		return "", usagef("there are journals about %s: choose one with --pipeline", strings.Join(names, ", "))
	}
}

// decided lists what there are journals about.
func (a *app) decided() []string {
	entries, err := os.ReadDir(filepath.Join(a.data, "orchestrator"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// defaultBack is how long back from the latest entry is read at most where nothing else was asked for.
const defaultBack = 24 * time.Hour

// readDecisions reads a journal: as long back as was asked for, otherwise all, or not the whole but since the latest start.
func (a *app) readDecisions(d *decisionFlags, q orchestrator.Query, whole bool) ([]*orchestrator.Entry, error) {
	folder, err := a.decisionFolder(d.pipeline)
	if err != nil {
		return nil, err
	}
	if d.since < 0 {
		return nil, usagef("--since %s: expected 0 or longer", d.since)
	}
	back := d.since
	if back == 0 && !whole {
		q.Start, back = true, defaultBack
	}
	if back > 0 {
		latest, _, err := orchestrator.ReadJournal(folder, orchestrator.Query{Last: 1})
		if err != nil {
			return nil, err
		}
		if len(latest) > 0 {
			q.From = latest[0].Time.Add(-back)
		}
	}
	entries, damaged, err := orchestrator.ReadJournal(folder, q)
	if err != nil {
		return nil, err
	}
	if damaged > 0 {
		a.log.Warn("lines of the journal could not be read and are left out", "lines", damaged, "folder", folder)
	}
	return entries, nil
}

func (a *app) orchestrateLog(d *decisionFlags, last int, changes bool) error {
	if err := checkOutput(d.output, "text", "json"); err != nil {
		return err
	}
	if last < 0 {
		return usagef("--last %d: expected 0 or more", last)
	}
	q := orchestrator.Query{Last: last}
	if changes {
		q.Keep = func(e *orchestrator.Entry) bool { return e.Round == nil || e.Changes() }
	}
	entries, err := a.readDecisions(d, q, true)
	if err != nil {
		return err
	}
	if d.output == "json" {
		return a.printEntries(entries)
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTIME\tWHAT\tWORKERS\tBATCH\tLATE\tCOST\tWHY")
	for _, e := range entries {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, timeText(e.Time), entryWhat(e), entryWorkers(e), entryBatch(e), outcomeLate(e), outcomeCost(e), entryWhy(e))
	}
	return w.Flush()
}

func (a *app) printEntries(entries []*orchestrator.Entry) error {
	for _, e := range entries {
		if _, err := a.Stdout.Write(append(orchestrator.EncodeEntry(e), '\n')); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

// entryWhat is what became of a decision, in a word.
func entryWhat(e *orchestrator.Entry) string {
	switch {
	case e.Round == nil:
		return string(e.Kind)
	case e.Round.Final.Hold:
		return "hold"
	case e.Mode != orchestrator.ModeAct:
		return string(e.Mode)
	case e.Held != "":
		return "held"
	case e.Act == nil:
		return "stays"
	case e.Act.Error != "":
		return "refused"
	case e.Changes():
		return "ordered"
	}
	return "renewed"
}

func entryWorkers(e *orchestrator.Entry) string {
	switch {
	case e.Round == nil:
		return "-"
	case e.Before.Workers == e.After.Workers:
		return strconv.Itoa(e.After.Workers)
	}
	return fmt.Sprintf("%d → %d", e.Before.Workers, e.After.Workers)
}

func entryBatch(e *orchestrator.Entry) string {
	if e.Round == nil || e.After.Batch == 0 {
		return "-"
	}
	return strconv.Itoa(e.After.Batch)
}

func outcomeLate(e *orchestrator.Entry) string {
	if e.Outcome == nil || !e.Outcome.Known.Has(orchestrator.KnownLate) {
		return "-"
	}
	return fmt.Sprintf("%.3g%%", 100*e.Outcome.Late)
}

func outcomeCost(e *orchestrator.Entry) string {
	if e.Outcome == nil || !e.Outcome.Known.Has(orchestrator.KnownWorkers) {
		return "-"
	}
	return fmt.Sprintf("%.4g", e.Outcome.Cost)
}

// entryWhy is the shortest reason: a rail's name, what is out of order, or the beginning of the policy's.
func entryWhy(e *orchestrator.Entry) string {
	var t []string
	if e.Held != "" {
		t = append(t, e.Held)
	}
	if e.Round != nil {
		for _, b := range e.Round.Rails {
			t = append(t, b.Rail)
		}
		if len(t) == 0 {
			t = append(t, e.Round.Final.Reason)
		}
	} else {
		t = append(t, e.Why)
	}
	t = append(t, e.Notes...)
	return cut(visible([]byte(strings.Join(t, "; "))), 100)
}

func (a *app) orchestrateExplain(d *decisionFlags, ids []string, costliest int) error {
	if err := checkOutput(d.output, "text", "json"); err != nil {
		return err
	}
	if costliest < 0 || costliest > 0 && len(ids) > 0 {
		return usagef("explain wants IDs, or --costliest with a number above 0")
	}
	var chosen []*orchestrator.Entry
	var err error
	switch {
	case costliest > 0:
		if chosen, err = a.readDecisions(d, orchestrator.Query{}, false); err != nil {
			return err
		}
		chosen = costliestOf(chosen, costliest)
	case len(ids) > 0:
		folder, err := a.decisionFolder(d.pipeline)
		if err != nil {
			return err
		}
		for _, text := range ids {
			id, err := strconv.ParseUint(text, 10, 64)
			if err != nil || id == 0 {
				return usagef("explain %q: expected the number of an entry, as freshet orchestrate log shows it", text)
			}
			found, _, err := orchestrator.ReadJournal(folder, orchestrator.Query{ID: id})
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return errkind.Errorf(errkind.NotFound, "there is no entry %d in %s", id, folder)
			}
			chosen = append(chosen, found...)
		}
	default:
		ordered := func(e *orchestrator.Entry) bool { return e.Kind == orchestrator.KindRound && e.Changes() }
		if chosen, err = a.readDecisions(d, orchestrator.Query{Last: 1, Keep: ordered}, true); err != nil {
			return err
		}
	}
	if d.output == "json" {
		return a.printEntries(chosen)
	}
	if len(chosen) == 0 {
		_, err := fmt.Fprintln(a.Stdout, "no decision has changed an order")
		return err
	}
	for i, e := range chosen {
		if i > 0 {
			fmt.Fprintln(a.Stdout)
		}
		if _, err := fmt.Fprint(a.Stdout, orchestrator.Explain(e)); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

// costliestOf chooses the decisions that raised the number of workers behind which the most was paid, each from
// another stretch of time: the one behind a costly one is not much cheaper.
func costliestOf(entries []*orchestrator.Entry, n int) []*orchestrator.Entry {
	var raised, chosen []*orchestrator.Entry
	for _, e := range entries {
		if e.Round != nil && e.Outcome != nil && e.After.Workers > e.Before.Workers {
			raised = append(raised, e)
		}
	}
	slices.SortStableFunc(raised, func(x, y *orchestrator.Entry) int { return cmp.Compare(y.Outcome.Cost, x.Outcome.Cost) })
	for _, e := range raised {
		near := slices.ContainsFunc(chosen, func(c *orchestrator.Entry) bool {
			apart := e.Time.Sub(c.Time).Abs()
			return apart < 2*c.Outcome.Until.Sub(c.Time)
		})
		if !near {
			chosen = append(chosen, e)
		}
		if len(chosen) == n {
			break
		}
	}
	return chosen
}
