package oip

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/web"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const service = "/inference.GRPCInferenceService/"

// defaultPort is where servers of the protocol listen for gRPC.
const defaultPort = "8001"

// window is how many bytes may be on the way on a stream, and window times 4 on the connection.
const window = 1 << 20

// grpcClient talks to one server by gRPC.
type grpcClient struct {
	c     *config
	where string
	conn  *grpc.ClientConn
	frame *frame
	spare sync.Pool // *answer
}

func newGRPC(c *config, e *endpoint.Endpoint, host, token string) (*grpcClient, error) {
	secure := insecure.NewCredentials()
	if t := e.TLS(); t != nil {
		secure = credentials.NewTLS(t)
	}
	// A server that is busy with a call for longer than this is asked whether it is
	// still there. Oftener, and servers take it for an attack.
	ask := max(30*time.Second, c.timeout)
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(4 * window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: ask, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}),
			grpc.MaxCallRecvMsgSize(c.maxAnswer),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
		),
	}
	if c.host != "" {
		options = append(options, grpc.WithAuthority(c.host))
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(authorization{"authorization": "Bearer " + token}))
	} else if e.User != "" || e.Password != "" {
		basic := base64.StdEncoding.EncodeToString([]byte(e.User + ":" + e.Password))
		options = append(options, grpc.WithPerRPCCredentials(authorization{"authorization": "Basic " + basic}))
	}
	target := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		target = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
	}
	conn, err := grpc.NewClient("dns:///"+target, options...)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open model %s: %w", c.where, err)
	}
	return &grpcClient{c: c, where: host, conn: conn}, nil
}

// authorization goes with every call, over plain connections too, as with HTTP.
type authorization map[string]string

func (a authorization) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return a, nil
}

func (a authorization) RequireTransportSecurity() bool { return false }

// codec hands messages over as they are: requests write themselves, and answers are
// read where they lie.
type codec struct{}

// reader takes a message, which is its own only until it returns.
type reader func(message []byte)

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *request:
		size := v.size()
		if mem.IsBelowBufferPoolingThreshold(size) {
			return mem.BufferSlice{mem.SliceBuffer(v.appendTo(make([]byte, 0, size)))}, nil
		}
		pool := mem.DefaultBufferPool()
		b := pool.Get(size)
		*b = v.appendTo((*b)[:0])
		return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
	case []byte:
		return mem.BufferSlice{mem.SliceBuffer(v)}, nil
	}
	return nil, fmt.Errorf("no message: %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	read, ok := v.(reader)
	if !ok {
		return fmt.Errorf("no message: %T", v)
	}
	if len(data) == 1 {
		read(data[0].ReadOnlyData())
		return nil
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	read(b.ReadOnlyData())
	return nil
}

func (g *grpcClient) use(m *model) { g.frame = newFrame(g.c, m) }

func (g *grpcClient) infer(ctx context.Context, n int, in, out []inference.Tensor) error {
	a, _ := g.spare.Get().(*answer)
	if a == nil {
		a = &answer{m: g.frame.m, version: g.c.version}
	}
	defer g.spare.Put(a)
	var wrong error
	err := g.conn.Invoke(ctx, service+"ModelInfer", &request{f: g.frame, in: in, n: n}, reader(func(b []byte) {
		wrong = a.read(b, n, out)
		a.release()
	}))
	if err != nil {
		return g.fault(ctx, err)
	}
	if wrong != nil {
		return g.errorf(errkind.Permanent, "%w", wrong)
	}
	return nil
}

// ask is a call that names the model, before and beside the rows.
func (g *grpcClient) ask(ctx context.Context, method string, field func(num protowire.Number, typ protowire.Type, bytes []byte, number uint64) error) error {
	q := appendText(nil, 1, g.c.model)
	if g.c.version != "" {
		q = appendText(q, 2, g.c.version)
	}
	var wrong error
	if err := g.conn.Invoke(ctx, service+method, q, reader(func(b []byte) { wrong = fields(b, field) })); err != nil {
		return g.fault(ctx, err)
	}
	if wrong != nil {
		return g.errorf(errkind.Permanent, "%s: %w", method, wrong)
	}
	return nil
}

func (g *grpcClient) describe(ctx context.Context) (*description, error) {
	d := &description{}
	err := g.ask(ctx, "ModelMetadata", func(num protowire.Number, typ protowire.Type, b []byte, _ uint64) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case 1:
			d.Name = string(b)
		case 2:
			d.Versions = append(d.Versions, string(b))
		case 3:
			d.Platform = string(b)
		case 4, 5:
			t, err := tensorOf(b)
			if num == 4 {
				d.Inputs = append(d.Inputs, t)
			} else {
				d.Outputs = append(d.Outputs, t)
			}
			if len(d.Inputs) > maxOutputs || len(d.Outputs) > maxOutputs {
				return fmt.Errorf("more than %d inputs or outputs", maxOutputs)
			}
			return err
		}
		return nil
	})
	return d, err
}

