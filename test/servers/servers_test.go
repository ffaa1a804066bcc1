package servers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return ln.Addr().String()
}

type caller struct {
	net.Conn
	r *bufio.Reader
}

func call(t *testing.T, address string) *caller {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &caller{c, bufio.NewReader(c)}
}

// ask sends a line and waits up to d for it to come back.
func (c *caller) ask(line string, d time.Duration) error {
	if _, err := fmt.Fprintln(c, line); err != nil {
		return err
	}
	return c.hear(line, d)
}

func (c *caller) hear(line string, d time.Duration) error {
	_ = c.SetReadDeadline(time.Now().Add(d))
	got, err := c.r.ReadString('\n')
	if err == nil && strings.TrimSpace(got) != line {
		err = fmt.Errorf("got %q, want %q", got, line)
	}
	return err
}

const enough = 30 * time.Second

func TestProxyCutsDelaysAndRestores(t *testing.T) {
	p := ProxyTo(t, echo(t))
	c := call(t, p.Address)
	if err := c.ask("before", enough); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	var timeout net.Error
	if err := c.ask("during", 50*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("through a cut: got %v, want a timeout", err)
	}
	late := call(t, p.Address) // the listener is there, the network behind it is not
	if err := late.ask("late", 50*time.Millisecond); err == nil {
		t.Fatal("a new connection passed a cut")
	}
	p.Restore()
	if err := c.hear("during", enough); err != nil {
		t.Errorf("what a cut held back does not arrive: %v", err)
	}
	if err := late.hear("late", enough); err != nil {
		t.Errorf("a connection made during a cut does not come about: %v", err)
	}
	const delay = 60 * time.Millisecond
	p.Delay(delay)
	began := time.Now()
	if err := c.ask("slow", enough); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 2*delay {
		t.Errorf("there and back took %v, want at least %v", d, 2*delay)
	}
}

func TestProxyDropsAndRefuses(t *testing.T) {
	p := ProxyTo(t, echo(t))
	c := call(t, p.Address)
	if err := c.ask("before", enough); err != nil {
		t.Fatal(err)
	}
	p.Drop()
	if err := c.ask("after", enough); err == nil {
		t.Error("a dropped connection answers")
	}
	if err := call(t, p.Address).ask("refused", enough); err == nil {
		t.Error("a new connection passed while connections are refused")
	}
	p.Restore()
	if err := call(t, p.Address).ask("again", enough); err != nil {
		t.Error(err)
	}
}

func TestServerIsKilledStoppedFrozenAndStartedAgain(t *testing.T) {
	s := Run(t, "postgres")
	listens := func() bool {
		c, err := net.DialTimeout("tcp", s.Address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	address := s.Address
	for _, end := range []func(...int) error{s.Kill, s.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if listens() {
			t.Error("a server that was ended still listens")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if s.Address != address || !listens() {
			t.Errorf("started again it is at %s, was at %s", s.Address, address)
		}
	}
	for _, f := range []func(...int) error{s.Pause, s.Resume, s.Pause, s.Kill} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Pause(); err == nil {
		t.Error("a server that is not there was frozen")
	}
}

func TestMissingServerIsAbsent(t *testing.T) {
	_, err := Launch("no-such-server")
	var absent *AbsentError
	if !errors.As(err, &absent) {
		t.Errorf("got %v, want an AbsentError", err)
	}
}
