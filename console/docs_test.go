package console

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What changes from run to run in the document's answers.
var volatile = regexp.MustCompile(`"oldest_age_seconds":[0-9.e-]+|"time":"[^"]*Z"`)

// TestDocumentedRequestsAnswerAsDocumented runs the curl commands of
// docs/http-api.md, in order, on one server.
func TestDocumentedRequestsAnswerAsDocumented(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		const what = "curl is not installed: the examples of docs/http-api.md are not checked"
		if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "curl") {
			t.Fatal(what)
		}
		t.Skip("SKIPPED: " + what)
	}
	doc, err := os.ReadFile("../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, Options{Webhooks: Webhooks{Origins: []string{"events.example.com"}, Rate: 120}})
	delete(f.m.topics, "scored-transactions")
	srv := f.open()
	n := 0
	for _, block := range regexp.MustCompile("(?s)```console\n\\$ (.*?)\n(.*?)```").FindAllSubmatch(doc, -1) {
		n++
		command, want := string(block[1]), string(block[2])
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, "http://localhost:8080", srv.URL)).Output()
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		if got := volatile.ReplaceAllString(string(out), "…"); got != volatile.ReplaceAllString(want, "…") {
			t.Errorf("$ %s\ngot  %swant %s", command, got, want)
		}
	}
	if n < 10 {
		t.Errorf("found only %d examples", n)
	}
}
