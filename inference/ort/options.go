package ort

import (
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference/internal/settings"
)

// Environment variables that name files; Options and defaults come after them.
const (
	// EnvWorker names the worker's binary.
	EnvWorker = "FRESHET_ONNXRUNTIME_WORKER"
	// EnvLibrary names ONNX Runtime's shared library.
	EnvLibrary = "FRESHET_ONNXRUNTIME_LIBRARY"
)

const workerName = "freshet-onnxruntime"

// Options say how a model is evaluated; the zero value of a field means its default.
type Options struct {
	// Worker is the path of the command freshet-onnxruntime (default: EnvWorker, then beside
	// this program, then in PATH).
	Worker string
	// Library is the path of ONNX Runtime's shared library (default: EnvLibrary, then
	// beside the worker and in ../lib, then where the system has libraries).
	Library string
	// Threads of one call (default 1) and Instances, calls at a time (default GOMAXPROCS
	// divided by Threads).
	Threads, Instances int
	// Memory is the most bytes that the worker may allocate; 0 is no limit.
	Memory int64
	// MaxBytes is the largest size of a file (default 1 GiB, at most 2 GiB less a byte).
	MaxBytes int64
	// MaxBatch is the largest number of rows of one Infer (default 0: no limit).
	MaxBatch int
	// Settings are a pipeline's; see the package. They win over the fields above.
	Settings map[string]any
	// Env looks up environment variables (default: those of the process).
	Env    func(string) (string, bool)
	Logger *slog.Logger

	spin      bool
	killAfter time.Duration
	start     time.Duration // a worker may take to start and load the model
	wait      time.Duration // a call waits for a worker
	calm      time.Duration // a worker that lived longer did not end in a row
	pauses    []time.Duration
}

func (o Options) withDefaults() (Options, error) {
	s := settings.Read("options of onnxruntime", o.Settings)
	o.Threads = s.Int("threads", o.Threads, 1)
	o.Instances = s.Int("instances", o.Instances, 1)
	o.spin = s.Bool("spin", o.spin)
	o.killAfter = s.Duration("kill_after", o.killAfter)
	if v := s.Any("memory"); v != nil {
		n, ok := size(v)
		if !ok {
			s.Fail("memory", "expected a size of at least 256MiB, such as 2GiB, not %v", v)
		}
		o.Memory = n
	}
	if err := s.Done(); err != nil {
		return o, err
	}
	if o.Threads <= 0 {
		o.Threads = 1
	}
	if o.Instances <= 0 {
		o.Instances = max(1, runtime.GOMAXPROCS(0)/o.Threads)
	}
	if most := 1024; o.Threads > most || o.Instances > most {
		return o, errkind.Errorf(errkind.Config, "options of onnxruntime: %d threads and %d instances, at most %d each are allowed", o.Threads, o.Instances, most)
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 30
	}
	o.MaxBytes = min(o.MaxBytes, math.MaxInt32)
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.killAfter, 10*time.Second)
	set(&o.start, 2*time.Minute)
	set(&o.wait, 5*time.Second)
	set(&o.calm, time.Minute)
	if o.pauses == nil {
		o.pauses = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, time.Minute}
	}
	return o, nil
}

// size reads a number of bytes; a text may end in KiB, MiB or GiB.
func size(v any) (int64, bool) {
	var f float64
	switch v := v.(type) {
	case int:
		f = float64(v)
	case int64:
		f = float64(v)
	case uint64:
		f = float64(v)
	case float64:
		f = v
	case string:
		unit := 1.0
		for i, u := range []string{"KiB", "MiB", "GiB"} {
			if t, ok := strings.CutSuffix(v, u); ok {
				v, unit = t, float64(int64(1)<<(10*(i+1)))
			}
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return 0, false
		}
		f = n * unit
	}
	return int64(f), f >= 256<<20 && f < 1<<50
}

// findWorker is the path of the worker's binary.
func (o *Options) findWorker() (string, error) {
	path := o.Worker
	if path == "" {
		path, _ = o.Env(EnvWorker)
	}
	if path == "" {
		if self, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(self), workerName)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
				path = beside
			}
		}
	}
	if path == "" {
		path = workerName
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", errkind.Errorf(errkind.Config, "find the worker of ONNX Runtime: %w: install %s beside freshet or in PATH, or name it in %s; or leave out runtime: onnxruntime", err, workerName, EnvWorker)
	}
	return found, nil
}

func (o *Options) library() string {
	if o.Library != "" {
		return o.Library
	}
	path, _ := o.Env(EnvLibrary)
	return path
}
