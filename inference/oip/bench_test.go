package oip

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"path"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/test/servers"
)

// bare hands bytes over as they are.
type bare struct{}

func (bare) Name() string { return "proto" }

func (bare) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bare) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

const benchWidth = 20

// serveAtOnce answers every call with the same scores, one a row.
func serveAtOnce(b *testing.B, batch int) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	side := func(field int, name string, shape ...int64) []byte {
		m := appendText(appendText(nil, 1, name), 2, "FP32")
		for _, d := range shape {
			m = append(append(m, 3<<3), binary.AppendUvarint(nil, uint64(d))...)
		}
		return appendMessage(nil, protowire.Number(4+field), m)
	}
	metadata := concat(side(0, "x", -1, benchWidth), side(1, "y", -1))
	answer := concat(part("y", "FP32", nil, int64(batch)), raw(make([]byte, 4*batch)...))
	s := grpc.NewServer(grpc.ForceServerCodecV2(bare{}), grpc.NumStreamWorkers(4), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var req []byte
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		switch path.Base(method) {
		case "ModelMetadata":
			return stream.SendMsg(&metadata)
		case "ModelReady":
			return stream.SendMsg(&[]byte{1 << 3, 1})
		}
		return stream.SendMsg(&answer)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

// BenchmarkAgainstThePlainLoop compares calls of the driver with the least that a
// program can do that speaks gRPC: the request written beforehand, and only the scores
// read from their place in the answer, without a look at names, types and shapes. Both
// have the same server, a deadline for each call, the same number of calls in flight,
// and turns of equal length.
func BenchmarkAgainstThePlainLoop(b *testing.B) {
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			in := []inference.Tensor{{Type: inference.Float32, Shape: []int{batch, benchWidth}, F32: make([]float32, batch*benchWidth)}}
			compare(b, serveAtOnce(b, batch), "m", in, 4000)
		})
	}
}

// BenchmarkMLServer does the same with a real server, and scikit-learn behind it.
func BenchmarkMLServer(b *testing.B) {
	s := servers.Run(b, "mlserver")
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			in := []inference.Tensor{{Type: inference.Float64, Shape: []int{batch, 4}, F64: make([]float64, batch*4)}}
			compare(b, s.Address, "boosting", in, 320)
		})
	}
}

func compare(b *testing.B, address, model string, in []inference.Tensor, turn int) {
	const flights = 16
	d := mustOpen(b, "oip://"+address+"/"+model, nil)
	defer d.Close()
	conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(4*window), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bare{})))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	batch := in[0].Rows()
	request := (&request{f: d.(*Driver).client.(*grpcClient).frame, in: in, n: batch}).appendTo(make([]byte, 0, 1<<16))
	ours := func(ctx context.Context, out []inference.Tensor, _ []float32) error { return d.Infer(ctx, in, out) }
	plain := func(ctx context.Context, _ []inference.Tensor, scores []float32) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var answer []byte
		if err := conn.Invoke(ctx, service+"ModelInfer", &request, &answer); err != nil {
			return err
		}
		tail := answer[len(answer)-4*batch:]
		for i := range scores {
			scores[i] = math.Float32frombits(binary.LittleEndian.Uint32(tail[4*i:]))
		}
		return nil
	}
	run := func(call func(context.Context, []inference.Tensor, []float32) error) time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for range flights {
			wg.Go(func() {
				out, scores := make([]inference.Tensor, len(d.Metadata().Outputs)), make([]float32, batch)
				for range turn / flights {
					if err := call(b.Context(), out, scores); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(began)
	}
	run(ours)
	run(plain)
	var a, p time.Duration
	for b.Loop() {
		a += run(ours)
		p += run(plain)
	}
	rows := float64(b.N * turn * batch)
	b.ReportMetric(float64(p)/float64(a), "ratio")
	b.ReportMetric(rows/a.Seconds(), "rows/s")
	b.ReportMetric(rows/p.Seconds(), "plain-rows/s")
	b.ReportMetric(0, "ns/op")
}
