package builtin

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/pipeline"
)

// TestRuntimesOfTheDocsAreOpenedAsShown opens what docs/runtimes.md shows. No server
// is there: what is wrong with a URL or the options is found before that.
func TestRuntimesOfTheDocsAreOpenedAsShown(t *testing.T) {
	text, err := os.ReadFile("../../docs/runtimes.md")
	if err != nil {
		t.Fatal(err)
	}
	env := func(string) (string, bool) { return "secret", true }
	models := &Models{Env: env}
	hosts := regexp.MustCompile("://[^/]+")
	runtimes := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[1], "\ninputs:") {
			path := filepath.Join(t.TempDir(), "basic.rule.yaml")
			if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenModel(path); err != nil {
				t.Error(err)
			}
			runtimes["rule"] = true
			continue
		}
		spec, faults := pipeline.Parse("runtimes.md", []byte(m[1]), env)
		if err := pipeline.Error(faults); err != nil {
			t.Fatalf("%v\n%s", err, m[1])
		}
		for _, s := range spec.Steps {
			in, ok := s.(*pipeline.Infer)
			if !ok {
				continue
			}
			ref := &pipeline.ModelRef{Model: in.Model, Runtime: in.Runtime, Options: in.Options}
			for _, name := range in.Inputs {
				ref.Inputs = append(ref.Inputs, inference.Signature{Name: name, Type: inference.Float64})
			}
			want := errkind.NotFound
			if scheme, _, remote := strings.Cut(in.Model, "://"); remote {
				ref.Kind, ref.Model, want = pipeline.ModelURL, hosts.ReplaceAllString(in.Model, "://127.0.0.1:1"), errkind.Transient
				runtimes[strings.TrimSuffix(scheme, "+tls")] = true
			} else {
				runtimes[in.Runtime] = true
				ref.Model = filepath.Join(t.TempDir(), "none"+filepath.Base(in.Model))
			}
			if _, err := models.Open(t.Context(), ref); !errkind.Is(err, want) {
				t.Errorf("%s: %v, want %v for lack of the server alone", in.Model, err, want)
			}
		}
	}
	for _, name := range []string{"rule", "oip", "tfserving", "https", "openai", "onnxruntime"} {
		if !runtimes[name] {
			t.Errorf("docs/runtimes.md shows no %s", name)
		}
	}
}
