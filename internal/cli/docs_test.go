package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestCommandReferenceIsUpToDate holds docs/commands.md to the commands' own help.
func TestCommandReferenceIsUpToDate(t *testing.T) {
	a := &app{}
	root := a.root()
	root.InitDefaultCompletionCmd()
	var b bytes.Buffer
	b.WriteString("# Commands\n\nWritten by `go test ./internal/cli -update` from what `freshet help` says.\n\n")
	describeCommand(&b, root)
	path := filepath.Join("..", "..", "docs", "commands.md")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("docs/commands.md is old, run go test ./internal/cli -update:\n%s", d)
	}
}

func describeCommand(b *bytes.Buffer, c *cobra.Command) {
	fmt.Fprintf(b, "## %s\n\n", c.CommandPath())
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	text, indented := strings.TrimSpace(long), "\n  "
	if strings.Contains(text, indented) {
		// Lists and code of the help text are laid out by hand.
		fmt.Fprintf(b, "```text\n%s\n```\n\n", text)
	} else {
		fmt.Fprintf(b, "%s\n\n", text)
	}
	if c.Runnable() {
		fmt.Fprintf(b, "```text\n%s\n```\n\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(b, "Example:\n\n```sh\n%s\n```\n\n", strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
	}
	flags := c.NonInheritedFlags()
	if flags.HasAvailableFlags() {
		fmt.Fprintf(b, "Flags:\n\n```text\n%s```\n\n", flags.FlagUsages())
	}
	for _, sub := range c.Commands() {
		if sub.Name() == "help" || c.Name() == "completion" {
			continue
		}
		describeCommand(b, sub)
	}
}

// TestEveryCommandHasAPurposeAndAnExample keeps the help worth reading.
func TestEveryCommandHasAPurposeAndAnExample(t *testing.T) {
	a := &app{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the one-line purpose is %q", c.CommandPath(), c.Short)
		}
		if c.Example == "" {
			t.Errorf("%s: no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}
