package pipeline

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

// openTimeout bounds the opening of a model, be it far away.
const openTimeout = time.Minute

// ModelOpener opens what an infer step names; its error says what to do.
type ModelOpener func(ctx context.Context, m *ModelRef) (*model.Service, error)

// ModelRef is what an infer step says of its model.
type ModelRef struct {
	// Model is a path, a URL or a name in the registry, by Kind.
	Model string
	Kind  ModelKind
	// Registry is the registry's URL; empty is the program's own.
	Registry string
	// Runtime and Options are the step's.
	Runtime string
	Options map[string]any
	// Inputs are the step's inputs, for runtimes that do not know their own.
	Inputs []inference.Signature
	// Config says how each version is batched and guarded.
	Config inference.Config
	Policy model.Policy
	// Check refuses a version that does not fit the step.
	Check func(*model.Version) error
	// Previous is whether a fallback goes to the champion before.
	Previous bool
	// Explain is whether explanations are asked for; Background is the path of a sample, "" without.
	Explain    bool
	Background string
}

// ModelKind is what a step's model is.
type ModelKind uint8

const (
	// ModelFile is a path.
	ModelFile ModelKind = iota
	// ModelURL is a server.
	ModelURL
	// ModelName is a name in the registry.
	ModelName
)

var registryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// kindOfModel tells names, paths and URLs apart: a name has neither slash nor dot.
func kindOfModel(m string) ModelKind {
	switch {
	case strings.Contains(m, "://"):
		return ModelURL
	case registryName.MatchString(m):
		return ModelName
	}
	return ModelFile
}

// Files is a ModelOpener for programs that only read files.
func Files(open func(path string) (inference.Driver, error)) ModelOpener {
	return func(_ context.Context, m *ModelRef) (*model.Service, error) {
		if m.Kind != ModelFile {
			return nil, errkind.Errorf(errkind.Unsupported, "only files can be opened here, and %s is none", m.Model)
		}
		d, err := open(m.Model)
		if err != nil {
			return nil, err
		}
		s, err := Serve(d, m)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return s, nil
	}
}

// Serve serves a driver that never changes, with explanations where the step asks
// for them. The driver stays the caller's where it fails.
func Serve(d inference.Driver, m *ModelRef) (*model.Service, error) {
	meta := d.Metadata()
	arm := model.Arm{Name: meta.Name, Version: meta.Version, Digest: meta.Digest}
	if m.Explain {
		var rows []inference.Tensor
		if m.Background != "" {
			names := meta.FeatureNames
			if names == nil && len(meta.Inputs) == 1 {
				for _, in := range m.Inputs {
					names = append(names, in.Name)
				}
			}
			var err error
			if rows, err = model.ReadSample(m.Background, meta.Inputs, names); err != nil {
				return nil, fmt.Errorf("read the background sample: %w", err)
			}
		}
		var err error
		if arm.Explainer, err = model.ExplainerOf(d, rows); err != nil {
			return nil, err
		}
	}
	arm.Model = inference.New(d, m.Config)
	return model.Fixed(arm), nil
}

// openModel opens a step's model; nil with a fault where it cannot.
func (p *planner) openModel(in *Infer, columns []int, check func(*model.Version) error) *model.Service {
	if in.Model == "" {
		return nil
	}
	ref := &ModelRef{
		Model: in.Model, Kind: kindOfModel(in.Model), Registry: p.spec.Models, Runtime: in.Runtime, Options: in.Options,
		Config: in.Calls, Policy: in.Rollout.policy(p.spec.Freshness.Target), Check: check, Explain: in.Explain != nil, Inputs: p.inputSignatures(in, columns),
	}
	for _, f := range in.Fallbacks {
		ref.Previous = ref.Previous || f.Previous
	}
	if ref.Kind == ModelFile {
		if ref.Model = p.spec.path(in.Model); fileMissing(ref.Model) {
			p.fault(in.modelPos, "model", "paths are relative to the pipeline file; check this one", "infer.model: there is no file %s", ref.Model)
			return nil
		}
	}
	if e := in.Explain; e != nil && e.Background != "" {
		if ref.Background = p.spec.path(e.Background); fileMissing(ref.Background) {
			p.fault(e.backgroundPos, "background", "paths are relative to the pipeline file; check this one", "infer.explain.background: there is no file %s", ref.Background)
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	s, err := p.open(ctx, ref)
	if err != nil {
		remedy := "export the model again, or choose another; docs/models.md says what runs"
		switch {
		case ref.Kind == ModelName:
			remedy = "freshet models list shows what is registered; a file is given with its path, such as ./" + in.Model + ".onnx"
		case ref.Kind == ModelURL:
			remedy = "check that the server runs and serves this model; docs/runtimes.md says what each runtime takes"
		}
		p.fault(in.modelPos, "model", remedy, "infer.model: %v", err)
		return nil
	}
	return s
}
