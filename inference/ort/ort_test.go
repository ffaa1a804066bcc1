package ort

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-lanes" {
		fakeWorker(os.Args[1:])
		return
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the worker, compiled once for all tests.
var built struct {
	once            sync.Once
	dir, path, lib  string
	absent, problem error
}

func build() {
	script := filepath.Join("..", "..", "test", "servers", "onnxruntime.sh")
	cmd := exec.Command("bash", script, "path")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		built.absent = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
		return
	}
	built.lib = strings.TrimSpace(string(out))
	if built.dir, built.problem = os.MkdirTemp("", "freshet-ort"); built.problem != nil {
		return
	}
	built.path = filepath.Join(built.dir, workerName)
	cmd = exec.Command("go", "build", "-o", built.path, "github.com/freshet-io/freshet/cmd/freshet-onnxruntime")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		built.problem = fmt.Errorf("build the worker: %w: %s", err, out)
	}
}

// native are options with the real worker and ONNX Runtime.
func native(t testing.TB) Options {
	t.Helper()
	built.once.Do(build)
	switch {
	case built.absent != nil && slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), "onnxruntime"):
		t.Fatalf("FRESHET_REQUIRE names onnxruntime: %v", built.absent)
	case built.absent != nil:
		t.Skipf("NOT RUN: onnxruntime: %v; test/prepare.sh installs it", built.absent)
	case built.problem != nil:
		t.Fatal(built.problem)
	}
	return Options{Worker: built.path, Library: built.lib, Threads: 1, Instances: 2}
}

// open opens a model for the rest of the test.
func openModel(t testing.TB, path string, o Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// testdata is a model of the interpreter's tests.
func testdata(name string) string {
	return filepath.Join("..", "onnx", "testdata", "models", name+".onnx")
}