func tensorOf(b []byte) (tensorInfo, error) {
	var t tensorInfo
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte, number uint64) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			t.Name = string(b)
		case num == 2 && typ == protowire.BytesType:
			t.Datatype = string(b)
		case num == 3 && typ == protowire.VarintType:
			t.Shape = append(t.Shape, int64(number))
		case num == 3 && typ == protowire.BytesType:
			for len(b) > 0 {
				d, n := protowire.ConsumeVarint(b)
				if n < 0 {
					return protowire.ParseError(n)
				}
				t.Shape = append(t.Shape, int64(d))
				b = b[n:]
			}
		}
		if len(t.Shape) > maxRank {
			return errRank
		}
		return nil
	})
	return t, err
}

func (g *grpcClient) ready(ctx context.Context) (bool, error) {
	ready := false
	err := g.ask(ctx, "ModelReady", func(num protowire.Number, typ protowire.Type, _ []byte, number uint64) error {
		if num == 1 && typ == protowire.VarintType {
			ready = number != 0
		}
		return nil
	})
	return ready, err
}

func (g *grpcClient) close() error { return g.conn.Close() }

func (g *grpcClient) errorf(kind errkind.Kind, format string, args ...any) error {
	return errkind.Errorf(kind, "model %s at %s: %w", g.c.model, g.where, fmt.Errorf(format, args...))
}

// statusError is an answer that is none. It keeps from callers how it was carried.
type statusError struct {
	code codes.Code
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("gRPC status %v: %s", e.code, e.text) }

// fault gives what a call ended with a kind; see the package's comment.
func (g *grpcClient) fault(ctx context.Context, err error) error {
	s := status.Convert(err)
	e := &statusError{s.Code(), web.Shown([]byte(s.Message()))}
	if cause := ctx.Err(); cause != nil && (s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded) {
		return g.errorf(errkind.Of(cause), "%w", cause)
	}
	kind := errkind.Permanent
	switch s.Code() {
	case codes.DeadlineExceeded, codes.Canceled, codes.Unavailable, codes.Internal, codes.Unknown, codes.Aborted, codes.DataLoss:
		kind = errkind.Transient
		if s.Code() == codes.Unavailable && untrusted(s.Message()) {
			kind = errkind.Config
		}
	case codes.InvalidArgument, codes.OutOfRange:
		kind = errkind.Invalid
	case codes.Unauthenticated, codes.PermissionDenied:
		kind = errkind.Config
	case codes.NotFound:
		kind = errkind.NotFound
	case codes.ResourceExhausted:
		switch {
		case strings.HasPrefix(s.Message(), "grpc: received message larger than max") && strings.HasSuffix(s.Message(), fmt.Sprintf("vs. %d)", g.c.maxAnswer)):
			return g.errorf(errkind.Permanent, "the answer is longer than %d bytes", g.c.maxAnswer)
		case strings.Contains(s.Message(), "larger than max"), strings.Contains(s.Message(), "exceeds maximum size"):
			// Fewer rows, or shorter ones, would pass: the same again would not.
			kind = errkind.Invalid
		default:
			kind = errkind.Throttled
		}
	}
	err = g.errorf(kind, "%w", e)
	if kind.Retryable() {
		for _, d := range s.Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok && r.GetRetryDelay() != nil {
				return inference.RetryAfterError(err, min(r.GetRetryDelay().AsDuration(), time.Hour))
			}
		}
	}
	return err
}

// untrusted says whether a connection fails for a reason that stays: gRPC gives it as text alone.
func untrusted(text string) bool {
	for _, sign := range []string{"x509:", "tls: ", "frame too large", "looked like an HTTP/1"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// unimplemented says whether the server does not know the method that was called.
func unimplemented(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.code == codes.Unimplemented
}
