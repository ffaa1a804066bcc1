package onnx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// Model is a loaded ONNX file. It implements inference.Driver.
type Model struct {
	meta   inference.Metadata
	prog   *program
	pool   chan *instance
	closed chan struct{}
	once   sync.Once
	work   int // for each trial at load
	size   inference.Complexity

	explainers chan *explainer // as many as instances; each makes its memory when first used
	background atomic.Pointer[background]
}

var (
	_ inference.Driver    = (*Model)(nil)
	_ inference.Explainer = (*Model)(nil)
	_ inference.Inspector = (*Model)(nil)
)

// Load reads the file at path. The model's name is the file's name without its extension. Errors
// are NotFound, Invalid (the file is not a sound model), Unsupported (it asks for what is not
// offered here) or Exhausted (it is larger than MaxBytes).
func Load(path string, o Options) (*Model, error) {
	o = o.withDefaults()
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errkind.Errorf(errkind.NotFound, "load model: %w", err)
		}
		return nil, errkind.Errorf(errkind.Permanent, "load model: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, o.MaxBytes+1))
	if err != nil {
		return nil, errkind.Errorf(errkind.Permanent, "load model %s: %w", path, err)
	}
	m, err := Parse(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), data, o)
	if err != nil {
		return nil, errkind.Errorf(errkind.Of(err), "load model %s: %w", path, err)
	}
	return m, nil
}

// Parse is Load for a file in memory, which it does not keep.
func Parse(name string, data []byte, o Options) (m *Model, err error) {
	o = o.withDefaults()
	if int64(len(data)) > o.MaxBytes {
		return nil, errkind.Errorf(errkind.Exhausted, "the file is larger than the limit of %d bytes", o.MaxBytes)
	}
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, errkind.Errorf(errkind.Invalid, "%w: %v: please report it with the file", errInternal, r)
		}
	}()
	w, err := wire.Decode(data, wire.Limits{MaxNodes: o.MaxNodes})
	if err != nil {
		return nil, errkind.With(errkind.Invalid, err)
	}
	p, err := plan(w, o)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	m = &Model{
		prog:   p,
		work:   o.work,
		pool:   make(chan *instance, o.Instances),
		closed: make(chan struct{}),
		size:   complexity(w, p, len(data)),

		explainers: make(chan *explainer, o.Instances),

		meta: inference.Metadata{
			Name: name, Version: version(w, digest), Digest: digest, Format: "onnx",
			Producer: strings.TrimSpace(w.ProducerName + " " + w.ProducerVersion), MaxBatch: o.MaxBatch,
		},
	}
	p.trees = nil // counted
	if err := m.describe(w.Props); err != nil {
		return nil, err
	}
	for range o.Instances {
		m.pool <- newInstance(p)
		m.explainers <- &explainer{}
	}
	return m, nil
}

// version prefers what the model says of itself.
func version(w *wire.Model, digest string) string {
	switch {
	case w.Props["version"] != "":
		return w.Props["version"]
	case w.ModelVersion != 0:
		return strconv.FormatInt(w.ModelVersion, 10)
	}
	return digest[:12]
}

// Metadata describes the model.
func (m *Model) Metadata() inference.Metadata { return m.meta }

// Concurrency is the number of instances.
func (m *Model) Concurrency() int { return cap(m.pool) }

// Infer evaluates a batch; see inference.Driver.
func (m *Model) Infer(ctx context.Context, in, out []inference.Tensor) error {
	select {
	case <-m.closed:
		return m.errClosed()
	default:
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("infer %s: %w", m.meta.Name, err)
	}
	if len(out) != len(m.meta.Outputs) {
		return invalid("infer %s: %d outputs, expected %d", m.meta.Name, len(out), len(m.meta.Outputs))
	}
	rows, err := m.checkBatch(in)
	if err != nil {
		return err
	}
	if rows == 0 {
		m.empty(out)
		return nil
	}
	var i *instance
	select {
	case i = <-m.pool:
	default:
		select {
		case i = <-m.pool:
		case <-m.closed:
			return m.errClosed()
		case <-ctx.Done():
			return fmt.Errorf("infer %s: %w", m.meta.Name, ctx.Err())
		}
	}
	err = i.run(ctx, in, out)
	m.pool <- i
	if err != nil {
		return m.errInfer(err)
	}
	for k := range out {
		if len(out[k].Shape) == 0 || out[k].Shape[0] != rows {
			return invalid("infer %s: output %s has shape %v for a batch of %d rows", m.meta.Name, out[k].Name, slices.Clone(out[k].Shape), rows)
		}
	}
	return nil
}

