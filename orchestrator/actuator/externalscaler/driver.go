package externalscaler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/orchestrator/actuator/externalscaler/kedaproto"
)

// Options are what the URL does not say.
type Options struct {
	// Logger hears of a server that ended; nil discards it.
	Logger *slog.Logger
	// Env looks up the environment; nil is an empty one.
	Env func(string) (string, bool)
}

const (
	maxConnections = 64 // KEDA's operator holds one, its metrics server another
	maxStreams     = 64 // of one connection
	maxMessage     = 64 << 10
	closeTime      = 5 * time.Second
)

// Driver is an actuator.Driver that publishes what it is ordered. Its methods may be called at once.
type Driver struct {
	where    string
	metric   string
	object   string
	fallback fallback
	log      *slog.Logger
	listener net.Listener
	server   *grpc.Server
	serving  sync.WaitGroup
	done     chan struct{} // closed by Close

	mu      sync.Mutex
	order   *order
	changed chan struct{} // closed and made anew when order changes
	asked   time.Time     // when KEDA last asked for the value
	asker   string
	closed  bool
}

// order is what is in force.
type order struct {
	workers int
	expires time.Time
}

// fallback is what holds while nothing is in force.
type fallback struct {
	workers     int
	unavailable bool
}

var metricName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Open listens where the URL says and answers KEDA from then on.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Driver{where: e.String(), log: o.Logger, changed: make(chan struct{}), done: make(chan struct{})}
	d.metric, d.object = e.Option("metric", "freshet-workers"), e.Option("object", "")
	if !metricName.MatchString(d.metric) {
		return nil, errkind.Errorf(errkind.Config, "open %s: option metric=%s: expected small letters, digits and hyphens", e, d.metric)
	}
	if d.fallback, err = parseThen(e.Option("then", "inactive")); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", e, err)
	}
	address, secure, err := where(e)
	if err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if d.listener, err = lc.Listen(ctx, "tcp", address); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", e, err)
	}
	options := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(maxMessage), grpc.ConnectionTimeout(10 * time.Second),
		// Connections whose other end has gone without a word end by this.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	d.server = grpc.NewServer(options...)
	kedaproto.RegisterExternalScalerServer(d.server, &service{d: d})
	d.serving.Go(func() {
		if err := d.server.Serve(netutil.LimitListener(d.listener, maxConnections)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			d.log.Error("the external scaler has stopped answering", "address", d.listener.Addr().String(), "error", err)
		}
	})
	return d, nil
}

func parseThen(text string) (fallback, error) {
	switch text {
	case "inactive":
		return fallback{}, nil
	case "unavailable":
		return fallback{unavailable: true}, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return fallback{}, fmt.Errorf("option then=%s: expected inactive, unavailable or a number of workers", text)
	}
	return fallback{workers: int(n)}, nil
}

// where says where to listen, and how to encrypt; nil where that is not wanted.
func where(e *endpoint.Endpoint) (address string, secure *tls.Config, err error) {
	if len(e.Hosts) != 1 || e.Path != "" || e.User != "" || e.Password != "" {
		return "", nil, errkind.Errorf(errkind.Config, "open %s: expected externalscaler://[HOST]:PORT", e)
	}
	host, port, err := net.SplitHostPort(e.Hosts[0])
	if err != nil || port == "" {
		return "", nil, errkind.Errorf(errkind.Config, "open %s: expected externalscaler://[HOST]:PORT", e)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	insecure, err := strconv.ParseBool(e.Option("insecure", "false"))
	if err != nil {
		return "", nil, errkind.Errorf(errkind.Config, "open %s: option insecure: expected true or false", e)
	}
	if t := e.TLS(); t != nil {
		if len(t.Certificates) == 0 {
			return "", nil, errkind.Errorf(errkind.Config, "open %s: a server needs the options tls_cert and tls_key", e)
		}
		secure = serverTLS(t, files{e.Option("tls_cert", ""), e.Option("tls_key", ""), e.Option("tls_ca", "")})
	}
	if ip := net.ParseIP(host); secure == nil && !insecure && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, errkind.Errorf(errkind.Config, "open %s: whoever reaches %s could read and hold orders: give it tls_cert and tls_key, and tls_ca "+
			"so that only KEDA is answered, or insecure=true where a network policy keeps others away", e, host)
	}
	return net.JoinHostPort(host, port), secure, nil
}

// Addr is where KEDA finds it, host:port.
func (d *Driver) Addr() string { return d.listener.Addr().String() }

// Capabilities implements actuator.Driver.
func (d *Driver) Capabilities() actuator.Capabilities {
	return actuator.Capabilities{Workers: true, Floor: true, Expires: true}
}

// enter takes the lock of a driver that is open.
func (d *Driver) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errkind.New(errkind.Closed, "the actuator is closed")
	}
	return nil
}

// Status implements actuator.Driver. Workers is what KEDA is told; the workers that are there are not known.
func (d *Driver) Status(ctx context.Context) (s actuator.Status, err error) {
	if err := d.enter(ctx); err != nil {
		return s, err
	}
	defer d.mu.Unlock()
	if o := d.inForce(); o != nil {
		s.Workers, s.Ours, s.Expires = o.workers, true, o.expires
	} else {
		s.Workers = d.fallback.workers
	}
	if d.asked.IsZero() {
		s.Note = "nobody has asked yet: is a ScaledObject's trigger of type external or external-push pointed at " + d.Addr() + "?"
	} else {
		s.Note = fmt.Sprintf("KEDA asked last for %s, %v ago", d.asker, time.Since(d.asked).Round(time.Second))
	}
	return s, nil
}

// Apply implements actuator.Driver.
func (d *Driver) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	if err := actuator.Check(d.Capabilities(), o); err != nil {
		return err
	}
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.set(&order{o.Workers, expires})
	return nil
}

// Revert implements actuator.Driver.
func (d *Driver) Revert(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.set(nil)
	return nil
}

// set changes what is in force and tells the streams; with mu held.
func (d *Driver) set(o *order) {
	d.order = o
	close(d.changed)
	d.changed = make(chan struct{})
}

// inForce is the order that has not expired; nil if there is none. With mu held.
func (d *Driver) inForce() *order {
	if d.order == nil || !time.Now().Before(d.order.expires) {
		return nil
	}
	return d.order
}

// Close implements actuator.Driver: KEDA finds nobody from then on. It waits for calls in progress.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.done) // ends the streams
	d.mu.Unlock()
	force := time.AfterFunc(closeTime, d.server.Stop)
	d.server.GracefulStop()
	force.Stop()
	d.serving.Wait()
	return nil
}
