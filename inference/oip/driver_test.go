package oip

import (
	"context"
	"errors"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

func TestSuite(t *testing.T) {
	models := map[string]*echo{"echo": mixed()}
	byGRPC, byHTTP := serveGRPC(t, models), serveHTTP(t, models)
	other := serveGRPC(t, models)
	for name, tc := range map[string]struct {
		url      string
		settings map[string]any
	}{
		"gRPC":          {"oip://" + byGRPC + "/echo?version=7", map[string]any{"concurrency": 4, "batch": 70}},
		"gRPC typed":    {"oip://" + byGRPC + "/echo", map[string]any{"concurrency": 4, "contents": "typed", "parameters": map[string]any{"a": 1, "b": "x", "c": true, "d": 0.5}}},
		"several hosts": {"oip://" + byGRPC + "," + other + "/echo", map[string]any{"concurrency": 2}},
		"HTTP":          {"oip+http://" + byHTTP + "/echo?version=7", map[string]any{"concurrency": 4, "nan": "literal", "parameters": map[string]any{"a": 1}}},
		"HTTP binary":   {"oip+http://" + byHTTP + "/echo", map[string]any{"concurrency": 4, "binary": true}},
	} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Remote: true, Width: 2, Open: func(t testing.TB) inference.Driver {
				return mustOpen(t, tc.url, tc.settings)
			}})
		})
	}
}

// tensor makes one of n rows.
func tensor(sig inference.Signature, n int) inference.Tensor {
	t := inference.Tensor{Name: sig.Name, Type: sig.Type, Shape: append([]int{n}, sig.Shape...)}
	size := n
	for _, d := range sig.Shape {
		size *= d
	}
	t.F32, t.F64, t.I64, t.I32 = make([]float32, size), make([]float64, size), make([]int64, size), make([]int32, size)
	t.Bool, t.Str = make([]bool, size), make([]string, size)
	return t
}

func TestEveryDatatypeComesBackAsItWent(t *testing.T) {
	models := map[string]*echo{"all": {}, "typed": {}}
	for _, d := range datatypes {
		models["all"].tensors = append(models["all"].tensors, info(strings.ToLower(d.name), d.name, 2))
		if d.field() != 0 {
			models["typed"].tensors = append(models["typed"].tensors, info(strings.ToLower(d.name), d.name, 2))
		}
	}
	byGRPC, byHTTP := serveGRPC(t, models), serveHTTP(t, models)
	for name, tc := range map[string]struct {
		url      string
		settings map[string]any
	}{
		"gRPC":        {"oip://" + byGRPC + "/all", nil},
		"gRPC typed":  {"oip://" + byGRPC + "/typed", map[string]any{"contents": "typed"}},
		"HTTP":        {"oip+http://" + byHTTP + "/all", map[string]any{"nan": "literal"}},
		"HTTP binary": {"oip+http://" + byHTTP + "/all", map[string]any{"binary": true}},
	} {
		t.Run(name, func(t *testing.T) {
			d := mustOpen(t, tc.url, tc.settings)
			defer d.Close()
			meta := d.Metadata()
			in, out := make([]inference.Tensor, len(meta.Inputs)), make([]inference.Tensor, len(meta.Inputs))
			for i, sig := range meta.Inputs {
				in[i] = tensor(sig, 3)
				dt, _ := lookUp(strings.ToUpper(sig.Name))
				least, most := dt.bounds()
				copy(in[i].F32, []float32{-1.5, 65504, float32(math.Inf(1)), 0, float32(math.Inf(-1)), 0.125})
				copy(in[i].F64, []float64{-1.5, math.MaxFloat64, math.Inf(1), 5e-324, math.Inf(-1), math.Pi})
				copy(in[i].I64, []int64{least, most, 0, 1, 2, 3})
				copy(in[i].I32, []int32{int32(max(least, math.MinInt32)), int32(min(most, math.MaxInt32)), 0, 1, 2, 3})
				copy(in[i].Bool, []bool{true, false, true, true, false, true})
				copy(in[i].Str, []string{"", "a", "ü\"\\\n", strings.Repeat("long ", 100), "\x00", "z"})
			}
			// As binary16 rounds it, and bfloat16.
			for i := range in {
				if meta.Inputs[i].Name == "bf16" {
					in[i].F32[1] = 65536
				}
			}
			if err := d.Infer(t.Context(), in, out); err != nil {
				t.Fatal(err)
			}
			for i, sig := range meta.Inputs {
				want, got := in[i], out[i]
				same := got.Type == want.Type && slices.Equal(got.Shape, want.Shape)
				switch sig.Type {
				case inference.Float32:
					same = same && slices.Equal(got.F32, want.F32)
				case inference.Float64:
					same = same && slices.Equal(got.F64, want.F64)
				case inference.Int64:
					same = same && slices.Equal(got.I64, want.I64)
				case inference.Int32:
					same = same && slices.Equal(got.I32, want.I32)
				case inference.Bool:
					same = same && slices.Equal(got.Bool, want.Bool)
				case inference.String:
					same = same && slices.Equal(got.Str, want.Str)
				}
				if !same {
					t.Errorf("%s: %+v, expected %+v", sig.Name, got, want)
				}
			}
		})
	}
}

