package postgres_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/broker/postgres"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/test/servers"
)

func environment(name string) (string, bool) { return servers.Password, name == "PGPASSWORD" }

// refused wants an error of the kind, with the text and without secrets.
func refused(t *testing.T, what, url string, kind errkind.Kind, text string) {
	t.Helper()
	d, err := postgres.Open(t.Context(), url, postgres.Options{Env: environment})
	if err == nil {
		_ = d.Close()
	}
	if !errkind.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v (kind %v), want kind %v with %q", what, err, errkind.Of(err), kind, text)
	}
	for _, secret := range []string{servers.Password, "wrong-secret", "guest-secret"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds a secret: %v", what, err)
		}
	}
}

func TestServerWithUsers(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	works(t, "postgres://freshet@"+s.Address+"/freshet?password_env=PGPASSWORD")
	works(t, "postgresql://freshet@"+s.Address+"/freshet?password_env=PGPASSWORD&schema=Other%20\"one\"")
	at := "@" + s.Address + "/"
	refused(t, "wrong password", "postgres://freshet:wrong-secret"+at+"freshet", errkind.Config, "password authentication failed")
	refused(t, "no password", "postgres://freshet"+at+"freshet", errkind.Config, "password")
	refused(t, "database", "postgres://freshet:"+servers.Password+at+"none", errkind.Config, "does not exist")
	refused(t, "TLS to a server without", "postgres+tls://freshet:wrong-secret"+at+"freshet", errkind.Config, "TLS")
	c := sql(t, s)
	for _, statement := range []string{
		"CREATE ROLE guest LOGIN PASSWORD 'guest-secret'",
		"REVOKE CREATE ON DATABASE freshet FROM PUBLIC",
	} {
		if _, err := c.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, "no right to make the schema", "postgres://guest:guest-secret"+at+"freshet?schema=mine", errkind.Config, "permission denied")
	refused(t, "no right to use the schema", "postgres://guest:guest-secret"+at+"freshet", errkind.Config, "permission denied")
	for _, statement := range []string{
		`GRANT USAGE ON SCHEMA freshet TO guest`,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA freshet TO guest`,
		`GRANT USAGE ON ALL SEQUENCES IN SCHEMA freshet TO guest`,
	} {
		if _, err := c.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	works(t, "postgres://guest:guest-secret"+at+"freshet")
}

func TestServerThatDemandsTLS(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres", "tls")
	ca := "tls_ca=" + filepath.Join(s.Word("folder"), "ca.crt")
	at := "freshet:" + servers.Password + "@" + s.Address + "/freshet?"
	works(t, "postgres://"+at+ca)
	works(t, "postgres+tls://"+at+"tls_server_name=localhost&"+ca)
	refused(t, "stranger's certificate", "postgres+tls://"+at, errkind.Config, "certificate")
	refused(t, "other name", "postgres://"+at+"tls_server_name=example.com&"+ca, errkind.Config, "example.com")
	refused(t, "no TLS", "postgres://"+at, errkind.Config, "no encryption")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	_ = gone.Close()
	for _, c := range []struct {
		what, url string
		kind      errkind.Kind
		text      string
	}{
		{"nobody listens", "postgres://u:wrong-secret@" + nobody + "/d", errkind.Transient, "refused"},
		{"no answer", "postgres://u:wrong-secret@" + silent.Addr().String() + "/d?timeout=100ms", errkind.Transient, silent.Addr().String()},
		{"scheme", "http://u:wrong-secret@h/d", errkind.Config, "postgres://"},
		{"no database", "postgres://u:wrong-secret@h", errkind.Config, "DATABASE"},
		{"two databases", "postgres://u:wrong-secret@h/a/b", errkind.Config, "DATABASE"},
		{"port", "postgres://u:wrong-secret@h:x/d", errkind.Config, "port"},
		{"option", "postgres://u:wrong-secret@h/d?schma=a", errkind.Config, `"schema"`},
		{"schema", "postgres://u:wrong-secret@h/d?schema=" + strings.Repeat("x", 50), errkind.Config, "schema"},
		{"connections", "postgres://u:wrong-secret@h/d?connections=1", errkind.Config, "connections"},
		{"session", "postgres://u:wrong-secret@h/d?session=0s", errkind.Config, "session"},
	} {
		refused(t, c.what, c.url, c.kind, c.text)
	}
}
