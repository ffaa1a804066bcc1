package servers

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server and can cut, delay and restore
// them. Its methods may be called concurrently.
type Proxy struct {
	// Address is HOST:PORT to connect to.
	Address string

	ln    net.Listener
	delay atomic.Int64
	wg    sync.WaitGroup

	mu     sync.Mutex
	target string
	up     chan struct{} // closed while connections are passed on
	cut    bool
	conns  map[net.Conn]bool
	closed bool
	refuse bool
}

// NewProxy listens before the server at target, until Close. SetTarget may name
// the server later: an address that it must advertise is known only now.
func NewProxy(target string) (*Proxy, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before %s: %w", target, err)
	}
	p := &Proxy{Address: ln.Addr().String(), ln: ln, target: target, conns: map[net.Conn]bool{}, up: make(chan struct{})}
	close(p.up)
	p.wg.Go(p.accept)
	return p, nil
}

// ProxyTo is NewProxy for the rest of a test.
func ProxyTo(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// SetTarget names the server to pass new connections on to.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Delay holds each piece of data back for d, in each direction, from now on.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// Cut is a network that has gone: data in both directions stays in the middle,
// and connections neither end nor come about, until Restore.
func (p *Proxy) Cut() { p.set(true, false) }

// Drop ends all connections and refuses new ones, until Restore.
func (p *Proxy) Drop() {
	p.set(false, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore lets data pass again. After a Cut that lasted, both ends may have
// given up.
func (p *Proxy) Restore() { p.set(false, false) }

func (p *Proxy) set(cut, refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	if cut == p.cut || p.closed {
		return
	}
	p.cut = cut
	if cut {
		p.up = make(chan struct{})
	} else {
		close(p.up)
	}
}

// Close ends all connections and waits until nothing of the proxy is left.
func (p *Proxy) Close() {
	p.set(false, true)
	p.mu.Lock()
	p.closed = true
	_ = p.ln.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.pass(c) })
	}
}

// keep notes a connection that is to end with the proxy; false where it has to end now.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

// wait returns when connections are passed on.
func (p *Proxy) wait() {
	p.mu.Lock()
	up := p.up
	p.mu.Unlock()
	<-up
}

func (p *Proxy) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	p.wait()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	server, err := dialer.DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.keep(server) {
		return
	}
	defer p.forget(server)
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(server, client) })
	wg.Go(func() { p.copy(client, server) })
	wg.Wait()
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// piece is data under way, with the time at which it may arrive.
type piece struct {
	data []byte
	at   time.Time
}

// copy moves data one way until either end closes. Reading goes on while pieces
// are held back, so that a delay costs no throughput.
func (p *Proxy) copy(to, from net.Conn) {
	pieces := make(chan piece, 256)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(pieces)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				pieces <- piece{buf[:n], time.Now().Add(time.Duration(p.delay.Load()))}
			}
			if err != nil {
				return
			}
		}
	})
	for piece := range pieces {
		if d := time.Until(piece.at); d > 0 {
			<-time.After(d)
		}
		p.wait()
		if _, err := to.Write(piece.data); err != nil {
			break
		}
	}
	// Either end has closed: so does the other, half-open connections included.
	_ = to.Close()
	_ = from.Close()
	for range pieces {
	}
	wg.Wait()
}
