package rabbitmq

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-io/freshet/test/servers"
)

// node is a RabbitMQ server that the tests of the package share.
type node struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin interface{ Close() error }
	words map[string]string
	addr  string
}

var shared = struct {
	sync.Mutex
	plain, tls *node
}{}

const script = "../../test/servers/rabbitmq.sh"

// server returns the shared node; with tls another one, which demands certificates.
func server(t testing.TB, tls bool) *node {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: rabbitmq is for the full run")
	}
	shared.Lock()
	defer shared.Unlock()
	at := &shared.plain
	arguments := []string{}
	if tls {
		at, arguments = &shared.tls, []string{"tls"}
	}
	if *at == nil {
		n := &node{}
		if err := n.start(arguments...); err != nil {
			if slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), "rabbitmq") {
				t.Fatalf("FRESHET_REQUIRE names rabbitmq: %v", err)
			}
			t.Skipf("NOT RUN: rabbitmq: %v; test/servers/rabbitmq.sh install installs it", err)
		}
		*at = n
	}
	return *at
}

func (n *node) start(arguments ...string) error {
	cmd := exec.CommandContext(context.Background(), "bash", append([]string{script}, arguments...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "ready" {
		_ = stdin.Close()
		return fmt.Errorf("%w: %s", cmd.Wait(), stderr.String())
	}
	n.cmd, n.stdin, n.addr, n.words = cmd, stdin, fields[1], map[string]string{}
	for _, f := range fields[2:] {
		k, v, _ := strings.Cut(f, "=")
		n.words[k] = v
	}
	return nil
}

// again ends the server with kill -9 and starts it on the same data. An orderly
// end proves less, and a single node of 3.10 does not always elect leaders of
// its streams after one.
func (n *node) again(t testing.TB) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	dir, ports := n.words["dir"], n.words["ports"]
	if err := os.WriteFile(filepath.Join(dir, "keep"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(n.words["pid"])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = n.stdin.Close()
	_ = n.cmd.Wait()
	if err := n.start("dir="+dir, "ports="+ports); err != nil {
		t.Fatalf("start the server again: %v", err)
	}
}

func (n *node) stop() {
	_ = n.stdin.Close()
	_ = n.cmd.Wait()
	_ = os.RemoveAll(n.words["dir"])
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, n := range []*node{shared.plain, shared.tls} {
		if n != nil {
			n.stop()
		}
	}
	os.Exit(code)
}

func (n *node) url(options string) string {
	return "rabbitmq-stream://freshet:" + servers.Password + "@" + n.addr + "/?timeout=30s&" + options
}
