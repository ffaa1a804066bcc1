package redis_test

import (
	"context"
	"os/exec"
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

// server is a Redis of test/servers/redis.sh.
type server struct {
	*servers.Server
	address, folder, version string
}

func start(t testing.TB, words ...string) *server {
	t.Helper()
	return run(t, "redis", words...)
}

func run(t testing.TB, name string, words ...string) *server {
	t.Helper()
	s := &server{Server: servers.Run(t, name, words...)}
	s.address, s.folder = s.Address, s.Word("folder")
	if version, err := exec.CommandContext(context.Background(), name+"-server", "--version").Output(); err == nil {
		s.version = strings.Join(strings.Fields(string(version))[:3], " ")
	}
	return s
}

// tell has the server do something: kill, stop or start.
func (s *server) tell(t testing.TB, what string) {
	t.Helper()
	f := map[string]func() error{"kill": func() error { return s.Kill() }, "stop": func() error { return s.Stop() }, "start": func() error { return s.Restart() }}[what]
	if err := f(); err != nil {
		t.Fatal(err)
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

func TestSuiteOnValkey(t *testing.T) { brokertest.Run(t, harness(run(t, "valkey", "aof"))) }

func TestCrash(t *testing.T) {
	t.Run("a driver that connects anew", func(t *testing.T) {
		s := start(t, "aof")
		h := harness(s)
		h.Crash = func(t testing.TB, d broker.Driver) broker.Driver {
			s.tell(t, "kill")
			s.tell(t, "start")
			settle(t, d)
			return d
		}
		brokertest.RunCrash(t, h)
	})
	t.Run("another driver", func(t *testing.T) { brokertest.RunCrash(t, harness(start(t, "aof"))) })
}

// settle waits until no connection of before is left: the suite's publishers
// repeat nothing.
func settle(t testing.TB, d broker.Driver) {
	t.Helper()
	for deadline, failed := time.Now().Add(patience), true; failed; {
		failed = false
		errs := make(chan error)
		const many = 32
		for range many {
			go func() {
				_, err := d.(broker.Admin).Topics(context.Background())
				errs <- err
			}()
		}
		for range many {
			if err := <-errs; err != nil {
				failed = true
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
		}
	}
}
