package servers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// absentCode is how a script says that its server is not installed.
const absentCode = 3

// patience is how long a script may take to do what it was told, and to start its server.
const patience = 2 * time.Minute

// AbsentError says that a server is not installed.
type AbsentError struct{ Name, Why string }

func (e *AbsentError) Error() string { return e.Name + " is not there: " + e.Why }

// Server is a running server, with the script that started it. Its methods may
// be called by one goroutine at a time.
//
// A script that can do more than start its server takes commands as lines on its
// standard input and answers each with a line: "done", "ready …" or "failed WHY".
// The commands are kill, stop, start, freeze and thaw, followed by the number of
// a node where the server has several.
type Server struct {
	// Name is the script's, without its ending.
	Name string
	// Address is HOST:PORT, or several of them with commas between.
	Address string
	// Words is what the script printed behind the address.
	Words []string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // of its stdout; closed at its end
	stderr lockedBuffer
	closed bool
}

// Launch starts a server by the script NAME.sh with the arguments, without a
// test: who calls it closes the Server. An *AbsentError says that the server is
// not installed.
func Launch(name string, args ...string) (*Server, error) {
	_, file, _, ok := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), name+".sh")
	if _, err := os.Stat(script); !ok || err != nil {
		return nil, &AbsentError{name, "its script " + script + " is not here"}
	}
	s := &Server{Name: name, lines: make(chan string, 16)}
	// Not a test's own context: it ends before the clean-up that stops the server.
	s.cmd = exec.CommandContext(context.Background(), "bash", append([]string{script}, args...)...)
	s.cmd.Stderr = &s.stderr
	s.cmd.WaitDelay = 10 * time.Second
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, &AbsentError{name, err.Error()}
	}
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	line, err := s.answer()
	if err != nil {
		code := 0
		var exit *exec.ExitError
		if end := s.Close(); errors.As(end, &exit) {
			code = exit.ExitCode()
		}
		if code == absentCode {
			return nil, &AbsentError{name, strings.TrimSpace(s.stderr.String())}
		}
		return nil, fmt.Errorf("start %s: %w\n%s", name, err, s.stderr.String())
	}
	if err := s.takeIn(line); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// takeIn reads "ready ADDRESS WORDS…".
func (s *Server) takeIn(line string) error {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "ready" {
		return fmt.Errorf("start %s: the script said %q, want \"ready HOST:PORT\"", s.Name, line)
	}
	s.Address, s.Words = words[1], words[2:]
	return nil
}

func (s *Server) answer() (string, error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case line, ok := <-s.lines:
		if !ok {
			return "", errors.New("the script ended")
		}
		if why, failed := strings.CutPrefix(line, "failed"); failed {
			return "", errors.New(strings.TrimSpace(why))
		}
		return line, nil
	case <-t.C:
		return "", fmt.Errorf("the script said nothing for %v", patience)
	}
}

// Word is the value of the word NAME=VALUE, or "".
func (s *Server) Word(name string) string {
	for _, w := range s.Words {
		if value, ok := strings.CutPrefix(w, name+"="); ok {
			return value
		}
	}
	return ""
}

// tell gives the script a command and waits for its answer.
func (s *Server) tell(command string, node []int) (err error) {
	if len(node) > 0 {
		command = fmt.Sprintf("%s %d", command, node[0])
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %s: %w", command, s.Name, err)
		}
	}()
	if _, err := io.WriteString(s.stdin, command+"\n"); err != nil {
		return err
	}
	line, err := s.answer()
	if err == nil && strings.HasPrefix(line, "ready ") {
		err = s.takeIn(line)
	}
	return err
}

// Kill ends the server, or the node with that number (from 1), as kill -9 does.
func (s *Server) Kill(node ...int) error { return s.tell("kill", node) }

// Stop ends the server, or a node, in an orderly way.
func (s *Server) Stop(node ...int) error { return s.tell("stop", node) }

// Restart starts what Kill or Stop ended, on the same data and ports, and waits
// until it answers.
func (s *Server) Restart(node ...int) error { return s.tell("start", node) }

// Pause stops the server's clock, so that connections stay and nothing answers (SIGSTOP).
func (s *Server) Pause(node ...int) error { return s.tell("freeze", node) }

// Resume lets what Pause stopped go on (SIGCONT).
func (s *Server) Resume(node ...int) error { return s.tell("thaw", node) }

// Close stops the server and removes its data. A second Close does nothing.
func (s *Server) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	_ = s.stdin.Close() // the script then stops the server
	for range s.lines { // so that it can end
	}
	return s.cmd.Wait()
}

// lockedBuffer is written by the script and read by us.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