func TestValuesThatTheServersTypeCannotHoldAreInvalid(t *testing.T) {
	models := map[string]*echo{}
	for _, d := range datatypes {
		models[d.name] = &echo{tensors: []tensorInfo{info("x", d.name)}}
	}
	address := serveGRPC(t, models)
	for name, v := range map[string]any{
		"INT8": int32(128), "UINT8": int32(-1), "INT16": int32(-32769), "UINT16": int32(65536), "UINT32": int64(1 << 32), "UINT64": int64(-1),
		"FP16": float32(65520), "BF16": float32(math.MaxFloat32),
	} {
		d := mustOpen(t, "oip://"+address+"/"+name, nil)
		in := []inference.Tensor{tensor(d.Metadata().Inputs[0], 1)}
		switch v := v.(type) {
		case int32:
			in[0].I32[0] = v
		case int64:
			in[0].I64[0] = v
		case float32:
			in[0].F32[0] = v
		}
		if err := d.Infer(t.Context(), in, make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		_ = d.Close()
	}
}

func TestHalvesRoundToEven(t *testing.T) {
	for v, want := range map[float32]uint16{
		0: 0, 1: 0x3c00, -2: 0xc000, 65504: 0x7bff, 65519: 0x7bff, 5.9604645e-8: 1, 2.9802322e-8: 0, 4.4703484e-8: 1, 6.097555e-5: 0x3ff, 6.1035156e-5: 0x400,
		1.00048828125: 0x3c00, 1.00146484375: 0x3c02, 2047.5: 0x6800,
	} {
		if got := toHalf(v); got != want {
			t.Errorf("%v is %#x, expected %#x", v, got, want)
		}
	}
	for h := range 1 << 16 {
		v := fromHalf(uint16(h))
		if got := toHalf(v); got != uint16(h) && v == v {
			t.Fatalf("%#x is %v, which is %#x", h, v, got)
		}
	}
	if v := fromHalf(toHalf(float32(math.NaN()))); v == v {
		t.Error("NaN became a number")
	}
	if v := math.Float32frombits(uint32(toBrain(float32(math.NaN()))) << 16); v == v {
		t.Error("NaN became a number")
	}
}

func TestTheSettingsCompleteWhatTheServerSays(t *testing.T) {
	said := &echo{tensors: []tensorInfo{info("a", "FP32", 2), info("b", "INT64")}}
	models := map[string]*echo{"said": said, "silent": {}, "one": {tensors: []tensorInfo{{Name: "a", Datatype: "FP32", Shape: []int64{1, 2}}}}}
	address := serveGRPC(t, models)
	sig := func(name string, ty inference.DataType, shape ...int) inference.Signature {
		return inference.Signature{Name: name, Type: ty, Shape: shape}
	}
	for _, tc := range []struct {
		model    string
		settings map[string]any
		given    []inference.Signature
		inputs   []inference.Signature
		outputs  []inference.Signature
	}{
		{"said", nil, nil, []inference.Signature{sig("a", inference.Float32, 2), sig("b", inference.Int64)}, []inference.Signature{sig("a_out", inference.Float32, 2), sig("b_out", inference.Int64)}},
		{"said", map[string]any{"inputs": []any{"b", "a"}, "outputs": "b_out"}, nil, []inference.Signature{sig("b", inference.Int64), sig("a", inference.Float32, 2)}, []inference.Signature{sig("b_out", inference.Int64)}},
		{"said", map[string]any{"inputs": []any{map[string]any{"name": "a", "shape": []any{2}}}, "features": []any{"p", "q"}, "outputs": []any{map[string]any{"name": "a_out", "labels": []any{"no", "yes"}}}}, nil,
			[]inference.Signature{sig("a", inference.Float32, 2)}, []inference.Signature{{Name: "a_out", Type: inference.Float32, Shape: []int{2}, Labels: []string{"no", "yes"}}}},
		{"silent", map[string]any{"inputs": []any{map[string]any{"name": "a", "datatype": "fp64", "shape": 4}}, "outputs": []any{map[string]any{"name": "predict", "datatype": "INT64"}}}, nil,
			[]inference.Signature{sig("a", inference.Float64, 4)}, []inference.Signature{sig("predict", inference.Int64)}},
		{"silent", map[string]any{"outputs": []any{map[string]any{"name": "y", "datatype": "FP32"}}}, []inference.Signature{sig("p", inference.Float64)},
			[]inference.Signature{sig("p", inference.Float64)}, []inference.Signature{sig("y", inference.Float32)}},
	} {
		d, err := Open(t.Context(), "oip://"+address+"/"+tc.model, Options{Settings: tc.settings, Inputs: tc.given})
		if err != nil {
			t.Errorf("%s %v: %v", tc.model, tc.settings, err)
			continue
		}
		m := d.Metadata()
		if diff := cmp.Diff([][]inference.Signature{tc.inputs, tc.outputs}, [][]inference.Signature{m.Inputs, m.Outputs}); diff != "" {
			t.Errorf("%s %v: (-want +got)\n%s", tc.model, tc.settings, diff)
		}
		_ = d.Close()
	}
	d := mustOpen(t, "oip://"+address+"/one", nil)
	defer d.Close()
	if d.Metadata().MaxBatch != 1 {
		t.Errorf("a model of one row at a time takes %d", d.Metadata().MaxBatch)
	}
}

func TestOpenFailsFastAndByKind(t *testing.T) {
	wrongToken := mixed()
	wrongToken.token = "Bearer secret-of-KEY"
	loading := mixed()
	loading.ready = func() error { return errors.New("loading") }
	models := map[string]*echo{
		"echo": mixed(), "token": wrongToken, "loading": loading, "silent": {},
		"fixed":   {tensors: []tensorInfo{{Name: "a", Datatype: "FP32", Shape: []int64{8, 2}}}},
		"strange": {tensors: []tensorInfo{info("a", "FP8", 2)}},
		"scalar":  {tensors: []tensorInfo{{Name: "a", Datatype: "FP32"}}},
		"huge":    {tensors: []tensorInfo{info("a", "FP32", 1<<31, 1<<31)}},
	}
	byGRPC, byHTTP := serveGRPC(t, models), serveHTTP(t, models)
	webServer := httptest.NewServer(http.NotFoundHandler())
	defer webServer.Close()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.EnableHTTP2 = true
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	defer tlsServer.Close()
	plain, secure := strings.TrimPrefix(webServer.URL, "http://"), strings.TrimPrefix(tlsServer.URL, "https://")
	for _, tc := range []struct {
		url      string
		settings map[string]any
		kind     errkind.Kind
		want     string
	}{
		{"oip://127.0.0.1:1/m", nil, errkind.Transient, "refused"},
		{"oip+http://127.0.0.1:1/m", nil, errkind.Transient, "refused"},
		{"oip://" + byGRPC, nil, errkind.Config, "/MODEL"},
		{"oip://" + byGRPC + "/a/b", nil, errkind.Config, "/MODEL"},
		{"oip://" + byGRPC + "/none", nil, errkind.NotFound, "not found"},
		{"oip+http://" + byHTTP + "/none", nil, errkind.NotFound, "404"},
		{"oip+http://" + byHTTP + "/token", nil, errkind.Config, "401"},
		{"oip+http://" + byHTTP + "/loading", nil, errkind.Transient, "not ready"},
		{"oip://" + byGRPC + "/silent", nil, errkind.Config, "option inputs"},
		{"oip://" + byGRPC + "/fixed", nil, errkind.Config, "no other number of rows than 8"},
		{"oip://" + byGRPC + "/strange", nil, errkind.Config, `datatype "FP8"`},
		{"oip://" + byGRPC + "/scalar", nil, errkind.Config, "batch first"},
		{"oip://" + byGRPC + "/huge", nil, errkind.Config, "too large"},
		{"oip://" + byGRPC + "/echo?verson=1", nil, errkind.Config, `did you mean "version"?`},
		{"oip://" + byGRPC + "/echo?token_env=NONE", nil, errkind.Config, "NONE"},
		{"oip://" + byGRPC + "/echo", map[string]any{"binary": true}, errkind.Config, `"binary"`},
		{"oip+http://" + byHTTP + "/echo", map[string]any{"contents": "typed"}, errkind.Config, `"contents"`},
		{"oip://" + byGRPC + "/echo", map[string]any{"inputs": []any{"y"}}, errkind.Config, `no input "y"`},
		{"oip://" + byGRPC + "/echo", map[string]any{"outputs": []any{"x_ou"}}, errkind.Config, `did you mean "x_out"?`},
		{"oip://" + byGRPC + "/echo", map[string]any{"outputs": []any{"x_out", "x_out"}}, errkind.Config, "twice"},
		{"oip://" + byGRPC + "/echo", map[string]any{"outputs": []any{3}}, errkind.Config, "list of names"},
		{"oip://" + byGRPC + "/echo", map[string]any{"inputs": []any{map[string]any{"name": "x", "datatyp": "FP32"}}}, errkind.Config, `did you mean "datatype"?`},
		{"oip://" + byGRPC + "/echo", map[string]any{"inputs": []any{map[string]any{"name": "x", "datatype": "FP33"}}}, errkind.Config, "FP32?"},
		{"oip://" + byGRPC + "/echo", map[string]any{"features": []any{"a"}}, errkind.Config, "features"},
		{"oip://" + byGRPC + "/echo", map[string]any{"parameters": map[string]any{"a": []any{1}}}, errkind.Config, "parameters.a"},
		{"oip://" + byGRPC + "/echo", map[string]any{"host": "a b"}, errkind.Config, "host"},
		{"oip://" + plain + "/echo", nil, errkind.Config, ""},
		{"oip+http://" + plain + "/echo", nil, errkind.NotFound, "404"},
		{"oip+tls://" + byGRPC + "/echo", nil, errkind.Config, ""},
		{"oip+tls://" + secure + "/echo", nil, errkind.Config, "certificate"},
		{"oip+https://" + secure + "/echo", nil, errkind.Config, "certificate"},
		{"oip+http://" + byGRPC + "/echo", nil, errkind.Config, ""},
	} {
		d, err := open(t, tc.url, tc.settings)
		if err == nil {
			_ = d.Close()
		}
		if !errkind.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret-of") {
			t.Errorf("%s %v: %v %v, expected %v %q", tc.url, tc.settings, errkind.Of(err), err, tc.kind, tc.want)
		}
	}
	d := mustOpen(t, "oip+http://"+byHTTP+"/token?token_env=KEY", nil)
	_ = d.Close()
}

