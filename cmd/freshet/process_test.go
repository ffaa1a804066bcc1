package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asProgram makes the test binary be freshet itself, so that tests can start,
// kill and restart real processes without building anything.
const asProgram = "FRESHET_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if address := os.Getenv(asModel); address != "" {
		serveModel(address)
	}
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const pipelineFile = "../../examples/card-fraud/pipeline.yaml"

// command is freshet with these arguments on a data folder.
func command(t testing.TB, data string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(args, "--data", data)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// freshet runs a command to its end, which has to be a good one.
func freshet(t testing.TB, data string, args ...string) (stdout string) {
	t.Helper()
	cmd := command(t, data, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("freshet %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// result is a result or a dead letter, as far as the tests read it.
type result struct {
	ID       string             `json:"id"`
	SourceID string             `json:"source_id"`
	Score    *float64           `json:"score"`
	Route    string             `json:"route"`
	Features map[string]float64 `json:"features"`
	Reason   string             `json:"reason"`
	Step     string             `json:"step"`
	Attempts int                `json:"attempts"`
	Payload  string             `json:"payload"`
	Origin   struct {
		Topic     string `json:"topic"`
		Partition int    `json:"partition"`
		Position  int64  `json:"position"`
	} `json:"origin"`
	line string
}

// consume reads a whole topic.
func consume(t testing.TB, data, topic string) (rs []result) {
	t.Helper()
	sc := bufio.NewScanner(strings.NewReader(freshet(t, data, "consume", topic, "--output", "json")))
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		r := result{line: sc.Text()}
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("topic %s holds %s: %v", topic, sc.Text(), err)
		}
		rs = append(rs, r)
	}
	return rs
}

// byID indexes results; an id that occurs twice is an error.
func byID(t testing.TB, rs []result) map[string]result {
	t.Helper()
	m := make(map[string]result, len(rs))
	twice := 0
	for _, r := range rs {
		if _, ok := m[r.ID]; ok {
			twice++
		}
		m[r.ID] = r
	}
	if twice > 0 {
		t.Errorf("%d results are there more than once", twice)
	}
	return m
}

// sharedData finds the public data sets, which are not part of the project.
func sharedData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("FRESHET_SHARED_DATA")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; at != filepath.Dir(at); at = filepath.Dir(at) {
			if d := filepath.Join(at, "shared", "data"); isDir(d) {
				dir = d
				break
			}
		}
	}
	if isDir(filepath.Join(dir, "card-fraud")) {
		return dir
	}
	const what = "the public card payments are not here: set FRESHET_SHARED_DATA to the folder that holds card-fraud/"
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
		t.Fatal(what)
	}
	t.Skip("SKIPPED: " + what)
	return ""
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// within runs a step of a test that must not hang.
func within(t testing.TB, d time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, d)
		}
	}
}

// corrupt are lines that no contract takes; %d makes each of them another one.
var corrupt = []string{
	`{"transaction_id": %d, "tx_datetime": `,
	`%d;2018-04-01;nothing`,
	`"%d`,
	"\xff\xfe%d,2018-04-01T00:00:31,1,1,5.00,0,0",
	`%d,2018-04-01T00:00:31,one,1,5.00,0,0`,
	`%d,2018-04-01T00:00:31,1,1,-5.00,0,0`,
	`%d,1018-04-01T00:00:31,1,1,5.00,0,0`,
	`%d,9018-04-01T00:00:31,1,1,5.00,0,0`,
	`%d,2018-04-01T00:00:31,,1,5.00,0,0`,
	`%d,yesterday,1,1,5.00,0,0`,
}

func corruptLine(i int) string {
	return fmt.Sprintf(corrupt[i%len(corrupt)], 5_000_000+i)
}
