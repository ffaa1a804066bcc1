package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// passing is what changes from run to run in what lineage and its neighbours print.
var passing = regexp.MustCompile(`20[2-9][0-9]-[0-9T:.-]+Z *|[0-9.]+ (ms|days|s) (after|from)|batch .*|configuration [0-9a-f]+|in [0-9.]+ m?s, [0-9,]+ events/s|[0-9,]+ events/s`)

// TestDocumentedLineageIsPrintedAsDocumented runs the commands of docs/lineage.md in
// order, in a folder with the examples.
func TestDocumentedLineageIsPrintedAsDocumented(t *testing.T) {
	path, err := filepath.Abs("../../docs/lineage.md")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs("../../examples/card-fraud")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.Symlink(examples, "card-fraud"); err != nil {
		t.Fatal(err)
	}
	n := 0
	fresh := regexp.MustCompile("(?s)```console\n\\$ freshet ([^\n]*)\n(.*?)```").ReplaceAllFunc(doc, func(block []byte) []byte {
		n++
		m := regexp.MustCompile("(?s)\\$ freshet ([^\n]*)\n(.*?)```").FindSubmatch(block)
		command, want := string(m[1]), string(m[2])
		o := exec(t, "", shellWords(command)...)
		if o.code != exitDone {
			t.Errorf("$ freshet %s\n%s", command, o.err)
		}
		if d := cmp.Diff(passing.ReplaceAllString(want, "…"), passing.ReplaceAllString(o.out, "…")); d != "" && !*update {
			t.Errorf("$ freshet %s (-documented +printed; -update writes it):\n%s", command, d)
		}
		return []byte("```console\n$ freshet " + command + "\n" + o.out + "```")
	})
	if n < 6 {
		t.Errorf("found only %d commands", n)
	}
	if *update {
		if err := os.WriteFile(path, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shellWords cuts a command at spaces, but for those in single quotes.
func shellWords(s string) (words []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
