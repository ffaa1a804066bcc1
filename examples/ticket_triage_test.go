package examples

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestTicketsAreSortedWithinTheBudget(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("NOT RUN: go is not in the path")
	}
	out := run(t, script(t, "ticket-triage"), "go")
	count := func(pattern string) (sum int) {
		for _, m := range regexp.MustCompile(`(\d+) `+pattern).FindAllStringSubmatch(out, -1) {
			n, _ := strconv.Atoi(m[1])
			sum += n
		}
		return sum
	}
	if !strings.Contains(out, "ticket-triage: 240 events, 240 predictions, 0 dead letters") || count(`"category":"[a-z]+"`) != 240 {
		t.Errorf("it says\n%s", out)
	}
	asked, rule := count(`"triage":\{"path":"scored"`), count(`"triage":\{"path":"fallback_rule"`)
	if asked == 0 || rule == 0 || count(`"triage":\{"path":"[a-z_]+"`) != 240 {
		t.Errorf("%d were sorted by the model and %d by the rule: a budget that is spent leaves some to the rule\n%s", asked, rule, out)
	}
	var page struct {
		Key     string
		Score   float64
		Route   string
		Outputs struct {
			Urgency   string
			Embedding json.RawMessage
		}
	}
	_, last, _ := strings.Cut(out, "--- pages\n")
	line, _, _ := strings.Cut(last, "\n")
	line = strings.Replace(line, "[…]", "[]", 1)
	if err := json.Unmarshal([]byte(line), &page); err != nil || page.Route != "page" || page.Score < 0.7 || page.Outputs.Urgency != "high" || string(page.Outputs.Embedding) != "[]" {
		t.Errorf("%v: %s", err, line)
	}
}

func TestTicketsWithoutAServerAreAClearError(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	tickets := filepath.Join(t.TempDir(), "tickets.jsonl")
	ticket := `{"ticket_id":"1","customer":"a","time":"2026-11-02T08:00:00Z","subject":"s","body":"b"}`
	if err := os.WriteFile(tickets, []byte(ticket), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := script(t, "ticket-triage", "LLM="+nobody, "TICKETS="+tickets)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), nobody) || !strings.Contains(string(out), "connection refused") {
		t.Errorf("%v: %s", err, out)
	}
}
