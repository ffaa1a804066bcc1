package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStartOfReading(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]startAt{
		"earliest":             {earliest: true},
		"latest":               {latest: true},
		"42":                   {position: 42},
		"15m":                  {time: now.Add(-15 * time.Minute)},
		"2026-01-30":           {time: time.Date(2026, 1, 30, 0, 0, 0, 0, time.UTC)},
		"2026-01-30T01:02:03Z": {time: time.Date(2026, 1, 30, 1, 2, 3, 0, time.UTC)},
		"2026-01-30T01:02:03":  {time: time.Date(2026, 1, 30, 1, 2, 3, 0, time.UTC)},
	} {
		got, err := parseStart(in, now)
		if err != nil || got.earliest != want.earliest || got.latest != want.latest || got.position != want.position || !got.time.Equal(want.time) {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "tomorrow", "-5m"} {
		if _, err := parseStart(in, now); err == nil {
			t.Errorf("%q: accepted", in)
		}
	}
}

// fill sends n events with ids 0 to n−1 to one partition.
func fill(t *testing.T, data, topic string, from, n int) {
	t.Helper()
	var b strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "{\"id\":%d}\n", i)
	}
	must(t, b.String(), "produce", topic, "--id", "id", "--partitions", "1", "--data", data)
}

func ids(t *testing.T, out string) (ids []int) {
	t.Helper()
	for _, l := range strings.Fields(out) {
		var v struct{ ID int }
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		ids = append(ids, v.ID)
	}
	return ids
}

func TestConsumeReadsAPartOfATopic(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	fill(t, data, "t", 0, 5)
	for args, want := range map[string][]int{
		"":                           {0, 1, 2, 3, 4},
		"--from 3":                   {3, 4},
		"--from 9":                   nil,
		"--from latest":              nil,
		"--limit 2":                  {0, 1},
		"--from 1h":                  {0, 1, 2, 3, 4},
		"--from 2099-01-01":          nil,
		"--partition 0 --limit 1":    {0},
		"--limit 5 --follow":         {0, 1, 2, 3, 4},
		"--from 2 --limit 1 -o json": {2},
	} {
		got := ids(t, must(t, "", append([]string{"consume", "t", "--data", data}, strings.Fields(args)...)...))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", args, d)
		}
	}
}

func TestConsumeAsEventHasTheWholeEnvelope(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, `{"id":7,"user":"a"}`, "produce", "t", "--id", "id", "--key", "user", "--partitions", "1", "--data", data)
	var e map[string]any
	if err := json.Unmarshal([]byte(must(t, "", "consume", "t", "-o", "event", "--data", data)), &e); err != nil {
		t.Fatal(err)
	}
	delete(e, "time")
	want := map[string]any{
		"specversion": "1.0", "id": "7", "source": "/", "type": "freshet.record", "partitionkey": "a",
		"partition": 0.0, "position": "0", "data": map[string]any{"id": 7.0, "user": "a"},
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
}

func TestTableIsSafeForATerminal(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "\x1b[31mred\a\n", "produce", "t", "--partitions", "1", "--data", data)
	out := must(t, "", "consume", "t", "-o", "table", "--data", data)
	if strings.ContainsAny(out, "\x1b\a") || !strings.Contains(out, "·[31mred·") || !strings.HasPrefix(out, "PART") {
		t.Errorf("got %q", out)
	}
}

func TestGroupGoesOnWhereItStopped(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	fill(t, data, "t", 0, 5)
	read := func(args ...string) []int {
		return ids(t, must(t, "", append([]string{"consume", "t", "--group", "g", "--data", data}, args...)...))
	}
	if d := cmp.Diff([]int{0, 1}, read("--limit", "2")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]int{2, 3, 4}, read()); d != "" {
		t.Error(d)
	}
	if got := read(); got != nil {
		t.Errorf("read again: %v", got)
	}
	fill(t, data, "t", 5, 2)
	out := must(t, "", "topics", "describe", "t", "--group", "g", "--data", data, "-o", "json")
	var info topicInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Groups) != 1 || info.Groups[0].Lag != 2 {
		t.Errorf("described as %s (%v)", out, err)
	}
	if d := cmp.Diff([]int{5, 6}, read()); d != "" {
		t.Error(d)
	}
	if got := ids(t, must(t, "", "consume", "t", "--group", "new", "--from", "latest", "--data", data)); got != nil {
		t.Errorf("new group from latest: %v", got)
	}
}

func TestMissingTopicNamesTheNearest(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	o := exec(t, "", "consume", "clicks", "--data", data)
	if o.code != exitFailed || !strings.Contains(o.err, "does not exist: name another with --data") {
		t.Errorf("code %d: %s", o.code, o.err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("reading made the data folder")
	}
	fill(t, data, "clicks", 0, 1)
	o = exec(t, "", "consume", "click", "--data", data)
	if o.code != exitFailed || !strings.Contains(o.err, `did you mean "clicks"?`) {
		t.Errorf("code %d: %s", o.code, o.err)
	}
}

func TestTopicsAreMadeDescribedListedAndDeleted(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	var b strings.Builder
	do := func(args ...string) {
		fmt.Fprintf(&b, "$ freshet %s\n", strings.Join(args, " "))
		o := exec(t, "", append(args, "--data", data)...)
		b.WriteString(strings.ReplaceAll(o.out+o.err, data, "DATA"))
		if o.code != exitDone {
			fmt.Fprintf(&b, "exit code %d\n", o.code)
		}
	}
	do("topics")
	do("topics", "create", "clicks", "--partitions", "2", "--retention", "168h", "--dedup-window", "0s")
	do("topics", "create", "clicks", "--partitions", "2")
	do("topics", "create", "clicks", "--partitions", "3")
	do("topics", "list")
	do("topics", "describe", "clicks", "--group", "g")
	do("topics", "describe", "clocks")
	do("topics", "delete", "clicks")
	do("topics", "delete", "clicks")
	do("topics", "-o", "json")
	golden(t, "topics", b.String())
}
