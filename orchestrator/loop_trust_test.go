package orchestrator

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

func TestABreachBehindAnOrderBringsTheLastGoodOrdersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(8)
		p := &script{want: 8}
		l, dir := startLoop(t, s, p, nil)
		l.rounds(20)
		p.want = 4
		l.rounds(1)
		if s.workers != 4 {
			t.Fatalf("%d workers", s.workers)
		}
		s.signals.Late, s.signals.Oldest = 0.2, 20*time.Second
		e := l.rounds(4)
		if s.workers != 8 || e.After.Workers != 8 {
			t.Fatalf("%d workers, %+v", s.workers, e)
		}
		noted := read(t, dir, Query{Keep: func(e *Entry) bool { return strings.Contains(strings.Join(e.Notes, ""), "the objective was broken") }})
		if len(noted) != 1 {
			t.Errorf("noted %d times", len(noted))
		}
		s.signals.Late, s.signals.Oldest = 0, time.Second
		if l.rounds(30); s.workers != 8 {
			t.Errorf("%d workers within the time that the good orders are kept", s.workers)
		}
		if l.rounds(40); s.workers != 4 {
			t.Errorf("%d workers behind it", s.workers)
		}
	})
}

func TestABreachWithoutAnOrderOfOursIsThePilotsToMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(4)
		p := &script{want: 4}
		l, _ := startLoop(t, s, p, nil)
		l.rounds(20)
		s.signals.Late, s.signals.Oldest = 0.5, time.Minute
		p.want = 9
		e := l.rounds(20)
		if s.workers != 9 || len(e.Notes) > 0 {
			t.Errorf("%d workers, %v", s.workers, e.Notes)
		}
	})
}

func TestTheSecondBreachInAnHourLeavesTheReactiveScalerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(8)
		s.can.Floor = true
		p := &script{want: 8}
		l, dir := startLoop(t, s, p, nil)
		for range 2 {
			p.want = 8
			s.signals.Late, s.signals.Oldest = 0, time.Second
			l.rounds(20)
			p.want = 4
			if l.rounds(80); s.workers != 4 {
				t.Fatalf("%d workers", s.workers)
			}
			s.base = 8
			p.want = 3
			l.rounds(1)
			s.signals.Late, s.signals.Oldest = 0.2, 20*time.Second
			l.rounds(5)
		}
		reverts := read(t, dir, Query{Keep: func(e *Entry) bool { return e.Kind == KindRevert }})
		if len(reverts) != 1 || s.applied != nil {
			t.Fatalf("%d reverts, %+v in force", len(reverts), s.applied)
		}
		if e := l.rounds(3); !strings.Contains(e.Held, "hands off") || s.applied != nil {
			t.Errorf("%+v", e)
		}
		if l.rounds(100); s.applied == nil {
			t.Error("the loop never comes back")
		}
	})
}

func TestAnUndoIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, dir := startLoop(t, s, &script{want: 5}, nil)
		e := l.rounds(1)
		if _, err := l.Undo(context.Background(), e.ID+7, "ann", "no"); !errkind.Is(err, errkind.Conflict) {
			t.Errorf("an entry that is not in force: %v", err)
		}
		u, err := l.Undo(context.Background(), e.ID, "ann", "too many")
		if err != nil || s.workers != 3 || u.Of != e.ID {
			t.Fatalf("%+v, %v, %d workers", u, err, s.workers)
		}
		if _, err := l.Undo(context.Background(), 0, "ann", "again"); !errkind.Is(err, errkind.NotFound) {
			t.Errorf("twice: %v", err)
		}
		e = l.rounds(80)
		if s.workers != 3 || !strings.Contains(e.Held, "ann has undone our orders") {
			t.Errorf("%d workers, %q", s.workers, e.Held)
		}
		if l.rounds(20); s.workers != 5 {
			t.Errorf("%d workers behind it", s.workers)
		}
		if got := read(t, dir, Query{ID: u.ID})[0]; got.By != "ann" || got.Why != "too many" || !got.Carried() {
			t.Errorf("%+v", got)
		}
	})
}

func TestAnUndoByAnotherProcessIsCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, dir := startLoop(t, s, &script{want: 5}, nil)
		e := l.rounds(1)
		other := openJournal(t, dir, JournalOptions{NoSync: true})
		u := mustAppend(t, other, &Entry{Kind: KindUndo, Time: time.Now(), Unit: "u", Of: e.ID, By: "bob", Expires: time.Now().Add(5 * time.Minute)})
		if e := l.rounds(1); s.workers != 3 || !strings.Contains(e.Held, "bob") {
			t.Errorf("%d workers, %+v", s.workers, e)
		}
		found, err := other.Poll()
		if err != nil || !slices.ContainsFunc(found, func(e *Entry) bool { return e.Kind == KindAct && e.Of == u.ID && e.Act.Error == "" }) {
			t.Errorf("no answer: %v, %v", found, err)
		}
		if l.rounds(40); s.workers != 5 {
			t.Errorf("%d workers behind it", s.workers)
		}
	})
}