func (m *Model) errClosed() error {
	return errkind.Errorf(errkind.Closed, "infer %s: the model is closed", m.meta.Name)
}

func (m *Model) errInfer(err error) error {
	switch {
	case errors.Is(err, errInternal):
		return errkind.Errorf(errkind.Permanent, "infer %s: %w", m.meta.Name, err)
	case errkind.Of(err) == errkind.Unknown:
		return errkind.Errorf(errkind.Invalid, "infer %s: %w", m.meta.Name, err)
	}
	return fmt.Errorf("infer %s: %w", m.meta.Name, err)
}

// check holds the inputs against the metadata and returns the number of rows.
func (m *Model) check(in []inference.Tensor) (rows int, err error) {
	if len(in) != len(m.meta.Inputs) {
		return 0, invalid("infer %s: %d inputs, expected %d", m.meta.Name, len(in), len(m.meta.Inputs))
	}
	for k := range in {
		t, sig := &in[k], &m.meta.Inputs[k]
		fits := len(t.Shape) == len(sig.Shape)+1
		if fits {
			for d, n := range sig.Shape {
				fits = fits && (n < 0 || n == t.Shape[d+1])
			}
		}
		if !fits || t.Type != sig.Type {
			return 0, invalid("infer %s: input %s is %v %v, expected %v with rows of %v",
				m.meta.Name, sig.Name, t.Type, slices.Clone(t.Shape), sig.Type, sig.Shape)
		}
		size, ok := ops.Size(m.prog.maxElements, t.Shape)
		if !ok || size != ops.Len(t) {
			return 0, invalid("infer %s: input %s has %d elements, shape %v needs another number (at most %d)",
				m.meta.Name, sig.Name, ops.Len(t), slices.Clone(t.Shape), m.prog.maxElements)
		}
		if k == 0 {
			rows = t.Shape[0]
		}
		if t.Shape[0] != rows {
			return 0, invalid("infer %s: input %s has %d rows, input %s has %d",
				m.meta.Name, sig.Name, t.Shape[0], m.meta.Inputs[0].Name, rows)
		}
	}
	return rows, nil
}

// checkBatch is check with the limit of rows.
func (m *Model) checkBatch(in []inference.Tensor) (rows int, err error) {
	rows, err = m.check(in)
	if err == nil && m.meta.MaxBatch > 0 && rows > m.meta.MaxBatch {
		return 0, invalid("infer %s: a batch of %d rows, at most %d are allowed", m.meta.Name, rows, m.meta.MaxBatch)
	}
	return rows, err
}

// empty sets the outputs of a batch without rows.
func (m *Model) empty(out []inference.Tensor) {
	for k := range out {
		sig, t := &m.meta.Outputs[k], &out[k]
		t.Name, t.Type = sig.Name, sig.Type
		t.Shape = append(t.Shape[:0], 0)
		for _, n := range sig.Shape {
			t.Shape = append(t.Shape, max(n, 0))
		}
		t.F32, t.F64, t.I64, t.I32, t.Bool, t.Str = t.F32[:0], t.F64[:0], t.I64[:0], t.I32[:0], t.Bool[:0], t.Str[:0]
	}
}

// Close waits for calls in progress and releases the model; a second Close returns nil.
func (m *Model) Close() error {
	m.once.Do(func() {
		close(m.closed)
		for range cap(m.pool) {
			<-m.pool
			<-m.explainers
		}
	})
	return nil
}
