package cli

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
)

// undoFlags are those of `orchestrate undo` alone.
type undoFlags struct {
	act, why, by string
	handsOff     time.Duration
	patience     time.Duration
}

func (u *undoFlags) add(p *pflag.FlagSet) {
	p.StringVar(&u.act, "act", "", "URL of what carries orders out, to take them back without a running loop")
	p.StringVar(&u.why, "why", "", "reason, for the journal")
	p.StringVar(&u.by, "by", "", "who does it; the default is the user of this process")
	p.DurationVar(&u.handsOff, "hands-off", 15*time.Minute, "how long the loop keeps its hands off, at most 24h")
	p.DurationVar(&u.patience, "wait", time.Minute, "how long to wait for the running loop")
}

// undone is what an undo did, as --output json has it.
type undone struct {
	Entry    uint64    `json:"entry"`
	Of       uint64    `json:"of"`
	Workers  int       `json:"workers"`
	HandsOff time.Time `json:"hands_off_until"`
}

func (a *app) orchestrateUndo(ctx context.Context, d *decisionFlags, args []string, u *undoFlags) (err error) {
	if err := checkOutput(d.output, "text", "json"); err != nil {
		return err
	}
	if u.handsOff < 0 || u.handsOff > 24*time.Hour || u.patience <= 0 {
		return usagef("--hands-off %s --wait %s: expected 0 to 24h, and a time to wait", u.handsOff, u.patience)
	}
	folder, err := a.decisionFolder(d.pipeline)
	if err != nil {
		return err
	}
	of, err := ordersToUndo(folder, args)
	if err != nil {
		return err
	}
	journal, err := orchestrator.OpenJournal(folder, orchestrator.JournalOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	now := a.Now()
	e := &orchestrator.Entry{
		Kind: orchestrator.KindUndo, Time: now, Unit: of.Unit, Pilot: of.Pilot, Mode: of.Mode, Of: of.ID, By: u.by, Why: firstText(u.why, "no reason was given"),
		Before: of.After, Expires: now.Add(u.handsOff),
	}
	if e.By == "" {
		e.By = userName()
	}
	if err := journal.Append(e); err != nil {
		return err
	}
	if u.act != "" {
		err = a.undoAt(ctx, u.act, journal, e)
	} else {
		err = awaitUndo(ctx, journal, e, u.patience)
	}
	if err != nil {
		return err
	}
	if d.output == "json" {
		return writeJSON(a.Stdout, undone{e.ID, of.ID, of.After.Workers, e.Expires})
	}
	_, err = fmt.Fprintf(a.Stdout, "undone: the orders of entry %d (%d workers) are taken back; the loop keeps its hands off until %s. Entry %d says so.\n",
		of.ID, of.After.Workers, timeText(e.Expires), e.ID)
	return err
}

// ordersToUndo finds the entry whose orders are in force, and refuses another.
func ordersToUndo(folder string, args []string) (*orchestrator.Entry, error) {
	carried := func(e *orchestrator.Entry) bool {
		return e.Kind == orchestrator.KindUndo || e.Kind == orchestrator.KindRevert || e.Kind == orchestrator.KindStop && e.Expires.IsZero() ||
			e.Kind == orchestrator.KindRound && e.Mode == orchestrator.ModeAct && e.Held == ""
	}
	entries, _, err := orchestrator.ReadJournal(folder, orchestrator.Query{Keep: carried, Last: 5000})
	if err != nil {
		return nil, err
	}
	var of *orchestrator.Entry
	for _, e := range entries {
		switch {
		case e.Kind != orchestrator.KindRound:
			of = nil
		case e.Carried() && (of == nil || e.Changes()):
			of = e
		}
	}
	if of == nil {
		return nil, errkind.New(errkind.NotFound, "undo: no order is in force by this journal")
	}
	if len(args) == 0 || args[0] == "last" {
		return of, nil
	}
	id, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || id == 0 {
		return nil, usagef("undo %q: expected last, or the number of an entry as freshet orchestrate log shows it", args[0])
	}
	if id != of.ID {
		return nil, errkind.Errorf(errkind.Conflict, "undo %d: its orders are not in force; those of entry %d are: undo %d, or undo last", id, of.ID, of.ID)
	}
	return of, nil
}

// undoAt takes the orders back itself.
func (a *app) undoAt(ctx context.Context, url string, journal *orchestrator.Journal, e *orchestrator.Entry) (err error) {
	unit, err := a.openActuator(ctx, url, builtin.OrchestratorOptions{Logger: a.log, Env: a.lookupEnv, Pipeline: e.Unit})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unit.Close()) }()
	err = unit.Revert(ctx)
	act := orchestrator.Act{Time: a.Now()}
	if err != nil {
		act.Error, act.ErrorKind = err.Error(), errkind.Of(err).String()
	}
	return errors.Join(err, journal.Answer(e.ID, act))
}

// awaitUndo waits until the running loop has taken the orders back.
func awaitUndo(ctx context.Context, journal *orchestrator.Journal, e *orchestrator.Entry, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		others, err := journal.Poll()
		if err != nil {
			return err
		}
		for _, o := range others {
			switch {
			case o.Kind != orchestrator.KindAct || o.Of != e.ID || o.Act == nil:
			case o.Act.Error != "":
				return errkind.Errorf(errkind.Transient, "undo: the loop could not take the orders back: %s", o.Act.Error)
			default:
				return nil
			}
		}
		if !wait(ctx, 100*time.Millisecond) {
			return errkind.Errorf(errkind.Transient, "undo: no loop has answered within %s: entry %d asks it to keep its hands off; to take the orders back now name what carries them out with --act URL", patience, e.ID)
		}
	}
}

// userName is who runs this process.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "somebody"
}
