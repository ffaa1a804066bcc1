package ort

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/ort/internal/frame"
	"github.com/freshet-io/freshet/inference/ort/internal/graph"
)

// Open starts a worker with the ONNX file at path. The model's name is the file's name
// without its extension. Errors are NotFound, Config (settings; no worker or no shared
// library; a worker of another release), Invalid (the file is not a sound model),
// Unsupported (ONNX Runtime does not offer what it asks for, or its inputs and outputs are no
// tensors of rows), Exhausted (file or memory too large) or Permanent (the file ends the worker).
func Open(ctx context.Context, path string, o Options) (*Driver, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d, err := open(ctx, path, &o)
	if err != nil {
		return nil, errkind.Errorf(errkind.Of(err), "load model %s into ONNX Runtime: %w", path, err)
	}
	return d, nil
}

func open(ctx context.Context, path string, o *Options) (*Driver, error) {
	src, g, err := openSource(path, o.MaxBytes)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		o: o, source: src, pool: make(chan *lane, o.Instances), alone: make(chan struct{}, 1), suspects: newSuspects(),
		meta: inference.Metadata{
			Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), Version: version(g, src.digest),
			Digest: src.digest, Format: "onnx", Producer: g.Producer, MaxBatch: o.MaxBatch,
		},
	}
	d.gate = tensors.NewGate(d.meta.Name, 1<<20)
	err = d.start(ctx, g)
	if err == nil {
		err = d.describe(ctx, g)
	}
	var ended *endedError
	if errors.As(err, &ended) {
		err = errkind.Errorf(errkind.Permanent, "the model ends ONNX Runtime when it is tried: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// start starts the first worker, and then whoever looks after it.
func (d *Driver) start(ctx context.Context, g *graph.Model) error {
	load := frame.LoadBody{Threads: d.o.Threads, Spin: d.o.spin}
	for _, in := range g.Inputs {
		if in.Type == 0 {
			return errkind.Errorf(errkind.Unsupported, "input %q is no tensor of a known type", in.Name)
		}
		load.Inputs = append(load.Inputs, frame.Input{Name: in.Name, Type: in.Type, Dims: in.Dims})
	}
	for _, out := range g.Outputs {
		load.Outputs = append(load.Outputs, out.Name)
	}
	p, err := launch(ctx, d.o, &load, g.Bytes)
	if err != nil {
		return err
	}
	g.Bytes = nil
	d.workers = supervise(p, d.meta.Name, d.o, d.gate.Closing(), func(ctx context.Context) (*process, error) {
		g, err := d.source.read()
		if err != nil {
			return nil, err
		}
		return launch(ctx, d.o, &load, g.Bytes)
	})
	for i := range d.o.Instances {
		d.pool <- newLane(i)
	}
	d.o.Logger.Info("a worker evaluates the model", "model", d.meta.Name, "onnxruntime", p.runtime, "process", p.cmd.Process.Pid,
		"threads", d.o.Threads, "instances", d.o.Instances)
	return nil
}

// version prefers what the model says of itself.
func version(g *graph.Model, digest string) string {
	switch {
	case g.Props["version"] != "":
		return g.Props["version"]
	case g.Version != 0:
		return strconv.FormatInt(g.Version, 10)
	}
	return digest[:12]
}