func TestAStatusHasAKind(t *testing.T) {
	var answer error
	m := mixed()
	m.infer = func(_, _ protoreflect.Message) (bool, error) { return true, answer }
	d := mustOpen(t, "oip://"+serveGRPC(t, map[string]*echo{"echo": m})+"/echo", nil)
	defer d.Close()
	in := rows(d, 2)
	pause, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		answer error
		want   errkind.Kind
		pause  time.Duration
	}{
		{status.Error(codes.InvalidArgument, "row"), errkind.Invalid, 0}, {status.Error(codes.OutOfRange, "row"), errkind.Invalid, 0},
		{status.Error(codes.Internal, "x"), errkind.Transient, 0}, {status.Error(codes.Unknown, "x"), errkind.Transient, 0}, {status.Error(codes.Unavailable, "x"), errkind.Transient, 0},
		{status.Error(codes.DeadlineExceeded, "x"), errkind.Transient, 0}, {status.Error(codes.Canceled, "x"), errkind.Transient, 0},
		{status.Error(codes.NotFound, "x"), errkind.NotFound, 0}, {status.Error(codes.Unauthenticated, "x"), errkind.Config, 0}, {status.Error(codes.PermissionDenied, "x"), errkind.Config, 0},
		{status.Error(codes.Unimplemented, "x"), errkind.Permanent, 0}, {status.Error(codes.FailedPrecondition, "x"), errkind.Permanent, 0},
		{status.Error(codes.ResourceExhausted, "x"), errkind.Throttled, 0}, {pause.Err(), errkind.Throttled, 3 * time.Second},
		{status.Error(codes.ResourceExhausted, "Received message larger than max (7 vs. 4)"), errkind.Invalid, 0},
	} {
		answer = tc.answer
		err := d.Infer(t.Context(), in, make([]inference.Tensor, len(in)))
		var ra *inference.RetryAfter
		if !errkind.Is(err, tc.want) || errors.As(err, &ra) != (tc.pause > 0) || ra != nil && ra.After != tc.pause {
			t.Errorf("%v: %v %v, expected %v", tc.answer, errkind.Of(err), err, tc.want)
		}
	}
}

