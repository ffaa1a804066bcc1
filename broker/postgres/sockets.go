package postgres

import (
	"context"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// sockets are the connections that are open, so that Close can cut them: pgx waits
// 15 s for the orderly end of a connection whose statement was cancelled.
type sockets struct {
	dial pgconn.DialFunc

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]struct{}
}

// socket is a connection that its set forgets at its end.
type socket struct {
	net.Conn
	of *sockets
}

func (s *sockets) connect(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.open[c] = struct{}{}
	return socket{c, s}, nil
}

// Close implements net.Conn.
func (c socket) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// cutAll ends all connections, and those to come.
func (s *sockets) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for c := range s.open {
		_ = c.Close()
	}
}
