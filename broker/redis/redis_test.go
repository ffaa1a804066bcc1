package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/brokertest"
	"github.com/freshet-io/freshet/broker/redis"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/test/servers"
)

// server is a Redis of test/servers/redis.sh, which can be killed.
type server struct {
	address, folder string
	version         string
	in              io.WriteCloser
	out             *bufio.Reader
}

func start(t testing.TB, words ...string) *server {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "../../test/servers/redis.sh")
	cmd := exec.CommandContext(context.Background(), "bash", append([]string{script}, words...)...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, 10*time.Second
	s := &server{}
	s.in, _ = cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(s.line())
	if len(f) != 3 {
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			name := "redis"
			if slices.Contains(words, "valkey") {
				name = "valkey"
			}
			if slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), name) {
				t.Fatalf("FRESHET_REQUIRE names %s: %s", name, stderr.String())
			}
			t.Skipf("NOT RUN: %s: %s; test/prepare.sh installs it", name, stderr.String())
		}
		t.Fatalf("start redis: %v\n%s", err, stderr.String())
	}
	s.address, s.folder = f[1], f[2]
	program := "redis-server"
	if slices.Contains(words, "valkey") {
		program = "valkey-server"
	}
	if version, err := exec.CommandContext(context.Background(), program, "--version").Output(); err == nil {
		s.version = strings.TrimSpace(string(version))
	}
	t.Cleanup(func() {
		_ = s.in.Close()
		_ = cmd.Wait()
	})
	return s
}

func (s *server) line() string {
	line, _ := s.out.ReadString('\n')
	return strings.TrimSpace(line)
}

// tell has the server do something: kill, stop or start.
func (s *server) tell(t testing.TB, what string) {
	t.Helper()
	if _, err := io.WriteString(s.in, what+"\n"); err != nil {
		t.Fatal(err)
	}
	if got := s.line(); got == "" {
		t.Fatalf("the server did not %s", what)
	}
}

func (s *server) url(options string) string {
	return "redis://:" + servers.Password + "@" + s.address + "/" + options
}

func (s *server) client(t testing.TB) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.address, Password: servers.Password, MaintNotificationsConfig: nil})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func open(t testing.TB, url string) *redis.Driver {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		d, err := redis.Open(context.Background(), url, redis.Options{})
		if err == nil {
			t.Cleanup(func() { _ = d.Close() })
			return d
		}
		if !errkind.Is(err, errkind.Transient) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func harness(s *server) brokertest.Harness {
	url := s.url("?prefix=suite:")
	again := func(t testing.TB, end string, d broker.Driver) broker.Driver {
		s.tell(t, end)
		s.tell(t, "start")
		_ = d.Close()
		return open(t, url)
	}
	return brokertest.Harness{
		Open:     func(t testing.TB) broker.Driver { return open(t, url) },
		Restart:  func(t testing.TB, d broker.Driver) broker.Driver { return again(t, "stop", d) },
		Crash:    func(t testing.TB, d broker.Driver) broker.Driver { return again(t, "kill", d) },
		Patience: 40 * time.Second,
		// Times are those of the server's clock, in microseconds.
		TimeGranularity: time.Microsecond,
		Against:         s.version,
	}
}

func TestSuite(t *testing.T) { brokertest.Run(t, harness(start(t, "aof"))) }

func TestSuiteOnValkey(t *testing.T) { brokertest.Run(t, harness(start(t, "valkey", "aof"))) }

func TestCrash(t *testing.T) {
	t.Run("a driver that connects anew", func(t *testing.T) {
		s := start(t, "aof")
		h := harness(s)
		h.Crash = func(t testing.TB, d broker.Driver) broker.Driver {
			s.tell(t, "kill")
			s.tell(t, "start")
			return d
		}
		brokertest.RunCrash(t, h)
	})
	t.Run("another driver", func(t *testing.T) { brokertest.RunCrash(t, harness(start(t, "aof"))) })
}
