package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/broker"
)

// Options is what New needs. Only Broker has no default.
type Options struct {
	Broker *broker.Broker
	// Logger takes faults that no client is told of, and each request at debug level; nil drops them.
	Logger *slog.Logger
	// Token, where it is not empty, must come with every request as a bearer
	// token, /livez and /readyz excepted.
	Token string
	// TLS makes Serve speak HTTPS, at version 1.2 or above.
	TLS *tls.Config
	// Webhooks says which senders of webhooks are let in.
	Webhooks Webhooks
	// Now is the clock that signatures are held to; time.Now by default.
	Now func() time.Time
	// Live and Ready say why the process should be restarted, or should get no
	// requests yet; nil or a nil error means that all is well. The parts of
	// errors.Join are listed one by one. Both are called concurrently.
	Live, Ready func() error
	// Metrics are exposed at /metrics, beside those of the process and the Go runtime.
	Metrics prometheus.Gatherer
	// Envelope returns what reads id and key out of a topic's plain payloads,
	// or nil where nothing is known of the topic. Empty results mean none; the
	// results may alias the payload.
	Envelope func(topic string) func(payload []byte) (id, key []byte)
	// Lineage finds the records of predictions; nil offers none.
	Lineage LineageFunc
	// Capacity finds what holds the capacity of a pipeline; nil offers none.
	Capacity CapacityFunc
	// MaxBody is the largest request body other than NDJSON, in bytes; 16 MiB by default.
	MaxBody int64
	// Drain is how long Serve waits for requests in progress at its end; 10 s by default.
	Drain time.Duration
}

const (
	// maxStreams and maxPosts bound the requests of each sort in progress, and
	// so the memory that they hold.
	maxStreams = 256
	maxPosts   = 64

	readHeaderTimeout = 10 * time.Second
	ioTimeout         = time.Minute // of one body, or of one step of a stream
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// Server answers HTTP requests on a broker.
type Server struct {
	o       Options
	handler http.Handler
	streams chan struct{} // one token a stream in progress
	posts   chan struct{}
	signed  chan struct{} // bodies that were read to verify them
	stop    chan struct{} // closed when streams must end
	once    sync.Once
	timeout time.Duration // ioTimeout; tests shorten it
}

// New returns a Server.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Drain <= 0 {
		o.Drain = 10 * time.Second
	}
	s := &Server{
		o:       o,
		streams: make(chan struct{}, maxStreams),
		posts:   make(chan struct{}, maxPosts),
		signed:  make(chan struct{}, maxPosts),
		stop:    make(chan struct{}),
		timeout: ioTimeout,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", healthHandler(o.Live))
	mux.HandleFunc("GET /readyz", healthHandler(o.Ready))
	mux.Handle("GET /metrics", metricsHandler(o.Metrics))
	mux.HandleFunc("GET /topics", s.listTopics)
	mux.HandleFunc("POST /topics/{topic}", s.produce)
	mux.HandleFunc("OPTIONS /topics/{topic}", s.handshake)
	mux.HandleFunc("GET /topics/{topic}", s.consume)
	mux.HandleFunc("GET /topics/{topic}/info", s.topicInfo)
	mux.HandleFunc("GET /pipelines/{pipeline}/lineage", s.searchLineage)
	mux.HandleFunc("GET /pipelines/{pipeline}/lineage/{event}", s.eventLineage)
	mux.HandleFunc("GET /pipelines/{pipeline}/capacity", s.getCapacity)
	mux.HandleFunc("PUT /pipelines/{pipeline}/capacity", s.putCapacity)
	mux.HandleFunc("DELETE /pipelines/{pipeline}/capacity", s.deleteCapacity)
	for path, allow := range map[string]string{
		"/livez": "GET", "/readyz": "GET", "/metrics": "GET", "/topics": "GET",
		"/topics/{topic}": "GET, POST", "/topics/{topic}/info": "GET",
		"/pipelines/{pipeline}/lineage": "GET", "/pipelines/{pipeline}/lineage/{event}": "GET",
		"/pipelines/{pipeline}/capacity": "GET, PUT, DELETE",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			writeProblem(w, problem{Status: http.StatusMethodNotAllowed, Detail: fmt.Sprintf("%s is not offered here; use %s", r.Method, allow)})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem{Status: http.StatusNotFound, Detail: fmt.Sprintf(
			"no such path %q; there are /topics, /topics/{topic}, /topics/{topic}/info, /pipelines/{pipeline}/lineage, /pipelines/{pipeline}/capacity, /livez, /readyz and /metrics", r.URL.Path)})
	})
	s.handler = s.logged(s.guard(mux))
	return s
}

// Handler returns the server's handler, with its checks of who asks.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on ln until ctx ends, then drains: it accepts no new
// connections, ends the streams, waits for other requests up to Options.Drain,
// and cuts off what is left. It closes ln, returns nil after an orderly end,
// and may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       s.timeout,
		WriteTimeout:      s.timeout, // streams move their deadline with each step
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if s.o.TLS == nil {
			served <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = s.o.TLS.Clone()
		srv.TLSConfig.MinVersion = max(srv.TLSConfig.MinVersion, tls.VersionTLS12)
		served <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-served:
		s.endStreams()
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.endStreams()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Drain)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		srv.Close() // what did not end in time is cut off
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop HTTP on %s: requests were still in progress after %v and have been cut off", ln.Addr(), s.o.Drain)
	}
	return err
}

func (s *Server) endStreams() { s.once.Do(func() { close(s.stop) }) }

// enter takes a place among the requests of one sort, or answers that there is none.
func enter(w http.ResponseWriter, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		writeProblem(w, problem{Status: http.StatusServiceUnavailable, retryAfter: 1,
			Detail: fmt.Sprintf("%d such requests are in progress already", cap(places))})
		return false
	}
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			s.o.Logger.LogAttrs(r.Context(), slog.LevelDebug, "http request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", sw.status), slog.Duration("took", time.Since(start)), slog.String("remote", r.RemoteAddr))
		}()
		next.ServeHTTP(sw, r)
	})
}
