package scaleout

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-io/freshet/internal/cli"
)

// asProgram makes the test binary the program freshet.
const asProgram = "FRESHET_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(cli.OS()))
	}
	os.Exit(m.Run())
}

// member is a process `freshet run`.
type member struct {
	name    string
	cmd     *exec.Cmd
	address string // of its HTTP API
	log     string // a file
	ended   chan struct{}
}

func startMember(t *testing.T, name, pipeline, brokerURL string) *member {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	dir := filepath.Dir(pipeline)
	m := &member{name: name, address: "http://" + address, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	m.cmd = exec.Command(os.Args[0], "run", pipeline, "--broker", brokerURL, "--data", filepath.Join(dir, name), "--listen", address, "--log-level", "debug")
	m.cmd.Env = append(os.Environ(), asProgram+"=1")
	log, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdout, m.cmd.Stderr = log, log
	err = m.cmd.Start()
	_ = log.Close() // the process has its own
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.ended
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", name, m.tail(30))
		}
	})
	return m
}

func (m *member) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", m.name, err)
	}
}

// kill ends the process as kill -9 does.
func (m *member) kill(t *testing.T) {
	t.Helper()
	m.signal(t, syscall.SIGKILL)
	<-m.ended
}

// stop ends the process in an orderly way.
func (m *member) stop(t *testing.T) {
	t.Helper()
	m.signal(t, syscall.SIGTERM)
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case <-m.ended:
		if code := m.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with the code %d\n%s", m.name, code, m.tail(30))
		}
	case <-limit.C:
		t.Fatalf("%s did not stop within a minute\n%s", m.name, m.tail(30))
	}
}

func (m *member) tail(n int) string {
	log, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// watermark is what a process says of each partition that it works on.
var watermark = regexp.MustCompile(`^freshet_watermark_seconds\{.*partition="(\d+)".*topic="([^"]+)".*\}`)

// held returns the partitions that the process works on, by topic.
func (m *member) held(ctx context.Context) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out := map[string][]string{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if found := watermark.FindStringSubmatch(lines.Text()); found != nil {
			out[found[2]] = append(out[found[2]], found[1])
		}
	}
	return out, lines.Err()
}

// group are the members that live and answer.
type group struct {
	pipeline, url string
	topics        []string // that they share out

	members []*member
	made    int
	began   time.Time
	last    string
	account []string // of who held what, over time
	phases  []phase
}

// phase changes the members and waits until the partitions are shared out anew.
func (g *group) phase(t *testing.T, what string, change func()) {
	t.Helper()
	g.note("%s", what)
	from := time.Now()
	change()
	g.phases = append(g.phases, phase{what, from, g.settle(t, patience)})
}

func (g *group) join(t *testing.T) *member {
	t.Helper()
	m := startMember(t, fmt.Sprintf("w%d", g.made), g.pipeline, g.url)
	g.made++
	g.members = append(g.members, m)
	return m
}

// leave takes a member out of those that are to hold partitions.
func (g *group) leave(m *member) {
	g.members = slices.DeleteFunc(g.members, func(x *member) bool { return x == m })
}

// back puts a member back that left.
func (g *group) back(m *member) { g.members = append(g.members, m) }

func (g *group) note(format string, args ...any) {
	g.account = append(g.account, fmt.Sprintf("%6.1fs  ", time.Since(g.began).Seconds())+fmt.Sprintf(format, args...))
}

// settle waits until the members hold all partitions of each topic, each of them
// by one, and each has its fair share. It returns how long that took.
func (g *group) settle(t *testing.T, patience time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if g.settled(t) {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%v after the members changed they hold %s\n%s", patience, g.last, strings.Join(g.account, "\n"))
		}
		<-tick.C
	}
}

func (g *group) settled(t *testing.T) bool {
	t.Helper()
	ok := true
	owners := map[string]int{}
	var shares []string
	for _, m := range g.members {
		select {
		case <-m.ended:
			t.Fatalf("%s ended by itself\n%s", m.name, m.tail(30))
		default:
		}
		held, err := m.held(t.Context())
		if err != nil {
			ok = false
		}
		share := m.name
		for _, topic := range g.topics {
			n := len(held[topic])
			share += fmt.Sprintf(" %d", n)
			if least := partitions / len(g.members); n < least || n > least+min(1, partitions%len(g.members)) {
				ok = false
			}
			for _, p := range held[topic] {
				owners[topic+" "+p]++
			}
		}
		shares = append(shares, share)
	}
	for _, n := range owners {
		ok = ok && n == 1
	}
	if now := strings.Join(shares, ", "); now != g.last {
		g.last = now
		g.note("%s", now)
	}
	return ok && len(owners) == partitions*len(g.topics)
}
