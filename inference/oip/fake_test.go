package oip

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/freshet-io/freshet/inference"
)

// protocol is the protocol's own description, read by the protobuf library: what speaks to
// the hand-written messages here shares no code with them.
func protocol(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	data, err := os.ReadFile("testdata/inference.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	file, err := files.FindFileByPath("inference.proto")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func message(file protoreflect.FileDescriptor, name string) *dynamicpb.Message {
	return dynamicpb.NewMessage(file.Messages().ByName(protoreflect.Name(name)))
}

func field(m protoreflect.Message, name string) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(protoreflect.Name(name))
}

func text(m protoreflect.Message, name string) string { return m.Get(field(m, name)).String() }

// echo is a model that answers each input under its name with "_out" behind it.
type echo struct {
	tensors []tensorInfo
	// infer answers ModelInfer, where it is not nil; false leaves it to the echo.
	infer func(req, resp protoreflect.Message) (bool, error)
	ready func() error
	token string
}

func (e *echo) outputs() []tensorInfo {
	var out []tensorInfo
	for _, t := range e.tensors {
		t.Name += "_out"
		out = append(out, t)
	}
	return out
}

// serveGRPC serves models by gRPC and returns the address.
func serveGRPC(t testing.TB, models map[string]*echo, o ...grpc.ServerOption) string {
	t.Helper()
	file := protocol(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(o, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		full, _ := grpc.MethodFromServerStream(stream)
		method := path.Base(full)
		req, resp := message(file, method+"Request"), message(file, method+"Response")
		if err := stream.RecvMsg(req); err != nil {
			return err
		}
		name := "name"
		if method == "ModelInfer" {
			name = "model_name"
		}
		m := models[text(req, name)]
		if m == nil {
			return status.Errorf(codes.NotFound, "Model %s not found", text(req, name))
		}
		if err := m.answer(method, req, resp); err != nil {
			return err
		}
		return stream.SendMsg(resp)
	}))...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func (e *echo) answer(method string, req, resp *dynamicpb.Message) error {
	switch method {
	case "ModelReady":
		resp.Set(field(resp, "ready"), protoreflect.ValueOfBool(true))
		if e.ready != nil {
			return e.ready()
		}
	case "ModelMetadata":
		resp.Set(field(resp, "name"), protoreflect.ValueOfString("echo"))
		for side, tensors := range map[string][]tensorInfo{"inputs": e.tensors, "outputs": e.outputs()} {
			list := resp.Mutable(field(resp, side)).List()
			for _, t := range tensors {
				one := list.AppendMutable().Message()
				one.Set(field(one, "name"), protoreflect.ValueOfString(t.Name))
				one.Set(field(one, "datatype"), protoreflect.ValueOfString(t.Datatype))
				for _, d := range t.Shape {
					one.Mutable(field(one, "shape")).List().Append(protoreflect.ValueOfInt64(d))
				}
			}
		}
	case "ModelInfer":
		if e.infer != nil {
			if done, err := e.infer(req, resp); done || err != nil {
				return err
			}
		}
		resp.Set(field(resp, "model_version"), req.Get(field(req, "model_version")))
		in, out := req.Get(field(req, "inputs")).List(), resp.Mutable(field(resp, "outputs")).List()
		for i := range in.Len() {
			from, to := in.Get(i).Message(), out.AppendMutable().Message()
			to.Set(field(to, "name"), protoreflect.ValueOfString(text(from, "name")+"_out"))
			to.Set(field(to, "datatype"), from.Get(field(from, "datatype")))
			for k := range from.Get(field(from, "shape")).List().Len() {
				to.Mutable(field(to, "shape")).List().Append(from.Get(field(from, "shape")).List().Get(k))
			}
			if from.Has(field(from, "contents")) {
				to.Set(field(to, "contents"), from.Get(field(from, "contents")))
			}
		}
		raw := req.Get(field(req, "raw_input_contents")).List()
		for i := range raw.Len() {
			resp.Mutable(field(resp, "raw_output_contents")).List().Append(raw.Get(i))
		}
	}
	return nil
}

// serveHTTP serves the same by HTTP, with and without raw contents.
func serveHTTP(t testing.TB, models map[string]*echo) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/models/"), "/")
		m := models[parts[0]]
		w.Header().Set("Content-Type", "application/json")
		if m == nil || !strings.HasPrefix(r.URL.Path, "/v2/models/") {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error": "not found"}`))
			return
		}
		if m.token != "" && r.Header.Get("Authorization") != m.token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		version := ""
		if len(parts) > 2 && parts[1] == "versions" {
			version, parts = parts[2], append(parts[:1], parts[3:]...)
		}
		switch {
		case len(parts) == 1:
			_ = json.NewEncoder(w).Encode(description{Name: parts[0], Platform: "echo", Inputs: m.tensors, Outputs: m.outputs()})
		case parts[1] == "ready":
			if m.ready != nil && m.ready() != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
		case parts[1] == "infer":
			echoHTTP(w, r, version)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func echoHTTP(w http.ResponseWriter, r *http.Request, version string) {
	body, _ := io.ReadAll(r.Body)
	var raw []byte
	if n, err := strconv.Atoi(r.Header.Get(headLength)); err == nil {
		body, raw = body[:n], body[n:]
	}
	// NaN and infinities are no JSON: as texts they pass through this server.
	special := strings.NewReplacer("-Infinity", `"-Infinity"`, "Infinity", `"Infinity"`, "NaN", `"NaN"`)
	back := strings.NewReplacer(`"-Infinity"`, "-Infinity", `"Infinity"`, "Infinity", `"NaN"`, "NaN")
	type tensor struct {
		Name       string          `json:"name"`
		Shape      json.RawMessage `json:"shape"`
		Datatype   string          `json:"datatype"`
		Data       json.RawMessage `json:"data,omitempty"`
		Parameters map[string]any  `json:"parameters,omitempty"`
	}
	var in struct {
		ID     string
		Inputs []tensor
	}
	if err := json.Unmarshal([]byte(special.Replace(string(body))), &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i := range in.Inputs {
		in.Inputs[i].Name += "_out"
	}
	out, err := json.Marshal(map[string]any{"id": in.ID, "model_name": "echo", "model_version": version, "outputs": in.Inputs})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out = []byte(back.Replace(string(out)))
	if raw != nil {
		w.Header().Set(headLength, strconv.Itoa(len(out)))
	}
	_, _ = w.Write(append(out, raw...))
}

func info(name, datatype string, shape ...int64) tensorInfo {
	return tensorInfo{Name: name, Datatype: datatype, Shape: append([]int64{-1}, shape...)}
}

// mixed is a model with every type of ours.
func mixed() *echo {
	return &echo{tensors: []tensorInfo{
		info("x", "FP32", 3), info("d", "FP64"), info("n", "INT64", 1), info("i", "INT32", 2, 2), info("ok", "BOOL"), info("city", "BYTES"), info("open", "FP32", -1),
	}}
}

func open(t testing.TB, url string, settings map[string]any) (inference.Driver, error) {
	t.Helper()
	return Open(t.Context(), url, Options{Settings: settings, Env: func(name string) (string, bool) {
		return "secret-of-" + name, name == "KEY"
	}})
}

func mustOpen(t testing.TB, url string, settings map[string]any) inference.Driver {
	t.Helper()
	d, err := open(t, url, settings)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
