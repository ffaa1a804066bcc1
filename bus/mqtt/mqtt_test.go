package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/bus/bustest"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// server is a Mosquitto that can be ended and started on the same data.
type server struct {
	t       testing.TB // it runs until this one ends
	address string
	words   map[string]string
}

func start(t testing.TB, args ...string) *server {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "..", "..", "test", "servers", "mosquitto.sh")
	cmd := exec.CommandContext(context.Background(), "bash", append([]string{script}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "ready" {
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 && !slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), "mosquitto") {
			t.Skipf("NOT RUN: mosquitto: %s", stderr.String())
		}
		t.Fatalf("start mosquitto: %v\n%s", err, stderr.String())
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	s := &server{t: t, address: words[1], words: map[string]string{}}
	for _, w := range words[2:] {
		k, v, _ := strings.Cut(w, "=")
		s.words[k] = v
	}
	return s
}

// again ends the server by a signal and starts it on the same data.
func (s *server) again(t testing.TB, signal syscall.Signal) {
	t.Helper()
	pid, err := strconv.Atoi(s.words["pid"])
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for range 200 { // its script waits for it, at the end
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	n := start(s.t, "dir="+s.words["dir"], "ports="+s.words["ports"])
	s.words["pid"] = n.words["pid"]
}

func (s *server) url(path, options string) string {
	return "mqtt://freshet:" + servers.Password + "@" + s.address + "/" + path + "?" + options
}

var queues atomic.Int64

func (s *server) receivers(share string) bustest.ReceiverHarness {
	h := bustest.ReceiverHarness{
		Ordered: true, AcksInOrder: true, TellsRedelivery: true, Patience: 20 * time.Second,
		Queue: func(t testing.TB) bustest.Queue {
			n := queues.Add(1)
			open := func(t testing.TB, member int, l bus.Limits) bus.Receiver {
				t.Helper()
				url := s.url(fmt.Sprintf("suite/%d/%%23", n), fmt.Sprintf("share=%s&key=none&client_id=suite-%d-%d", share, n, member))
				r, err := OpenReceiver(context.Background(), url, l, Options{})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			if err := open(t, 0, bus.Limits{}).Close(); err != nil { // the session begins
				t.Fatal(err)
			}
			to, err := OpenSender(context.Background(), s.url(fmt.Sprintf("suite/%d/x", n), ""), Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = to.Close() })
			q := bustest.Queue{
				Open: open,
				Publish: func(ctx context.Context, recs []event.Record) error {
					return to.Send(ctx, bus.Batch{Records: recs})
				},
			}
			if share == "" { // Mosquitto does not keep shared subscriptions across a restart
				q.Restart = func(t testing.TB) { s.again(t, syscall.SIGTERM) }
				q.Kill = func(t testing.TB) { s.again(t, syscall.SIGKILL) }
			}
			return q
		},
		Expect: func(r event.Record) event.Record { return received(r, fmt.Sprintf("suite/%d/x", queues.Load())) },
	}
	h.Alone = share == ""
	return h
}

// received is a record as it comes back: with its topic, and the content type behind other headers.
func received(r event.Record, topic string) event.Record {
	var h, last event.Headers
	for k, v := range r.Headers.All() {
		if k == event.HeaderContentType {
			last = last.Append(k, v)
		} else {
			h = h.Append(k, v)
		}
	}
	r.Headers = append(h, last...).AppendString("mqtt-topic", topic)
	return r
}

func TestReceiverAgainstMosquitto(t *testing.T) {
	s := start(t)
	t.Run("alone", func(t *testing.T) { bustest.RunReceiver(t, s.receivers("")) })
	t.Run("crash", func(t *testing.T) { bustest.RunReceiverCrash(t, s.receivers("")) })
	t.Run("shared", func(t *testing.T) { bustest.RunReceiver(t, s.receivers("g")) })
}

func TestSenderAgainstMosquitto(t *testing.T) {
	s := start(t)
	bustest.RunSender(t, bustest.SenderHarness{
		Ordered: true, Patience: 20 * time.Second,
		Refused: func() event.Record { return event.Record{ID: []byte("large"), Value: make([]byte, 2_000_000)} },
		Expect:  func(r event.Record) event.Record { return received(r, fmt.Sprintf("out/%d/x", queues.Load())) },
		Target: func(t testing.TB) bustest.Target {
			n := queues.Add(1)
			// Read keeps what came, because it is asked for all each time.
			r, err := OpenReceiver(context.Background(), s.url(fmt.Sprintf("out/%d/%%23", n), fmt.Sprintf("key=none&client_id=out-%d", n)), bus.Limits{}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			var all []event.Record
			return bustest.Target{
				Open: func(t testing.TB) bus.Sender {
					to, err := OpenSender(context.Background(), s.url(fmt.Sprintf("out/%d/x", n), "timeout=5s"), Options{})
					if err != nil {
						t.Fatal(err)
					}
					return to
				},
				Read: func(t testing.TB, want int) []event.Record {
					for wait := 20 * time.Second; ; wait = 200 * time.Millisecond {
						if len(all) >= want {
							wait = 200 * time.Millisecond // for more than there should be
						}
						ctx, cancel := context.WithTimeout(context.Background(), wait)
						m, err := r.Receive(ctx, 1000)
						cancel()
						if errkind.Is(err, errkind.Transient) && ctx.Err() == nil {
							continue
						}
						if err != nil {
							return all
						}
						for i := range m {
							all = append(all, m[i].Record)
						}
						if err := r.Ack(context.Background(), m); err != nil && !errkind.Is(err, errkind.Conflict) {
							t.Fatal(err)
						}
					}
				},
				Restart: func(t testing.TB) { s.again(t, syscall.SIGTERM) },
				Stall: func(t testing.TB) func() {
					pid, _ := strconv.Atoi(s.words["pid"])
					if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
					return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
				},
			}
		},
	})
}
