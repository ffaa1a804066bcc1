package main

import (
	"os"
	"strings"
	"testing"
)

// TestREADMEShowsTheExampleAsItIs holds the pipeline in the README to the file that runs.
func TestREADMEShowsTheExampleAsItIs(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(pipelineFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```yaml\n")
	shown, _, _ := strings.Cut(rest, "```")
	var want strings.Builder
	for line := range strings.Lines(string(file)) {
		if s := strings.TrimSpace(line); s != "" && !strings.HasPrefix(s, "#") {
			want.WriteString(line)
		}
	}
	if shown != want.String() {
		t.Errorf("the README shows\n%s\nand the file without its comments is\n%s", shown, want.String())
	}
}
