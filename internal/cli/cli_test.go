package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// lockedBuffer is a stream that a running command writes and the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a command on its way.
type running struct {
	out, err *lockedBuffer
	signals  chan os.Signal
	code     chan int
}

// begin starts a command in this process.
func begin(t *testing.T, stdin string, env map[string]string, args ...string) *running {
	t.Helper()
	return beginAs(t, stdin, env, 0, args...)
}

// beginAs is begin with both outputs on a terminal of so many columns; 0 is none.
func beginAs(t *testing.T, stdin string, env map[string]string, columns int, args ...string) *running {
	t.Helper()
	r := &running{out: &lockedBuffer{}, err: &lockedBuffer{}, signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	p := Process{
		Args:   args,
		Env:    func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Stdin:  strings.NewReader(stdin),
		Stdout: r.out,
		Stderr: r.err,
		Now:    time.Now,
		Signals: func() (<-chan os.Signal, func()) {
			return r.signals, func() {}
		},
		Width: func(any) (int, bool) { return columns, columns > 0 },
		Exit:  func(code int) { t.Errorf("the process was ended with code %d", code) },
	}
	go func() { r.code <- Main(p) }()
	return r
}

func (r *running) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case code := <-r.code:
		return outcome{code, r.out.String(), r.err.String()}
	case <-time.After(time.Minute):
		t.Fatalf("the command does not end; standard error so far:\n%s", r.err.String())
		return outcome{}
	}
}

// until waits for text on a stream of a running command.
func (r *running) until(t *testing.T, b *lockedBuffer, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(b.String(), text) {
		select {
		case <-tick.C:
		case code := <-r.code:
			r.code <- code
			if strings.Contains(b.String(), text) {
				return
			}
			t.Fatalf("the command ended with code %d without writing %q; standard error:\n%s", code, text, r.err.String())
		case <-deadline:
			t.Fatalf("the command does not write %q; output:\n%s\nstandard error:\n%s", text, r.out.String(), r.err.String())
		}
	}
}

func (r *running) interrupt() { r.signals <- os.Interrupt }

// exec runs a command to its end.
func exec(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return begin(t, stdin, nil, args...).wait(t)
}

// must runs a command that has to succeed and returns its output.
func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	o := exec(t, stdin, args...)
	if o.code != exitDone {
		t.Fatalf("freshet %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o.out
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test ./internal/cli -update", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-golden +got):\n%s", name, d)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongUsageExitsWithCode2AndOneMessage(t *testing.T) {
	dir := t.TempDir()
	file := write(t, "file", "")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":          {[]string{"prodcue"}, `unknown command "prodcue"`},
		"unknown flag":             {[]string{"topics", "--frm"}, "unknown flag: --frm"},
		"missing argument":         {[]string{"consume"}, "accepts 1 arg(s), received 0"},
		"bad value":                {[]string{"consume", "t", "--limit", "x"}, `invalid argument "x" for "--limit"`},
		"bad level":                {[]string{"version", "--log-level", "loud"}, `--log-level "loud": expected debug`},
		"bad output":               {[]string{"version", "--output", "xml"}, `--output "xml": expected text or json`},
		"no topic":                 {[]string{"produce"}, "produce needs a TOPIC"},
		"bad topic":                {[]string{"produce", "a/b"}, "the first argument is the topic"},
		"missing input":            {[]string{"produce", "t", filepath.Join(dir, "none.csv")}, "no such file"},
		"folder as input":          {[]string{"produce", "t", dir}, "is a folder"},
		"negative rate":            {[]string{"produce", "t", "--rate", "-1"}, "--rate -1"},
		"generator flags alone":    {[]string{"produce", "t", "--count", "5"}, "--count belongs to --generate"},
		"unknown generator":        {[]string{"produce", "t", "--generate", "x"}, "expected card-fraud"},
		"generator and file":       {[]string{"produce", "t", "--generate", "card-fraud", "x"}, "give one of them"},
		"missing pipeline":         {[]string{"produce", "--pipeline", filepath.Join(dir, "p.yaml")}, "cannot read the pipeline file"},
		"missing contract":         {[]string{"produce", "t", "--contract", filepath.Join(dir, "c.json")}, "c.json"},
		"bad start":                {[]string{"consume", "t", "--from", "noon"}, `--from "noon": expected earliest`},
		"group and partition":      {[]string{"consume", "t", "--group", "g", "--partition", "1"}, "--group and --partition"},
		"lint of a missing file":   {[]string{"run", filepath.Join(dir, "p.yaml")}, "cannot read the pipeline file"},
		"partitions out of range":  {[]string{"topics", "create", "t", "--partitions", "0"}, "--partitions 0"},
		"demo without duration":    {[]string{"demo", "card-fraud", "--duration", "0s"}, "--duration 0s"},
		"a file as data folder":    {[]string{"topics", "create", "t", "--data", file}, "this is a file, expected a folder"},
		"csv without names":        {[]string{"produce", "t", "--format", "csv"}, "standard input:1: column 1 of the header line has no name"},
		"bad topic name to create": {[]string{"topics", "create", "ä"}, "topic name"},
	} {
		t.Run(name, func(t *testing.T) {
			o := exec(t, "\n", append([]string{"--data", filepath.Join(dir, "data")}, c.args...)...)
			if o.code != exitUsage || !strings.Contains(o.err, c.want) || !strings.HasPrefix(o.err, "freshet: ") {
				t.Errorf("exit code %d, standard error:\n%s", o.code, o.err)
			}
			if strings.Contains(o.err, "Usage:") || strings.Count(o.err, "\n") != 1 {
				t.Errorf("expected one line, got:\n%s", o.err)
			}
		})
	}
}

func TestVersionIsReadableByPrograms(t *testing.T) {
	var v map[string]any
	if err := json.Unmarshal([]byte(must(t, "", "version", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	if v["go"] == "" || v["platform"] == "" || v["version"] == "" {
		t.Errorf("got %v", v)
	}
	if out := must(t, "", "version"); !strings.HasPrefix(out, "freshet ") || strings.Count(out, "\n") != 1 {
		t.Errorf("got %q", out)
	}
}

func TestHelpDocumentsExitCodes(t *testing.T) {
	if out := must(t, "", "--help"); !strings.Contains(out, exitHelp) {
		t.Errorf("got:\n%s", out)
	}
}

var numbers = regexp.MustCompile(`in [0-9.]+ s, [0-9,]+ events/s`)

// timeless replaces what differs from run to run.
func timeless(s string) string { return numbers.ReplaceAllString(s, "in N s, N events/s") }
