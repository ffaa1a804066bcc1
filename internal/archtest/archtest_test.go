package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/freshet-io/freshet"

func TestModuleKeepsThePicture(t *testing.T) {
	files := readModule(t, "../..")
	if len(files) < 5 {
		t.Fatalf("read %d Go files below the module's root, expected the whole module", len(files))
	}
	for _, fault := range Check(module, files) {
		t.Error(fault)
	}
}

// readModule reads all Go files below root, leaving out nested modules and test data.
func readModule(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p == root {
				return nil
			}
			if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(rel)] = src
		return nil
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	return files
}

func TestTurnedArrowsAreFaults(t *testing.T) {
	tests := []struct {
		name string
		file string
		src  string
		want string // part of the fault; empty when there is none
	}{
		{"down is allowed", "pipeline/run.go", `package pipeline; import "$/broker"`, ""},
		{"up is refused", "broker/broker.go", `package broker; import "$/pipeline"`, "broker imports $/pipeline: arrows point down only, and pipeline lies above it"},
		{"up is refused in tests", "contract/a_test.go", `package contract; import "$/pipeline"`, "lies above it"},
		{"sideways is refused", "expr/expr.go", `package expr; import "$/contract"`, "contract lies beside it"},
		{"words on words below", "event/a.go", `package event; import "$/errkind"`, ""},
		{"words below on words above", "errkind/a.go", `package errkind; import "$/event"`, "lies above it"},
		{"words with a dependency", "event/a.go", `package event; import "golang.org/x/sys/unix"`, "standard library alone"},
		{"words with the standard library", "event/a.go", `package event; import "encoding/json"`, ""},
		{"a port and its child", "broker/broker.go", `package broker; import "$/broker/journal"`, "imports adapter broker/journal"},
		{"a port's test and its child", "broker/broker_test.go", `package broker_test; import "$/broker/journal"`, ""},
		{"an adapter and its port", "broker/journal/a.go", `package journal; import "$/broker"`, ""},
		{"an adapter and its own inside", "inference/onnx/a.go", `package onnx; import "$/inference/onnx/internal/kernel"`, ""},
		{"an adapter and another", "inference/onnx/a.go", `package onnx; import "$/broker/journal"`, "adapter inference/onnx imports adapter broker/journal"},
		{"an adapter not yet in any table", "broker/kafka/a.go", `package kafka; import "$/broker/journal"`, "adapter broker/kafka imports adapter"},
		{"the command line and an adapter", "internal/cli/run.go", `package cli; import "$/broker/journal"`, "only internal/builtin"},
		{"the list of adapters", "internal/builtin/a.go", `package builtin; import "$/broker/journal"`, ""},
		{"the list of adapters in a test", "pipeline/a_test.go", `package pipeline; import "$/internal/builtin"`, ""},
		{"the list of adapters below it", "pipeline/a.go", `package pipeline; import "$/internal/builtin"`, "lies above it"},
		{"benchmarks and an adapter", "bench/journal/a.go", `package journal; import "$/broker/journal"`, ""},
		{"a suite in a test", "broker/journal/a_test.go", `package journal; import "$/broker/brokertest"`, ""},
		{"a suite in the product", "broker/journal/a.go", `package journal; import "$/broker/brokertest"`, "conformance suites belong to tests"},
		{"a suite and its port", "broker/brokertest/a.go", `package brokertest; import "$/broker"`, ""},
		{"a suite and an adapter", "broker/brokertest/a.go", `package brokertest; import "$/broker/journal"`, "imports adapter"},
		{"a port and another port", "inference/a.go", `package inference; import "$/broker"`, "broker lies beside it"},
		{"a package without a room", "shuffle/a.go", `package shuffle`, "no place in the picture"},
		{"the root", "a.go", `package freshet`, "the module's root holds no Go files"},
		{"a name that says nothing", "pipeline/util/a.go", `package util`, `the name "util" says nothing`},
		{"a name hidden by its folder", "pipeline/plan/a.go", `package helpers`, `the name "helpers" says nothing`},
		{"not Go", "pipeline/a.go", `package`, "read Go source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := strings.ReplaceAll(tt.src, "$", module)
			got := Check(module, map[string][]byte{tt.file: []byte(src)})
			want := strings.ReplaceAll(tt.want, "$/", "")
			switch {
			case want == "" && len(got) > 0:
				t.Errorf("got %q, want no fault", got)
			case want != "" && len(got) != 1:
				t.Errorf("got %d faults %q, want one with %q", len(got), got, want)
			case want != "" && !strings.Contains(got[0], want):
				t.Errorf("got %q, want %q in it", got[0], want)
			}
		})
	}
}

func TestPortsShowNoTypeOfADependency(t *testing.T) {
	const head = `package inference; import ("context"; "google.golang.org/protobuf/proto"; yaml "go.yaml.in/yaml/v4"; "$/event"); `
	tests := []struct {
		name  string
		src   string
		fault bool
	}{
		{"a result", `func Open() (*yaml.Node, error) { return nil, nil }`, true},
		{"a parameter", `func Open(m proto.Message) {}`, true},
		{"a field", `type Model struct { Message proto.Message }`, true},
		{"an embedded type", `type Model struct { yaml.Node }`, true},
		{"a method of an interface", `type Driver interface { Put(nodes []yaml.Node) }`, true},
		{"a method", `type Model struct{}; func (*Model) Node() map[string]yaml.Node { return nil }`, true},
		{"a function in a field", `type Model struct { Each func(n yaml.Node) }`, true},
		{"a variable", `var Root yaml.Node`, true},
		{"an unexported field", `type Model struct { node yaml.Node }`, false},
		{"an unexported function", `func open(n yaml.Node) {}`, false},
		{"a method of an unexported type", `type m struct{}; func (m) Node() yaml.Node { return yaml.Node{} }`, false},
		{"a body", `func Open() { var n yaml.Node; _ = n }`, false},
		{"own and standard types", `func Open(context.Context, event.Record) {}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := strings.ReplaceAll(head+tt.src, "$", module)
			got := Check(module, map[string][]byte{"inference/a.go": []byte(src)})
			if (len(got) > 0) != tt.fault {
				t.Errorf("got %q, want a fault: %v", got, tt.fault)
			}
		})
	}
}