func rows(d inference.Driver, n int) []inference.Tensor {
	var in []inference.Tensor
	for _, sig := range d.Metadata().Inputs {
		sig.Shape = slices.Clone(sig.Shape)
		for i := range sig.Shape {
			sig.Shape[i] = max(sig.Shape[i], 1)
		}
		in = append(in, tensor(sig, n))
	}
	return in
}

func TestRowsAreNotBlamedForAModelThatIsAway(t *testing.T) {
	for want, ready := range map[errkind.Kind]error{
		errkind.Invalid: nil, errkind.Transient: status.Error(codes.Unavailable, "loading"), errkind.NotFound: status.Error(codes.NotFound, "gone"),
	} {
		m := mixed()
		d := mustOpen(t, "oip://"+serveGRPC(t, map[string]*echo{"echo": m})+"/echo", nil)
		m.ready = func() error { return ready }
		m.infer = func(_, _ protoreflect.Message) (bool, error) {
			return true, status.Error(codes.InvalidArgument, "Model is not ready yet.")
		}
		if err := d.Infer(t.Context(), rows(d, 1), make([]inference.Tensor, 7)); !errkind.Is(err, want) || !strings.Contains(err.Error(), "not ready yet") {
			t.Errorf("%v: %v %v", want, errkind.Of(err), err)
		}
		_ = d.Close()
	}
}

