package pipeline_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/pipeline"
)

// TestPipelinesOfTheDocsAreRead reads the files and parts of files that
// docs/pipelines.md shows; what a part leaves out is added.
func TestPipelinesOfTheDocsAreRead(t *testing.T) {
	text := string(read(t, "../docs/pipelines.md"))
	whole := []struct{ key, text string }{
		{"name", "name: example\n"},
		{"source", "source: {topic: events, contract: contract.schema.json}\n"},
		{"steps", "steps: [{route: [{to: results}]}]\n"},
	}
	read := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
		doc := m[1]
		if strings.HasPrefix(doc, "cases:") {
			continue
		}
		for _, w := range whole {
			if !regexp.MustCompile(`(?m)^` + w.key + `:`).MatchString(doc) {
				doc += w.text
			}
		}
		env := func(string) (string, bool) { return "secret", true }
		if _, faults := pipeline.Parse("pipelines.md", []byte(doc), env); len(faults) > 0 {
			t.Errorf("%v\n%s", pipeline.Error(faults), doc)
		}
		read++
	}
	if read < 5 {
		t.Errorf("%d pipelines found", read)
	}
}

func TestEveryKeyIsInTheDocs(t *testing.T) {
	text := string(read(t, "../docs/pipelines.md"))
	var schema any
	if err := json.Unmarshal(pipeline.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			if properties, ok := v["properties"].(map[string]any); ok {
				for name := range properties {
					if !regexp.MustCompile("`([a-z]+\\.)?" + name + "[`.:]|\\b" + name + ": |(?m:^## " + name + "$)|\\*\\*" + name + "\\*\\*").MatchString(text) {
						t.Errorf("docs/pipelines.md does not explain %q", name)
					}
				}
			}
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(schema)
}
