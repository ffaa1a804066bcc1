package builtin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/test/servers"
)

// example is one section of docs/lookups.md: what is put in, the table, what comes out.
type example struct{ input, table, output string }

func examples(t *testing.T) map[string]example {
	t.Helper()
	text, err := os.ReadFile("../../docs/lookups.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]example{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		var e example
		for _, m := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(body, -1) {
			switch m[1] {
			case "yaml":
				e.table = m[2]
			case "text":
				e.output = m[2]
			default:
				e.input = m[2]
			}
		}
		out[title] = e
	}
	return out
}

// check opens the example's table on the server at address and compares what comes out.
func (e example) check(t *testing.T, host, address string, env map[string]string) {
	t.Helper()
	var file struct {
		Tables map[string]struct {
			URL, From, Key, Time string
			Fields               yaml.Node
			Timeout              string
		}
	}
	if err := yaml.Unmarshal([]byte(e.table), &file); err != nil {
		t.Fatal(err)
	}
	table, ok := file.Tables["merchants"]
	if !ok || !strings.Contains(table.URL, host) {
		t.Fatalf("no table merchants on %s in:\n%s", host, e.table)
	}
	o := lookup.Options{From: table.From, Key: table.Key, Time: table.Time}
	for i := 0; i < len(table.Fields.Content); i += 2 {
		f := lookup.Field{Name: table.Fields.Content[i].Value}
		for f.Kind = event.Float; f.Kind < event.Time && f.Kind.String() != table.Fields.Content[i+1].Value; f.Kind++ {
		}
		o.Fields = append(o.Fields, f)
	}
	url := os.Expand(strings.Replace(table.URL, host, address, 1), func(name string) string { return env[name] })
	d, err := OpenLookup(url, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := lookup.New(d, lookup.Config{Timeout: 10 * time.Second})
	defer l.Close()
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, line := range strings.Split(strings.TrimSpace(e.output), "\n") {
		key, _, _ := strings.Cut(line, ":")
		keys = append(keys, key)
	}
	out := make([]*event.Column, len(o.Fields))
	for i := range out {
		out[i] = new(event.Column)
	}
	at, state := make([]int64, len(keys)), make([]lookup.Outcome, len(keys))
	if err := l.Lookup(t.Context(), keys, len(keys), out, at, state); err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var got strings.Builder
	for i, key := range keys {
		if state[i] != lookup.Found {
			fmt.Fprintf(&got, "%s: %v\n", key, state[i])
			continue
		}
		fmt.Fprintf(&got, "%s: ", key)
		for j, c := range out {
			value := "null"
			switch {
			case c.IsNull(i):
			case c.Kind == event.Float:
				value = fmt.Sprint(c.Floats[i])
			default:
				value = c.Strings[i]
			}
			fmt.Fprintf(&got, "%s %s, ", o.Fields[j].Name, value)
		}
		age := "unknown"
		if at[i] != lookup.Unknown {
			age = noon.Sub(time.Unix(0, at[i])).String()
		}
		fmt.Fprintf(&got, "age %s\n", age)
	}
	if diff := cmp.Diff(e.output, got.String()); diff != "" {
		t.Errorf("docs/lookups.md (−page +server):\n%s", diff)
	}
}

func TestExamplesOfTheLookupPageHold(t *testing.T) {
	all := examples(t)
	t.Run("Redis", func(t *testing.T) {
		address := servers.Start(t, "redis")
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// Redis takes commands as lines of words, too.
		fmt.Fprintf(c, "AUTH %s\r\n%sQUIT\r\n", servers.Password, strings.ReplaceAll(all["Redis"].input, "\n", "\r\n"))
		answer, err := io.ReadAll(c)
		if err != nil || strings.Contains(string(answer), "-ERR") {
			t.Fatalf("%s %v", answer, err)
		}
		all["Redis"].check(t, "redis:6379", address, map[string]string{"REDIS_PASSWORD": servers.Password})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := servers.Start(t, "postgres")
		c, err := pgx.Connect(t.Context(), "postgres://freshet:"+servers.Password+"@"+address+"/freshet")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		if _, err := c.PgConn().Exec(t.Context(), all["PostgreSQL"].input).ReadAll(); err != nil {
			t.Fatal(err)
		}
		all["PostgreSQL"].check(t, "postgres:5432", address, map[string]string{"PGPASSWORD": servers.Password})
	})
	t.Run("Feast", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the feature server takes seconds to start")
		}
		address := servers.Start(t, "feast")
		resp, err := http.Post("http://"+address+"/write-to-online-store", "application/json", strings.NewReader(all["Feast"].input))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", resp.Status, answer)
		}
		all["Feast"].check(t, "feast:6566", address, nil)
	})
}
