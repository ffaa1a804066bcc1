package files

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func open(t testing.TB, dir, options string) *Sender {
	t.Helper()
	s, err := OpenSender(context.Background(), "file://"+dir+"?"+options, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns what a folder has, finished or not, as structured events or results by position.
func read(t testing.TB, dir string) (ids []string, lines [][]byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	// What is open is behind what is finished.
	slices.SortStableFunc(names, func(a, b string) int { return strings.Count(a[:1], ".") - strings.Count(b[:1], ".") })
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(name, ".jsonl"):
			for line := range bytes.Lines(b) {
				line = bytes.TrimSuffix(line, []byte("\n"))
				var x struct{ ID string }
				if err := json.Unmarshal(line, &x); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				ids, lines = append(ids, x.ID), append(lines, line)
			}
		case strings.HasSuffix(name, ".parquet"):
			for _, row := range readParquet(t, filepath.Join(dir, name)) {
				ids, lines = append(ids, fmt.Sprint(row["id"])), append(lines, nil)
			}
		case strings.HasSuffix(name, openSuffix):
			each(b, func(f frame) { ids, lines = append(ids, string(f.id)), append(lines, f.line) })
		}
	}
	return ids, lines
}

// readParquet returns the rows of a file.
func readParquet(t testing.TB, path string) (rows []map[string]any) {
	t.Helper()
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for g := range r.NumRowGroups() {
		group := r.RowGroup(g)
		n := int(group.NumRows())
		from := len(rows)
		for range n {
			rows = append(rows, map[string]any{})
		}
		for c := range group.NumColumns() {
			name := r.MetaData().Schema.Column(c).Name()
			reader, err := group.Column(c)
			if err != nil {
				t.Fatal(err)
			}
			there := make([]int16, n)
			var get func(i int) any
			switch reader := reader.(type) {
			case *file.Int64ColumnChunkReader:
				v := make([]int64, n)
				_, _, err = reader.ReadBatch(int64(n), v, there, nil)
				get = func(i int) any { return v[i] }
			case *file.Float64ColumnChunkReader:
				v := make([]float64, n)
				_, _, err = reader.ReadBatch(int64(n), v, there, nil)
				get = func(i int) any { return v[i] }
			case *file.BooleanColumnChunkReader:
				v := make([]bool, n)
				_, _, err = reader.ReadBatch(int64(n), v, there, nil)
				get = func(i int) any { return v[i] }
			case *file.ByteArrayColumnChunkReader:
				v := make([]pq.ByteArray, n)
				_, _, err = reader.ReadBatch(int64(n), v, there, nil)
				get = func(i int) any { return string(v[i]) }
			}
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			for i := range n {
				if there[i] == 1 {
					rows[from+i][name] = get(at)
					at++
				}
			}
		}
	}
	return rows
}

// asResult is a record of the suite as a pipeline's result is: with its id inside.
func asResult(key string, n int) event.Record {
	id := fmt.Sprintf("%s/%d", key, n)
	return event.Record{ID: []byte(id), Key: []byte(key), Value: fmt.Appendf(nil, `{"id":%q,"key":%q,"score":0.5,"n":%d}`, id, key, n)}
}

func harness(options string) bustest.SenderHarness {
	h := bustest.SenderHarness{
		Ordered: true, Keyed: true, JSON: true,
		Refused: func() event.Record { return event.Record{ID: []byte("bad"), Value: []byte("{")} },
		Record:  asResult,
		// What a line or row of a result does not carry, nobody can read.
		Expect: func(r event.Record) event.Record { return event.Record{ID: r.ID} },
		Target: func(t testing.TB) bustest.Target {
			dir := t.TempDir()
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender { return open(t, dir, options) },
				Read: func(t testing.TB, _ int) (all []event.Record) {
					ids, _ := read(t, dir)
					for _, id := range ids {
						all = append(all, event.Record{ID: []byte(id)})
					}
					return all
				},
			}
		},
	}
	if !strings.Contains(options, "content=events") {
		return h
	}
	structured := func(r event.Record) event.Record {
		x, err := event.FromStructured(event.AppendStructured(nil, &r))
		if err != nil {
			panic(err)
		}
		return x
	}
	h.JSON, h.Record, h.Refused, h.Expect = false, nil, nil, structured
	target := h.Target
	h.Target = func(t testing.TB) bustest.Target {
		x := target(t)
		dir := ""
		x.Open = func(t testing.TB) bus.Sender {
			if dir == "" {
				dir = t.TempDir()
			}
			return open(t, dir, options)
		}
		x.Read = func(t testing.TB, _ int) (all []event.Record) {
			_, lines := read(t, dir)
			for _, line := range lines {
				r, err := event.FromStructured(line)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, r)
			}
			return all
		}
		return x
	}
	return h
}

