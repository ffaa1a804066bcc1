package cli

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// otherwise is a counterfactual as --output json has it.
type otherwise struct {
	Policy        string    `json:"policy"`
	From          time.Time `json:"from"`
	Until         time.Time `json:"until"`
	Rounds        int       `json:"rounds"`
	WorkerSeconds float64   `json:"worker_seconds"`
	Cost          float64   `json:"cost"`
	Actions       int       `json:"actions"`
	Peak          int       `json:"peak_workers"`
	// LateShare is an estimate; null where nothing can be said.
	LateShare *float64 `json:"estimated_late_share"`
	Differs   int      `json:"rounds_that_differ"`
}

func (a *app) orchestrateCounterfactual(d *decisionFlags, policies string) error {
	if err := checkOutput(d.output, "text", "json"); err != nil {
		return err
	}
	entries, err := a.readDecisions(d, orchestrator.Query{}, false)
	if err != nil {
		return err
	}
	done := orchestrator.Done(entries)
	if done.Rounds == 0 {
		return errkind.New(errkind.NotFound, "the journal has no rounds to replay")
	}
	all := []orchestrator.Counterfactual{done}
	for _, text := range strings.Fields(policies) {
		p, err := openPolicy(text, 0)
		if err != nil {
			return err
		}
		c := orchestrator.Replay(entries, p)
		c.Policy = text
		all = append(all, c)
	}
	if d.output == "json" {
		out := make([]otherwise, 0, len(all))
		for _, c := range all {
			o := otherwise{c.Policy, c.From, c.Until, c.Rounds, c.WorkerSeconds, c.Cost, c.Actions, c.Peak, nil, c.Differs}
			if !math.IsNaN(c.Late) {
				o.LateShare = &c.Late
			}
			out = append(out, o)
		}
		return writeJSON(a.Stdout, out)
	}
	fmt.Fprintf(a.Stdout, "%d rounds from %s to %s\n\n", done.Rounds, timeText(done.From), timeText(done.Until))
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POLICY\tWORKER-SECONDS\tCOST\tAGAINST DONE\tEST. LATE\tACTIONS\tPEAK\tROUNDS THAT DIFFER")
	for i, c := range all {
		against := "-"
		if i > 0 && done.Cost > 0 {
			against = fmt.Sprintf("%+.1f%%", 100*(c.Cost/done.Cost-1))
		}
		late := "-"
		if !math.IsNaN(c.Late) {
			late = fmt.Sprintf("%.3g%%", 100*c.Late)
		}
		fmt.Fprintf(w, "%s\t%s\t%.6g\t%s\t%s\t%d\t%d\t%d\n", c.Policy, group(int64(c.WorkerSeconds)), c.Cost, against, late, c.Actions, c.Peak, c.Differs)
	}
	return w.Flush()
}
