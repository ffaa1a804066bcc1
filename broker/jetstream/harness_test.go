package jetstream

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/freshet-io/freshet/broker"
)

// inProcess is a server in the process of the test.
type inProcess struct {
	opts natsserver.Options
	*natsserver.Server
}

func startInProcess(t testing.TB, change func(*natsserver.Options)) *inProcess {
	t.Helper()
	s := &inProcess{opts: natsserver.Options{
		Host: "127.0.0.1", Port: freePort(t), JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	}}
	if change != nil {
		change(&s.opts)
	}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *inProcess) start(t testing.TB) {
	t.Helper()
	opts := s.opts
	server, err := natsserver.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	if !server.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	s.Server = server
}

func (s *inProcess) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

func (s *inProcess) url(options string) string {
	return fmt.Sprintf("nats://127.0.0.1:%d%s", s.opts.Port, options)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func open(t testing.TB, url string) broker.Driver {
	t.Helper()
	d, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatalf("Open %s: %v", url, err)
	}
	return d
}

// version names the server that d talks to.
func version(d broker.Driver) string {
	return "nats-server " + strings.TrimPrefix(d.(*Driver).nc.ConnectedServerVersion(), "v")
}
