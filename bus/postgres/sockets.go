package postgres

import (
	"context"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// sockets knows the connections that are open, so that they can be cut: pgx
// gives a connection whose statement was cancelled 15 s to end in an orderly way,
// and a server that hangs would hold up Close for so long.
type sockets struct {
	dial pgconn.DialFunc

	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
}

func (s *sockets) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.open[c] = true
	return &socket{Conn: c, of: s}, nil
}

// cutAll closes all connections and lets none be opened any more.
func (s *sockets) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for c := range s.open {
		_ = c.Close()
	}
}

type socket struct {
	net.Conn
	of *sockets
}

func (c *socket) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
