package lookuptest

import (
	"net"
	"sync"
	"testing"
)

// relay stands between a driver and its server and can fail in three ways.
type relay struct {
	t      testing.TB
	target string
	addr   string

	mu     sync.Mutex
	l      net.Listener
	conns  map[net.Conn]bool
	silent bool
	gate   chan struct{} // closed while bytes may pass
	wg     sync.WaitGroup
}

// newRelay listens on a port of its own and passes everything on to target.
func newRelay(t testing.TB, target string) *relay {
	t.Helper()
	r := &relay{t: t, target: target, conns: map[net.Conn]bool{}, gate: make(chan struct{})}
	close(r.gate)
	r.listen("127.0.0.1:0")
	r.addr = r.l.Addr().String()
	t.Cleanup(func() {
		r.speak()
		r.cut()
		r.wg.Wait()
	})
	return r
}

func (r *relay) listen(addr string) {
	r.t.Helper()
	l, err := new(net.ListenConfig).Listen(r.t.Context(), "tcp", addr)
	if err != nil {
		r.t.Fatalf("relay: %v", err)
	}
	r.mu.Lock()
	r.l = l
	r.mu.Unlock()
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Add(1)
			go r.pass(c)
		}
	}()
}

// cut closes all connections and refuses new ones.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.l.Close()
	for c := range r.conns {
		_ = c.Close()
	}
}

// mend accepts connections again.
func (r *relay) mend() { r.t.Helper(); r.listen(r.addr) }

// hush keeps connections open and passes nothing on.
func (r *relay) hush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.silent {
		r.silent, r.gate = true, make(chan struct{})
	}
}

// speak ends hush.
func (r *relay) speak() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent {
		r.silent = false
		close(r.gate)
	}
}

func (r *relay) open() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gate
}

func (r *relay) hold(c net.Conn, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if yes {
		r.conns[c] = true
	} else {
		delete(r.conns, c)
	}
}

func (r *relay) pass(c net.Conn) {
	defer r.wg.Done()
	defer c.Close()
	r.hold(c, true)
	defer r.hold(c, false)
	<-r.open()
	s, err := new(net.Dialer).DialContext(r.t.Context(), "tcp", r.target)
	if err != nil {
		return
	}
	defer s.Close()
	r.hold(s, true)
	defer r.hold(s, false)
	back := make(chan struct{})
	go func() {
		defer close(back)
		r.copy(c, s)
	}()
	r.copy(s, c)
	<-back
}

// copy passes bytes on while the gate is open. Either end's closing closes both.
func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-r.open()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
