package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/freshet-io/freshet/internal/cli"
)

// result is what a pipeline published of one row of a series.
type result struct {
	Key      string         `json:"key"`
	Time     time.Time      `json:"time"`
	Score    float64        `json:"score"`
	Route    string         `json:"route"`
	Features map[string]any `json:"features"`
}

// filled says whether the row was marked as filled.
func (r *result) filled() bool { return r.Features["filled"] == true }

// stream sends readings through a pipeline, from an empty broker to the end, and
// returns what came to the topic. Events are one a line in a file below dir.
func stream(dir, pipeline, topic string, readings func(w *json.Encoder) error) ([]result, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	events := filepath.Join(dir, "readings.ndjson")
	f, err := os.Create(events)
	if err != nil {
		return nil, err
	}
	if err := readings(json.NewEncoder(f)); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.RemoveAll(data); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"produce", "--pipeline", pipeline, "--data", data, events},
		{"run", pipeline, "--data", data, "--until-idle", "--listen", "off"},
	} {
		if _, err := freshet(args...); err != nil {
			return nil, err
		}
	}
	out, err := freshet("consume", topic, "--data", data, "--output", "json")
	if err != nil {
		return nil, err
	}
	var results []result
	for lines := json.NewDecoder(bytes.NewReader(out)); ; {
		var r result
		if err := lines.Decode(&r); err == io.EOF {
			return results, nil
		} else if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		results = append(results, r)
	}
}

// freshet runs a command of the program in this process and returns what it prints.
func freshet(args ...string) ([]byte, error) {
	var out, messages bytes.Buffer
	p := cli.OS()
	p.Args, p.Program, p.Stdin, p.Stdout, p.Stderr = args, "freshet", bytes.NewReader(nil), &out, &messages
	if code := cli.Main(p); code != 0 {
		return nil, fmt.Errorf("freshet %v: exit code %d: %s", args, code, messages.String())
	}
	return out.Bytes(), nil
}