func TestLateAndCancelledCallsEnd(t *testing.T) {
	stop := make(chan struct{})
	m := mixed()
	m.infer = func(_, _ protoreflect.Message) (bool, error) { <-stop; return false, nil }
	address := serveGRPC(t, map[string]*echo{"echo": m})
	defer close(stop)
	d := mustOpen(t, "oip://"+address+"/echo?timeout=100ms", nil)
	defer d.Close()
	in, out := rows(d, 1), make([]inference.Tensor, 7)
	if err := d.Infer(t.Context(), in, out); !errkind.Is(err, errkind.Transient) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late: %v %v", errkind.Of(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- d.Infer(ctx, in, out) }()
	cancel()
	if err := <-errs; !errkind.Is(err, errkind.Canceled) && !errkind.Is(err, errkind.Transient) {
		t.Errorf("cancelled: %v %v", errkind.Of(err), err)
	}
}

func TestAHostThatIsAwayIsAskedBeforeItsFirstCall(t *testing.T) {
	there := serveGRPC(t, map[string]*echo{"echo": mixed()})
	d := mustOpen(t, "oip://"+there+",127.0.0.1:1/echo", nil)
	defer d.Close()
	worked := 0
	for range 8 {
		if err := d.Infer(t.Context(), rows(d, 1), make([]inference.Tensor, 7)); err == nil {
			worked++
		} else if !errkind.Is(err, errkind.Transient) {
			t.Error(err)
		}
	}
	if worked == 0 {
		t.Error("the host that is there was not called")
	}
	other := serveGRPC(t, map[string]*echo{"echo": {tensors: []tensorInfo{info("z", "FP32")}}})
	if _, err := open(t, "oip://"+there+","+other+"/echo", nil); !errkind.Is(err, errkind.Config) {
		t.Errorf("hosts with different models: %v", err)
	}
}

func TestLargeMessagesPass(t *testing.T) {
	m := &echo{tensors: []tensorInfo{info("x", "FP32", 5000)}}
	address := serveGRPC(t, map[string]*echo{"echo": m}, grpc.MaxRecvMsgSize(64<<20))
	d := mustOpen(t, "oip://"+address+"/echo", nil)
	defer d.Close()
	in, out := rows(d, 256), make([]inference.Tensor, 1)
	for i := range in[0].F32 {
		in[0].F32[i] = float32(i)
	}
	if err := d.Infer(t.Context(), in, out); err != nil || !slices.Equal(in[0].F32, out[0].F32) {
		t.Error(err)
	}
	small := mustOpen(t, "oip://"+address+"/echo", map[string]any{"max_answer": 1 << 20})
	defer small.Close()
	if err := small.Infer(t.Context(), in, out); !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "longer than 1048576") {
		t.Errorf("%v %v", errkind.Of(err), err)
	}
	tight := mustOpen(t, "oip://"+serveGRPC(t, map[string]*echo{"echo": m})+"/echo", nil)
	defer tight.Close()
	if err := tight.Infer(t.Context(), in, out); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("too much for the server: %v %v", errkind.Of(err), err)
	}
}