func TestSender(t *testing.T) {
	for _, options := range []string{"format=jsonl", "content=events&roll=2KiB", "format=parquet&roll=1KiB&every=5ms"} {
		t.Run(options, func(t *testing.T) {
			h := harness(options)
			if strings.Contains(options, "parquet") {
				h.Target = settled(h.Target)
			}
			bustest.RunSender(t, h)
		})
	}
}

// settled reads a folder when nothing is being finished: it closes the senders
// first, where files are finished by the clock.
func settled(target func(testing.TB) bustest.Target) func(testing.TB) bustest.Target {
	return func(t testing.TB) bustest.Target {
		x := target(t)
		open, read := x.Open, x.Read
		var last *Sender
		x.Open = func(t testing.TB) bus.Sender {
			last = open(t).(*Sender)
			return last
		}
		x.Read = func(t testing.TB, n int) []event.Record {
			last.mu.Lock()
			defer last.mu.Unlock()
			for _, p := range last.parts {
				p.mu.Lock()
			}
			all := read(t, n)
			for _, p := range last.parts {
				p.mu.Unlock()
			}
			return all
		}
		return x
	}
}

const child = "FRESHET_FILES_CHILD"

// TestChild is what is killed: it sends batches and says how far it has come.
func TestChild(t *testing.T) {
	url := os.Getenv(child)
	if url == "" {
		return // it is a part of TestNothingIsLostOrDoubledByKills
	}
	s, err := OpenSender(context.Background(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	from, err := strconv.Atoi(os.Getenv(child + "_FROM"))
	if err != nil {
		t.Fatal(err)
	}
	for ; ; from += 7 {
		b := bus.Batch{Topic: "a/b", Partition: 2}
		for i := range 7 {
			r := asResult("k", from+i)
			r.Position = int64(from + i)
			b.Records = append(b.Records, r)
		}
		if err := s.Send(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("sent %d\n", from+7)
	}
}

func TestNothingIsLostOrDoubledByKills(t *testing.T) {
	for _, f := range []string{"jsonl", "parquet"} {
		t.Run(f, func(t *testing.T) {
			dir := t.TempDir()
			url := "file://" + dir + "?roll=2KiB&every=20ms&format=" + f
			sent := 0
			for round := range 8 {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
				// Each repeats what the former may have done.
				cmd.Env = append(os.Environ(), child+"="+url, fmt.Sprintf("%s_FROM=%d", child, max(0, sent-7)))
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				for n := 0; n < 20+17*round && lines.Scan(); n++ {
					if _, err := fmt.Sscanf(lines.Text(), "sent %d", &sent); err != nil {
						t.Fatalf("the child said %q", lines.Text())
					}
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				for lines.Scan() {
					_, _ = fmt.Sscanf(lines.Text(), "sent %d", &sent)
				}
				_ = cmd.Wait()
			}
			if err := open(t, dir, "format="+f).Close(); err != nil {
				t.Fatal(err)
			}
			ids, _ := read(t, dir)
			if len(ids) < sent || len(ids) > sent+7 {
				t.Errorf("%d results are there, %d were sent", len(ids), sent)
			}
			for i, id := range ids {
				if want := fmt.Sprintf("k/%d", i); id != want {
					t.Fatalf("result %d is %s, want %s", i, id, want)
				}
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if n := e.Name(); n != ".lock" && !strings.HasPrefix(n, "a%2Fb-00002-") {
					t.Errorf("the folder has a file %s", n)
				}
			}
			t.Logf("8 kills, %d results, 0 lost, 0 twice", len(ids))
		})
	}
}

func TestResultsBecomeColumns(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "format=parquet")
	send := func(position int64, value string) {
		t.Helper()
		if err := s.Send(t.Context(), bus.Batch{Topic: "t", Records: []event.Record{{ID: []byte("record"), Position: position, Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	send(5, `{"id":"r1","time":"1970-01-01T00:00:01Z","score":1,"outputs":{"label":"x"},"features":{"a":1,"b":null,"mixed":1},"feature_times":{"a":"1970-01-01T00:00:00.5Z"},"position":9}`)
	send(7, `{ "source_id" : "s\u0041", "score": 0.5, "features": {"a":2,"night":true,"mixed":"m"}, "list":[1, 2], "position":8 }`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "t-00000-00000000000000000005-00000000000000000007.parquet")
	want := []map[string]any{
		{"position": int64(5), "id": "r1", "time": int64(1e9), "score": 1.0, "outputs.label": "x", "features.a": int64(1), "features.mixed": "1", "feature_times.a": int64(5e8)},
		{"position": int64(7), "id": "record", "source_id": "sA", "score": 0.5, "features.a": int64(2), "features.night": true, "features.mixed": "m", "list": "[1, 2]"},
	}
	if d := cmp.Diff(want, readParquet(t, name)); d != "" {
		t.Error(d)
	}
}

func TestFilesAreFinishedInTime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "every=10ms")
	defer s.Close()
	if err := s.Send(t.Context(), bus.Batch{Topic: "t", Records: []event.Record{{ID: []byte("1"), Value: []byte("{\n}")}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(filepath.Join(dir, "t-00000-00000000000000000000-00000000000000000000.jsonl"))
		if err == nil {
			if string(b) != "{}\n" {
				t.Errorf("the file holds %q", b)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the file was not finished")
		case <-tick.C:
		}
	}
}

// What a crash leaves between the steps of finishing a file is put right.
func TestWhatACrashLeavesIsPutRight(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	send := func(s *Sender, from, n int) {
		t.Helper()
		b := bus.Batch{Topic: "t"}
		for i := range n {
			r := asResult("k", from+i)
			r.Position = int64(from + i)
			b.Records = append(b.Records, r)
		}
		if err := s.Send(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	send(s, 0, 10)
	openName := s.parts[partKey{"t", 0}].openName()
	frames, err := os.ReadFile(openName)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(what string, left []byte, want int) {
		t.Helper()
		for name, b := range map[string][]byte{openName: left, filepath.Join(dir, ".t-x.jsonl"+tempSuffix): []byte("half")} {
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, dir, "")
		send(s, 5, want-5)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		ids, _ := read(t, dir)
		for i, id := range ids {
			if id != fmt.Sprintf("k/%d", i) {
				t.Fatalf("%s: result %d is %s", what, i, id)
			}
		}
		if len(ids) != want {
			t.Errorf("%s: %d results, want %d", what, len(ids), want)
		}
		if names, _ := filepath.Glob(filepath.Join(dir, ".t*")); len(names) > 0 {
			t.Errorf("%s: left are %v", what, names)
		}
	}
	check("an open file that a finished one has", frames, 12)
	torn := appendFrame(appendFrame(nil, 12, []byte("k/12"), []byte(`{"id":"k/12"}`)), 13, []byte("k/13"), []byte(`{"id":"k/13"}`))
	check("a torn end", torn[:len(torn)-3], 20)
}

func TestOneProcessWritesToAFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	defer s.Close()
	if _, err := OpenSender(t.Context(), "file://"+dir, Options{}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("got %v, want kind Conflict", err)
	}
}

func TestPositionsMustRise(t *testing.T) {
	s := open(t, t.TempDir(), "")
	defer s.Close()
	err := s.Send(t.Context(), bus.Batch{Records: []event.Record{{Value: []byte("1")}, {Value: []byte("2")}}})
	var refused *bus.RefusedError
	if !errkind.Is(err, errkind.Permanent) || errors.As(err, &refused) {
		t.Errorf("got %v, want kind Permanent", err)
	}
}

func TestURLsAreChecked(t *testing.T) {
	for url, want := range map[string]string{
		"files:///tmp/x":                              "file:///folder",
		"file://tmp/x":                                "three slashes",
		"file://":                                     "no folder",
		"file:///tmp/x?format=csv":                    "jsonl or parquet",
		"file:///tmp/x?roll=many":                     "64MiB",
		"file:///tmp/x?roll=2GiB":                     "64MiB",
		"file:///tmp/x?every=0s":                      "duration",
		"file:///tmp/x?format=parquet&content=events": "format=jsonl",
		"file:///tmp/x?rol=1MiB":                      `did you mean "roll"`,
	} {
		if _, err := parse(url, Options{}); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a Config error with %q", url, err, want)
		}
	}
	for url, want := range map[string]string{"file:///tmp/x": "/tmp/x", "file://./x": "x", "file://../x/y": "../x/y"} {
		if s, err := parse(url, Options{}); err != nil || s.dir != want {
			t.Errorf("%s: folder %v, %v, want %s", url, s, err, want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(nil, 7, []byte("id"), []byte("{}")))
	f.Fuzz(func(t *testing.T, b []byte) {
		for more := true; more; {
			var x frame
			var rest []byte
			if x, rest, more = cutFrame(b); more {
				if again := appendFrame(nil, x.position, x.id, x.line); len(again) > len(b)-len(rest) {
					t.Fatalf("%x became %x", b, again)
				}
			}
			b = rest
		}
	})
}

func FuzzParquet(f *testing.F) {
	f.Add([]byte(`{"id":"r1","time":"1970-01-01T00:00:01Z","features":{"a":1,"\u0061":2},"a":[1]}`), []byte(`{"time":"x","features":{"a":1.5},"features.a":true}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var frames []byte
		for i, v := range [][]byte{a, b} {
			if isObject(v) {
				frames = appendFrame(frames, int64(i), []byte("x"), v)
			}
		}
		var out bytes.Buffer
		if err := writeParquet(&out, frames); err != nil {
			t.Fatal(err)
		}
	})
}
