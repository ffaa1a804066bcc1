package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
)

// shortTrace writes an hour of arrivals: steady, with ten minutes of three times as many.
func shortTrace(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("minute,requests\n")
	for i := range 60 {
		n := 60 * 1000
		if i >= 30 && i < 40 {
			n *= 3
		}
		fmt.Fprintf(&b, "%d,%d\n", i, n)
	}
	return write(t, "hour.csv", b.String())
}

func TestATraceIsOrchestratedAndAccountedFor(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	run := func(args ...string) string {
		t.Helper()
		return must(t, "", append([]string{"--data", data, "orchestrate"}, args...)...)
	}
	out := run("--observe", "trace:"+shortTrace(t), "--mode", "act", "--max", "20")
	for _, want := range []string{"hour, 1 h, 4,80", "by horizon", "worker-seconds", "explain --costliest 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out = run("log", "--changes", "--last", "0")
	for _, want := range []string{"ID", "start", "ordered", "stop"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out = run("explain", "--costliest", "1")
	for _, want := range []string{"Seen ", "Expected ", "Said by", "Weighed ", "Ordered ", "The actuator accepted it", "Outcome "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// Every round is there, and each line is read by programs.
	lines := strings.Split(strings.TrimSpace(run("log", "--last", "0", "-o", "json")), "\n")
	if len(lines) < 350 {
		t.Errorf("%d entries", len(lines))
	}
	var e struct {
		Kind  string
		Round struct {
			Signals struct{ Arrivals float64 }
		}
	}
	if err := json.Unmarshal([]byte(lines[100]), &e); err != nil || e.Kind != "round" || e.Round.Signals.Arrivals < 500 {
		t.Errorf("%v: %s", err, lines[100])
	}

	var all []otherwise
	if err := json.Unmarshal([]byte(run("counterfactual", "--policies", "horizon static:workers=12 keda", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 4 || all[0].Policy != "as done" || all[2].Policy != "static:workers=12" || all[2].Peak != 12 || all[2].WorkerSeconds < 11.9*3590 || all[2].WorkerSeconds > 12.1*3600 {
		t.Errorf("%+v", all)
	}

	// The journal has all that a policy decides on: asked again, it decides the same, but for what six digits
	// of a forecast do not tell.
	entries, _, err := orchestrator.ReadJournal(filepath.Join(data, "orchestrator", "trace-hour"), orchestrator.Query{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := builtin.OpenPolicy("horizon", 0)
	if err != nil {
		t.Fatal(err)
	}
	again := orchestrator.Replay(entries, p)
	rounds := slices.DeleteFunc(entries, func(e *orchestrator.Entry) bool { return e.Round == nil })
	others := 0
	for i, o := range again.Orders {
		if r := rounds[i].Round; o.Workers != r.Decided.Workers {
			others++
		}
	}
	if others > len(rounds)/100 {
		t.Errorf("asked again, it decides otherwise in %d of %d rounds", others, len(rounds))
	}
}

func TestATraceIsOnlyLookedAtUnlessToldToAct(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := shortTrace(t)
	var r rehearsed
	for _, mode := range []string{"observe", "advise"} {
		out := must(t, "", "--data", data, "orchestrate", "--observe", "trace:"+file, "--mode", mode, "-o", "json", "--max", "20")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Policy, "keda") || r.Peak < 3 {
			t.Errorf("%s: %+v", mode, r)
		}
	}
	entries, _, err := orchestrator.ReadJournal(r.Journal, orchestrator.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Act != nil {
			t.Fatalf("%+v", e)
		}
	}
}

func TestWrongWordsToOrchestrateAreUsage(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "orchestrator", "a"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(data, "orchestrator", "b"), 0o750); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ args, want string }{
		"no observer":      {"", "needs --observe"},
		"mode":             {"--observe trace:demo --mode drive", `mode "drive"`},
		"bounds":           {"--observe trace:demo --min 5 --max 3", "--min 5 --max 3"},
		"objective":        {"--observe trace:demo --objective 30s", `--objective "30s"`},
		"service":          {"--observe trace:demo --service fast", `--service "fast"`},
		"tier":             {"--observe trace:demo --tier small:speed=3", `--tier "small:speed=3"`},
		"policy":           {"--observe trace:demo --policy horizn", "did you mean horizon?"},
		"setting":          {"--observe trace:demo --policy hpa:goal=3", "goal"},
		"period of others": {"--observe trace:demo --policy hpa --period 1s", "its own period"},
		"trace and act":    {"--observe trace:demo --act http://localhost:1", "take the orders themselves"},
		"observer":         {"--observe promtheus+http://x --pipeline p", "did you mean prometheus+http?"},
		"actuator":         {"--observe http://localhost:1 --mode act --act kubernets://x --pipeline p", "did you mean kubernetes?"},
		"act on what":      {"--observe http://localhost:1 --mode act --pipeline p", "--mode act needs --act"},
		"who":              {"--observe http://localhost:1", "needs --pipeline"},
		"missing pipeline": {"--observe http://localhost:1 --pipeline none.yaml", "none.yaml"},
		"several journals": {"log", "a, b: choose one with --pipeline"},
		"entry":            {"explain x --pipeline a", `explain "x"`},
		"output":           {"log -o xml", `--output "xml"`},
	} {
		t.Run(name, func(t *testing.T) {
			o := exec(t, "", append([]string{"--data", data, "orchestrate"}, strings.Fields(c.args)...)...)
			if o.code != exitUsage || !strings.Contains(o.err, c.want) || strings.Count(o.err, "\n") != 1 {
				t.Errorf("exit code %d, standard error:\n%s", o.code, o.err)
			}
		})
	}
}

func TestAnUndoWithoutALoopSaysWhatToDo(t *testing.T) {
	data := t.TempDir()
	if o := exec(t, "", "--data", data, "orchestrate", "undo"); o.code != exitFailed || !strings.Contains(o.err, "no decision is in") {
		t.Errorf("%+v", o)
	}
	j, err := orchestrator.OpenJournal(filepath.Join(data, "orchestrator", "p"), orchestrator.JournalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if o := exec(t, "", "--data", data, "orchestrate", "undo"); o.code != exitFailed || !strings.Contains(o.err, "no order is in force") {
		t.Errorf("%+v", o)
	}
	for i := range 2 {
		e := &orchestrator.Entry{
			Kind: orchestrator.KindRound, Time: time.Now(), Unit: "p", Mode: orchestrator.ModeAct, Round: &orchestrator.Round{},
			Before: orchestrator.Orders{Workers: 1 + i}, After: orchestrator.Orders{Workers: 2 + i},
		}
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
		if err := j.Answer(e.ID, orchestrator.Act{Time: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if o := exec(t, "", "--data", data, "orchestrate", "undo", "1"); o.code != exitFailed || !strings.Contains(o.err, "those of entry 2 are") {
		t.Errorf("%+v", o)
	}
	if o := exec(t, "", "--data", data, "orchestrate", "undo", "--wait", "200ms"); o.code != exitFailed || !strings.Contains(o.err, "no loop has answered") {
		t.Errorf("%+v", o)
	}
}

func TestAnUndoIsAnsweredByTheLoop(t *testing.T) {
	data := t.TempDir()
	folder := filepath.Join(data, "orchestrator", "p")
	loop, err := orchestrator.OpenJournal(folder, orchestrator.JournalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	e := &orchestrator.Entry{
		Kind: orchestrator.KindRound, Time: time.Now(), Unit: "p", Mode: orchestrator.ModeAct, Round: &orchestrator.Round{},
		Before: orchestrator.Orders{Workers: 1}, After: orchestrator.Orders{Workers: 2},
	}
	if err := loop.Append(e); err != nil {
		t.Fatal(err)
	}
	if err := loop.Answer(e.ID, orchestrator.Act{Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "", nil, "--data", data, "orchestrate", "undo", "last", "--by", "ann", "--why", "too many")
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		found, err := loop.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 && found[0].Kind == orchestrator.KindUndo {
			if found[0].By != "ann" || found[0].Of != e.ID {
				t.Errorf("%+v", found[0])
			}
			if err := loop.Answer(found[0].ID, orchestrator.Act{Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if o := r.wait(t); o.code != exitDone || !strings.Contains(o.out, "the orders of entry 1 (2 workers) are taken back") {
		t.Errorf("%+v", o)
	}
	if out := must(t, "", "--data", data, "orchestrate", "explain", "2"); !strings.Contains(out, "too many") || !strings.Contains(out, "By ann") {
		t.Errorf("%s", out)
	}
}
