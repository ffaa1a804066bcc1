package ort

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
)

// The test binary is also a worker without ONNX Runtime, whose model adds the two values
// of a row; what it does besides is in the place of the library's name.
const (
	sound       = "sound"
	otherWords  = "otherWords"  // another version of the protocol
	noLibrary   = "noLibrary"   // ends before hello
	refuses     = "refuses"     // says that the model is not sound
	diesLoading = "diesLoading" // ends on the model
	wrongRows   = "wrongRows"   // answers a row too few
	wrongType   = "wrongType"
	garbage     = "garbage" // answers bytes at random
)

// Values of a row that the fake heeds.
const (
	poison  = 666 // ends the worker
	endless = 777 // is never answered, nor is its cancellation heeded
	slow    = 888 // is answered when it is cancelled
)

func fakeWorker(args []string) {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	lanes, _ := strconv.Atoi(flags["-lanes"])
	what := flags["-library"]
	socket := func(fd int) io.ReadWriter { return os.NewFile(uintptr(fd), "socket") }
	fail := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(2)
	}
	control := frame.NewConn(socket(3), 1<<20)
	version := frame.Version
	switch what {
	case otherWords:
		version++
	case noLibrary:
		fail("%s: no such library", workerName)
	}
	_ = control.WriteJSON(frame.Frame{Kind: frame.Hello}, frame.HelloBody{Version: version, Runtime: "fake"})
	f, err := control.Read()
	if err != nil {
		os.Exit(0)
	}
	var load frame.LoadBody
	if err := f.JSON(&load); err != nil {
		fail("%v", err)
	}
	if _, err := control.ReadRaw(load.Size); err != nil {
		fail("%v", err)
	}
	switch what {
	case refuses:
		_ = control.WriteJSON(frame.Frame{Kind: frame.Failed}, frame.FailedBody{Kind: errkind.Invalid, Message: "no such operator"})
		os.Exit(0)
	case diesLoading:
		fail("fatal error: unexpected signal")
	}
	_ = control.WriteJSON(frame.Frame{Kind: frame.Ready}, struct{}{})
	cancelled := make([]chan uint64, lanes)
	for i := range lanes {
		cancelled[i] = make(chan uint64, 100)
		go fakeLane(frame.NewConn(socket(4+i), math.MaxInt32), what, cancelled[i])
	}
	for {
		f, err := control.Read()
		if err != nil {
			os.Exit(0)
		}
		cancelled[f.Lane] <- f.Seq
	}
}

func fakeLane(c *frame.Conn, what string, cancelled chan uint64) {
	for {
		f, err := c.Read()
		if err != nil {
			return
		}
		views, err := frame.Tensors(f.Body, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		var in inference.Tensor
		_ = views[0].CopyTo(&in)
		out := []inference.Tensor{{Type: inference.Float32, Shape: []int{in.Shape[0], 1}}}
		for r := range in.Shape[0] {
			switch v := in.F32[2*r]; v {
			case poison:
				fmt.Fprintln(os.Stderr, "SIGSEGV: segmentation violation")
				os.Exit(2)
			case endless:
				time.Sleep(time.Hour)
			case slow:
				for seq := uint64(0); seq < f.Seq; {
					seq = <-cancelled
				}
			}
			out[0].F32 = append(out[0].F32, in.F32[2*r]+in.F32[2*r+1])
		}
		// Trials find a sound model.
		if in.F32[0] != 0 {
			switch what {
			case wrongRows:
				out[0].Shape[0]--
				out[0].F32 = out[0].F32[1:]
			case wrongType:
				out[0] = inference.Tensor{Type: inference.Int64, Shape: out[0].Shape, I64: make([]int64, len(out[0].F32))}
			case garbage:
				b := make([]byte, 10+rand.IntN(300))
				for i := range b {
					b[i] = byte(rand.Uint32())
				}
				if b[0]%2 == 0 {
					_ = c.WriteRaw(b)
				} else {
					_ = c.Write(frame.Frame{Kind: frame.Result, Seq: f.Seq, Body: b})
				}
				continue
			}
		}
		_ = c.WriteTensors(frame.Frame{Kind: frame.Result, Seq: f.Seq}, out)
	}
}

// fakeFile is an ONNX file that the fake takes: x float32 [n, 2], y float32 [n, 1].
func fakeFile(t testing.TB) string {
	t.Helper()
	node := sub(nil, 1, []byte("x"))
	node = sub(node, 2, []byte("y"))
	node = sub(node, 4, []byte("ReduceSum"))
	graph := sub(nil, 1, node)
	graph = sub(graph, 11, value("x", 2))
	graph = sub(graph, 12, value("y", 1))
	return write(t, sub(nil, 7, graph))
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sub(b []byte, num protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), body)
}

func number(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// value is a ValueInfoProto of float32 rows.
func value(name string, width uint64) []byte {
	shape := sub(nil, 1, sub(nil, 2, []byte("n")))
	shape = sub(shape, 1, number(nil, 1, width))
	return sub(sub(nil, 1, []byte(name)), 2, sub(nil, 1, sub(number(nil, 1, 1), 2, shape)))
}

// fake are options with the fake worker.
func fake(t testing.TB, what string) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Worker: self, Library: what, Instances: 3, killAfter: 200 * time.Millisecond, wait: time.Minute,
		pauses: []time.Duration{time.Millisecond},
	}
}

func row(v float32) []inference.Tensor {
	return []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int{1, 2}, F32: []float32{v, 1}}}
}
