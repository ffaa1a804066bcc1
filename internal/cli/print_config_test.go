package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrintConfigHoldsNoSecret(t *testing.T) {
	dir := t.TempDir()
	contract := `{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"c","type":"object","properties":{"id":{"type":"integer"},"at":{"type":"string","format":"date-time"}},"required":["id","at"],"x-freshet":{"version":"1.0.0","id":"id","key":"id","time":{"field":"at"}}}`
	file := filepath.Join(dir, "p.yaml")
	for name, text := range map[string]string{
		"c.schema.json": contract,
		"p.yaml": `name: p
source: {topic: in, contract: c.schema.json, from: "amqp://u:hunter2@h/?queue=q&password_env=X"}
steps: [{route: [{to: out}]}]
outputs: {out: {also: ["postgres://u:hunter2@db/x?table=t", "https://h/x?secret=hunter2"]}}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := must(t, "", "run", file, "--print-config", "--broker", "kafka+tls://u:hunter2@k:1,l:2/?sasl=plain")
	if strings.Contains(out, "hunter2") {
		t.Errorf("a secret is shown: %s", out)
	}
	var got runConfig
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"out": {"postgres://db/x", "https://h/x"}}
	if d := cmp.Diff(want, got.Outputs); d != "" || got.Broker != "kafka+tls://k:1,l:2/" || got.From != "amqp://h/" {
		t.Errorf("broker %s, from %s, outputs (-want +got)\n%s", got.Broker, got.From, d)
	}
}
