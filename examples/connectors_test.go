// Package examples holds the examples, and runs those that need servers.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/internal/cli"
	"github.com/freshet-io/freshet/test/servers"
)

// asProgram makes this test binary freshet itself, so that the examples run what is tested.
const asProgram = "FRESHET_EXAMPLES_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(cli.OS()))
	}
	os.Exit(m.Run())
}

const patience = 3 * time.Minute

// script is the run.sh of an example, with what is to be set in its environment. What
// it and its children leave in the folder for temporary files fails the test.
func script(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "freshet")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec %q \"$@\"\n", asProgram, self), 0o755); err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(dir, "run.sh"))
	cmd.Env = append(os.Environ(), append(env, "FRESHET="+program, "TMPDIR="+scratch)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	t.Cleanup(func() {
		if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
			t.Errorf("the example left %v, %v", left, err)
		}
	})
	return cmd
}

// absent is how run.sh says that a program is not installed.
const absent = 3

// run runs an example to its end and returns what it wrote. Where a program is not
// installed the test is skipped, or fails where FRESHET_REQUIRE has one of the names.
func run(t *testing.T, cmd *exec.Cmd, names ...string) string {
	t.Helper()
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == absent {
		for _, name := range strings.Split(os.Getenv("FRESHET_REQUIRE"), ",") {
			if slices.Contains(names, name) {
				t.Fatalf("FRESHET_REQUIRE names %s: %s", name, failure.String())
			}
		}
		t.Skipf("NOT RUN: %s", failure.String())
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), failure.String())
	}
	return out.String()
}

func TestReadingsOverMQTTBecomeRowsAndTheNewestOfEachStore(t *testing.T) {
	mqtt, postgres, cache := servers.Run(t, "mosquitto"), servers.Run(t, "postgres"), servers.Run(t, "redis")
	out := run(t, script(t, "mqtt-to-tables", "MOSQUITTO="+mqtt.Address, "POSTGRES="+postgres.Address, "REDIS="+cache.Address), "mosquitto", "postgres", "redis")
	if !strings.Contains(out, "cold-stores: 41 events, 40 predictions, 1 dead letters (schema 1)") {
		t.Errorf("it says\n%s", out)
	}
	db, err := pgx.Connect(t.Context(), "postgres://freshet:"+servers.Password+"@"+postgres.Address+"/freshet")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	rows, err := db.Query(t.Context(), "SELECT source_id || ' ' || key || ' ' || route FROM temperatures ORDER BY source_id")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, store := range []string{"north", "south"} {
		for i := 1; i <= 20; i++ {
			route := "cold"
			if store == "south" && i >= 17 {
				route = "warm"
			}
			want = append(want, fmt.Sprintf("%s-%02d %s %s", store, i, store, route))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	c := redis.NewClient(&redis.Options{Addr: cache.Address, Password: servers.Password})
	defer c.Close()
	for store, route := range map[string]string{"north": "cold", "south": "warm"} {
		h, err := c.HGetAll(t.Context(), "store:"+store).Result()
		if err != nil || h["source_id"] != store+"-20" || h["route"] != route || h["time"] != "2026-11-01T08:19:00Z" {
			t.Errorf("the newest of %s is %v, %v", store, h, err)
		}
	}
}

func TestAttemptsOverHTTPBecomeSignedWebhooks(t *testing.T) {
	out := run(t, script(t, "cloudevents-webhook"), "curl", "openssl")
	var sources []string
	for line := range strings.Lines(out) {
		var e struct {
			Type string
			Data struct {
				SourceID string `json:"source_id"`
				Route    string
			}
		}
		if strings.HasPrefix(line, `{"specversion"`) && json.Unmarshal([]byte(line), &e) == nil {
			sources = append(sources, e.Data.SourceID+" "+e.Data.Route)
		}
	}
	if diff := cmp.Diff([]string{"l-7 guessing", "l-8 guessing"}, sources); diff != "" {
		t.Errorf("the receiver has (-want +got):\n%s", diff)
	}
	for _, want := range []string{`{"stored":7,"duplicates":0}`, `{"stored":0,"duplicates":1}`, `"status":401`, "login-guard: 8 events, 8 predictions, 0 dead letters"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %s:\n%s", want, out)
		}
	}
}

func TestOrdersOfOneQueueReachTheOther(t *testing.T) {
	server := servers.Run(t, "rabbitmq")
	out := run(t, script(t, "rabbitmq-queue", "RABBITMQ="+server.Word("amqp")), "rabbitmq")
	var review []string
	for line := range strings.Lines(out) {
		var r struct {
			SourceID string `json:"source_id"`
			Key      string
			Route    string
		}
		if json.Unmarshal([]byte(line), &r) == nil {
			review = append(review, r.SourceID+" "+r.Key+" "+r.Route)
		}
	}
	slices.Sort(review)
	want := []string{"14 cleo review", "17 cleo review", "20 cleo review", "23 cleo review", "26 cleo review", "29 cleo review"}
	if diff := cmp.Diff(want, review); diff != "" || !strings.Contains(out, "reviewed-orders had 30 messages") {
		t.Errorf("to be looked at (-want +got):\n%s\nit says\n%s", diff, out)
	}
	// Nothing is left, and nothing came twice.
	c, err := amqp.Dial("amqp://freshet:" + servers.Password + "@" + server.Word("amqp") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	for _, queue := range []string{"orders", "reviewed-orders"} {
		if m, ok, err := ch.Get(queue, true); err != nil || ok {
			t.Errorf("queue %s: %s, %v", queue, m.Body, err)
		}
	}
}

func TestAnInterruptedExampleLeavesNothingBehind(t *testing.T) {
	for _, program := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("NOT RUN: %s is not installed", program)
		}
	}
	cmd := script(t, "cloudevents-webhook")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "freshet run") {
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("it ended with %v", err)
	}
	// What its shell forked in passing may take a moment to be reaped.
	end := time.After(30 * time.Second)
	for !errors.Is(syscall.Kill(-cmd.Process.Pid, 0), syscall.ESRCH) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatal("processes are left")
		}
	}
}

func TestCasesOfTheExamplesNeedNoServer(t *testing.T) {
	for _, dir := range []string{"mqtt-to-tables", "cloudevents-webhook", "rabbitmq-queue"} {
		t.Run(dir, func(t *testing.T) {
			var out, failure bytes.Buffer
			p := cli.OS()
			p.Args = []string{"test", filepath.Join(dir, "pipeline.yaml")}
			p.Stdout, p.Stderr = &out, &failure
			p.Env = func(name string) (string, bool) {
				v, ok := map[string]string{
					"MOSQUITTO": "localhost:1", "POSTGRES": "localhost:1", "REDIS": "localhost:1", "RABBITMQ": "localhost:1", "RECEIVER": "http://localhost:1",
				}[name]
				return v, ok
			}
			if code := cli.Main(p); code != 0 {
				t.Errorf("code %d\n%s%s", code, out.String(), failure.String())
			}
		})
	}
}
