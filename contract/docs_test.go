package contract

import (
	"os"
	"strings"
	"testing"
)

// TestDocumentationHolds runs the example of docs/contracts.md, and holds its lists
// to those of the code.
func TestDocumentationHolds(t *testing.T) {
	text, err := os.ReadFile("../docs/contracts.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	block := func(language string) string {
		_, rest, ok := strings.Cut(doc, "```"+language+"\n")
		body, _, ok2 := strings.Cut(rest, "```")
		if !ok || !ok2 {
			t.Fatalf("no %s block", language)
		}
		return body
	}
	d := mustDecoder(t, mustParse(t, block("json")), Options{})
	var rows Rows
	lines := strings.Split(strings.TrimSpace(block("text")), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		got := decodeOne(d, lines[i], &rows)
		if got == "" {
			got = "ok"
		}
		if want := strings.TrimPrefix(lines[i+1], "=> "); got != want {
			t.Errorf("%s\n got %s\nwant %s", lines[i], got, want)
		}
	}
	for _, names := range [][]string{keysOf(keywords()), keysOf(formats()), Reasons()} {
		for _, name := range names {
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("%s is not documented", name)
			}
		}
	}
}
