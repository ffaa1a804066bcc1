package main

import (
	"bytes"
	"context"
	_ "embed" // the program for DuckDB
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// duckPython names a Python that has the package duckdb.
const duckPython = "FRESHET_DUCKDB_PYTHON"

//go:embed sliding_duckdb.py
var duckProgram []byte

func duckEngines() []slidingEngine {
	missing := ""
	if os.Getenv(duckPython) == "" {
		missing = duckPython + " names no Python with DuckDB (bench/run.sh makes one where there is python3)"
	}
	engine := func(name, what string, batch int) slidingEngine {
		return slidingEngine{name: name, what: what, missing: missing,
			run: func(ctx context.Context, w *slidingWork, dir string, limit time.Duration) (slidingResult, error) {
				return runDuck(ctx, w, dir, batch, limit)
			}}
	}
	return []slidingEngine{
		engine("DuckDB in batches", "DuckDB on all cores, keys as integers, batches of 10,240 events: an insert and a query that joins the batch with the table; answers come a batch later", 10_240),
		engine("DuckDB, all at once", "DuckDB on all cores, keys as integers, one query with three window frames over all events of 45 days; no answer before the last event is there", 0),
	}
}

func runDuck(ctx context.Context, w *slidingWork, dir string, batch int, limit time.Duration) (out slidingResult, err error) {
	if err := writeSliding(w, dir); err != nil {
		return out, err
	}
	program := filepath.Join(dir, "sliding.py")
	if err := os.WriteFile(program, duckProgram, 0o600); err != nil {
		return out, err
	}
	cmd := exec.CommandContext(ctx, os.Getenv(duckPython), program, dir, strconv.Itoa(len(w.names)), strconv.Itoa(w.filled()),
		strconv.Itoa(batch), strconv.Itoa(slidingEach), strconv.FormatFloat(limit.Seconds(), 'g', -1, 64))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	data, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	err = json.Unmarshal(data, &out)
	return out, err
}
