package endpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

func environment(name string) (string, bool) {
	if name == "SECRET" {
		return "s3cret", true
	}
	return "", false
}

func TestParseReadsHostsUserAndOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		raw  string
		want Endpoint
		tls  bool
	}{
		{"kafka://a:9092,b:9093", Endpoint{Scheme: "kafka", Hosts: []string{"a:9092", "b:9093"}}, false},
		{"kafka+tls://u:p%40ss@a/x", Endpoint{Scheme: "kafka", Hosts: []string{"a"}, User: "u", Password: "p@ss", Path: "x"}, true},
		{"rediss://u@a?password_env=SECRET", Endpoint{Scheme: "rediss", Hosts: []string{"a"}, User: "u", Password: "s3cret"}, true},
		{"nats://a?user=u&password_file=" + file, Endpoint{Scheme: "nats", Hosts: []string{"a"}, User: "u", Password: "from-file"}, false},
		{"nats://[::1]:4222?tls_server_name=b", Endpoint{Scheme: "nats", Hosts: []string{"[::1]:4222"}}, true},
	} {
		e, err := Parse(tc.raw, environment, "rediss")
		if err != nil {
			t.Errorf("%s: %v", tc.raw, err)
			continue
		}
		if err := e.Done(); err != nil {
			t.Errorf("%s: %v", tc.raw, err)
		}
		got := Endpoint{Scheme: e.Scheme, Hosts: e.Hosts, Path: e.Path, User: e.User, Password: e.Password}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(Endpoint{})); diff != "" || (e.TLS() != nil) != tc.tls {
			t.Errorf("%s: TLS %v, (-want +got)\n%s", tc.raw, e.TLS() != nil, diff)
		}
	}
}

func TestErrorsSayWhatIsWrongAndHoldNoSecret(t *testing.T) {
	for raw, want := range map[string]string{
		"hunter2":                                    "scheme://host",
		"kafka://u:hunter2@a,,b":                     "empty host",
		"kafka://u:hunter2%zz@a":                     "percent-encode",
		"kafka://u:hunter2@a?password_env=NONE":      "no variable NONE",
		"kafka://u:hunter2@a?password_file=/none":    "password_file",
		"kafka://u:hunter2@a?tls_ca=/none":           "tls_ca",
		"kafka://u:hunter2@a?tls_cert=/none":         "go together",
		"kafka://u:hunter2@a?pasword_env=SECRET":     `did you mean "password_env"`,
		"kafka://u:hunter2@a?sessions=1":             "known are",
		"kafka://u:hunter2@a/#x":                     "%23",
		"kafka://u:hunter2@a?tls_cert=/n&tls_key=/n": "tls_key",
	} {
		e, err := Parse(raw, environment)
		if err == nil {
			err = e.Done()
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", raw, err, want)
		}
	}
}

func TestRedactLeavesOutUserPasswordAndOptions(t *testing.T) {
	for raw, want := range map[string]string{
		"kafka://u:p@ss@a:1,b:2/x?password=1": "kafka://a:1,b:2/x",
		"journal:/var/lib":                    "journal:…",
	} {
		if got := Redact(raw); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}
