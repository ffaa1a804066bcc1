package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/freshet-io/freshet/model"
)

func (a *app) modelsLog(ctx context.Context, name string, evidence bool, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	c, err := a.catalog(ctx)
	if err != nil {
		return err
	}
	states, err := c.Log(ctx, name)
	if err != nil {
		return err
	}
	if output == "json" {
		if states == nil {
			states = []*model.State{}
		}
		return writeJSON(a.Stdout, states)
	}
	if len(states) == 0 {
		_, err := fmt.Fprintf(a.Stdout, "nothing was decided about %s yet: freshet models promote %s VERSION\n", name, name)
		return err
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tTIME\tBY\tCHAMPION\tROLLOUT\tWHY")
	for _, s := range states {
		rollout := "-"
		if r := s.Rollout; r.Running() {
			rollout = fmt.Sprintf("%s %s %s", r.Role, r.Version, shareText(r.Share))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", s.Generation, timeText(s.Time), firstText(s.By, "-"), firstText(s.Champion, "-"), rollout, s.Why)
	}
	if err := w.Flush(); err != nil || !evidence {
		return err
	}
	decided := map[string]int{} // decisions that were shown, by rollout
	for _, s := range states {
		if s.Rollout == nil {
			continue
		}
		past := s.Rollout.Past
		for _, d := range past[min(decided[s.Rollout.ID], len(past)):] {
			if err := a.printDecision(s, &d); err != nil {
				return err
			}
		}
		decided[s.Rollout.ID] = len(past)
	}
	return nil
}

// printDecision shows what a decision stands on.
func (a *app) printDecision(s *model.State, d *model.Decision) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nstate %d: %s of version %s, step %d, %s rows in %.4g s: %s: %s\n",
		s.Generation, s.Rollout.Role, s.Rollout.Version, d.Step, group(int64(d.Rows)), d.Seconds, d.Action, d.Reason)
	if len(d.Findings) > 0 {
		fmt.Fprintln(w, "GATE\tVERDICT\tCHALLENGER\tCHAMPION\tBOUND\tSEEN\tSEEN OF CHAMPION\tNOTE")
	}
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%s\t%s\t%.4g\t%.4g\t%.4g\t%s\t%s\t%s\n", f.Gate, f.Verdict, f.Challenger, f.Champion, f.Bound,
			group(int64(f.N)), group(int64(f.ChampionN)), f.Note)
	}
	return w.Flush()
}
