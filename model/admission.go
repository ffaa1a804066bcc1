package model

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Caps bound the models that are admitted; the zero value of a field means its default.
type Caps struct {
	Bytes      int64 // of the file; 512 MiB
	Nodes      int   // of the graph; 100,000
	Trees      int   // 100,000
	TreeNodes  int   // 20 million
	Depth      int   // of a tree; 1,024
	Parameters int64 // 500 million
}

func (c Caps) withDefaults() Caps {
	set := func(to *int, n int) {
		if *to == 0 {
			*to = n
		}
	}
	set(&c.Nodes, 100_000)
	set(&c.Trees, 100_000)
	set(&c.TreeNodes, 20_000_000)
	set(&c.Depth, 1024)
	if c.Bytes == 0 {
		c.Bytes = 512 << 20
	}
	if c.Parameters == 0 {
		c.Parameters = 500_000_000
	}
	return c
}

// check returns an error of kind Exhausted that names what is beyond its cap.
func (c Caps) check(x inference.Complexity) error {
	var over []string
	for _, f := range []struct {
		what     string
		got, cap int64
	}{
		{"bytes", x.Bytes, c.Bytes},
		{"graph nodes", int64(x.Nodes), int64(c.Nodes)},
		{"trees", int64(x.Trees), int64(c.Trees)},
		{"tree nodes", int64(x.TreeNodes), int64(c.TreeNodes)},
		{"levels of the deepest tree", int64(x.Depth), int64(c.Depth)},
		{"weights", x.Parameters, c.Parameters},
	} {
		if f.got > f.cap {
			over = append(over, fmt.Sprintf("%d %s, %d are allowed", f.got, f.what, f.cap))
		}
	}
	if len(over) > 0 {
		return errkind.Errorf(errkind.Exhausted, "the model is too large: %s", strings.Join(over, "; "))
	}
	return nil
}

// Submission is a version that asks to be let in.
type Submission struct {
	Name string
	// Version is its name; empty for one more than the greatest number so far.
	Version string
	// Path is the model's file, or URL is where it is served.
	Path, URL string
	// Digest is the SHA-256 that the file is expected to have; empty for none.
	Digest string
	// Golden is the file of rows with known answers (golden.json). Without one a
	// version is admitted only where NoGolden says so.
	Golden   string
	NoGolden bool
	// NaNOutputs says that rows with NaN or infinities may have such answers.
	NaNOutputs bool
	// Background is a file with a sample of rows, CSV, JSON lines or Parquet; empty for none.
	Background string
	// Features are what the pipeline gives, in order: names and types, shape nil.
	// Where they are empty the signature has to be the champion's, if there is one.
	Features []inference.Signature
	// NewSignature lets the signature differ from the champion's.
	NewSignature bool

	Owner, Data, Notes string
	Metrics            map[string]float64
}

// Admitted is a version that was let in, and what was found.
type Admitted struct {
	*Version
	// GoldenRows came out right; SpecialRows with NaN and infinities had the same
	// answers twice; BackgroundRows are kept as the sample.
	GoldenRows, SpecialRows, BackgroundRows int
	// Deviation is the greatest deviation of an answer from the golden one, in
	// units of the tolerance.
	Deviation float64
	// Champion is the version whose signature was compared; empty for none.
	Champion string
}

// admissionTime bounds the calls of the model that an admission makes.
const admissionTime = 2 * time.Minute

// examine loads the version and holds it to everything that is asked of it. It
// fills in v what the model says of itself.
func (r *Registry) examine(ctx context.Context, sub *Submission, path string, v *Version, champion *Version) (a *Admitted, background []inference.Tensor, err error) {
	ctx, cancel := context.WithTimeout(ctx, admissionTime)
	defer cancel()
	defer func() {
		// A driver that panics on a hostile file is at fault, and so is the file.
		if p := recover(); p != nil {
			err = errkind.Errorf(errkind.Invalid, "the model makes its runtime panic: %v", p)
		}
	}()
	caps := r.o.Caps.withDefaults()
	if err := caps.check(inference.Complexity{Bytes: v.Size}); err != nil {
		return nil, nil, err
	}
	if r.o.Open == nil {
		return nil, nil, errkind.New(errkind.Config, "the registry cannot load models: it only reads versions")
	}
	driver, err := r.o.Open(path, v)
	if err != nil {
		return nil, nil, err
	}
	defer driver.Close()
	if i, ok := driver.(inference.Inspector); ok {
		v.Complexity = i.Complexity()
	}
	v.Complexity.Bytes = v.Size
	if err := caps.check(v.Complexity); err != nil {
		return nil, nil, err
	}
	meta := driver.Metadata()
	v.Inputs, v.Outputs, v.FeatureNames = meta.Inputs, meta.Outputs, meta.FeatureNames
	if meta.Digest != "" && v.File != "" && meta.Digest != v.Digest {
		return nil, nil, errkind.Errorf(errkind.Conflict, "the file has changed while it was read: SHA-256 %s, then %s", v.Digest, meta.Digest)
	}
	if err := v.fitFeatures(sub.Features); err != nil {
		return nil, nil, err
	}
	a = &Admitted{Version: v}
	if champion != nil {
		a.Champion = champion.Version
		if faults := signatureChanges(champion, v); len(faults) > 0 && !sub.NewSignature {
			return nil, nil, errkind.Errorf(errkind.Invalid,
				"the signature is not that of the champion, version %s: %s; where that is meant to be so, say so (--new-signature)", champion.Version, strings.Join(faults, "; "))
		} else if len(faults) == 0 && len(v.FeatureNames) == 0 {
			v.FeatureNames = champion.FeatureNames // a pipeline gives both the same
		}
	}
	probe := &prober{driver: driver, meta: meta, exact: v.URL == ""}
	if sub.Background != "" {
		if background, err = readBackground(sub.Background, v); err != nil {
			return nil, nil, err
		}
		a.BackgroundRows = background[0].Rows()
		if err := probe.answers(ctx, background); err != nil {
			return nil, nil, fmt.Errorf("background sample: %w", err)
		}
	}
	var rows *golden
	if sub.Golden != "" {
		if rows, err = readGolden(sub.Golden, v); err != nil {
			return nil, nil, err
		}
		a.GoldenRows = rows.rows
		if a.Deviation, err = probe.golden(ctx, rows); err != nil {
			return nil, nil, err
		}
	}
	if v.URL == "" || rows != nil {
		declared := sub.NaNOutputs || rows != nil && (rows.nanOutputs || rows.special())
		if a.SpecialRows, err = probe.special(ctx, rows, background, declared); err != nil {
			return nil, nil, err
		}
	}
	return a, background, nil
}

// fitFeatures compares the features that a pipeline gives with the model's inputs,
// and takes their names where the model has none.
func (v *Version) fitFeatures(features []inference.Signature) error {
	if len(features) == 0 {
		return nil
	}
	misfit := func(format string, args ...any) error {
		return errkind.Errorf(errkind.Invalid, "the signature does not fit the features: %s", fmt.Sprintf(format, args...))
	}
	if len(v.Inputs) == 1 && len(v.Inputs[0].Shape) <= 1 && (len(features) > 1 || features[0].Name != v.Inputs[0].Name) {
		in := v.Inputs[0]
		names := make([]string, len(features))
		for i, f := range features {
			names[i] = f.Name
			if !takes(in.Type, f.Type) {
				return misfit("%s is %s, and the input %s takes %s", f.Name, f.Type, in.Name, in.Type)
			}
		}
		width := 1
		if len(in.Shape) == 1 {
			width = in.Shape[0]
		}
		if width >= 0 && width != len(features) {
			return misfit("the input %s has %d values a row, %d are given: %s", in.Name, width, len(features), strings.Join(names, ", "))
		}
		if len(v.FeatureNames) > 0 && !slices.Equal(v.FeatureNames, names) {
			return misfit("the model was trained on %s, in this order, and %s are given", strings.Join(v.FeatureNames, ", "), strings.Join(names, ", "))
		}
		v.FeatureNames = names
		return nil
	}
	for _, in := range v.Inputs {
		i := slices.IndexFunc(features, func(f inference.Signature) bool { return f.Name == in.Name })
		if i < 0 {
			return misfit("nothing is given for the input %s %s", in.Name, rowText(in))
		}
		if f := features[i]; !takes(in.Type, f.Type) {
			return misfit("%s is %s, and the model takes %s", f.Name, f.Type, in.Type)
		}
	}
	for _, f := range features {
		if !slices.ContainsFunc(v.Inputs, func(in inference.Signature) bool { return in.Name == f.Name }) {
			return misfit("the model has no input %s", f.Name)
		}
	}
	return nil
}

// takes reports whether a feature of type f may go into an input of type in; a
// feature of type 0 is of any.
func takes(in, f inference.DataType) bool {
	switch {
	case f == 0:
		return true
	case in == inference.String || f == inference.String:
		return in == f
	case in == inference.Int64 || in == inference.Int32:
		return f == inference.Int64 || f == inference.Int32 || f == inference.Bool
	case in == inference.Bool:
		return f == inference.Bool
	}
	return true
}

// signatureChanges says what of b's signature is not as a's: what would make a
// pipeline that works with a fail, or compute something else, with b.
func signatureChanges(a, b *Version) (faults []string) {
	side := func(what string, x, y []inference.Signature, more bool) {
		for i, s := range x {
			if i >= len(y) || what == "output" {
				i = slices.IndexFunc(y, func(o inference.Signature) bool { return o.Name == s.Name })
				if i < 0 {
					faults = append(faults, fmt.Sprintf("it has no %s %s", what, s.Name))
					continue
				}
			}
			o := y[i]
			switch {
			case s.Name != o.Name:
				faults = append(faults, fmt.Sprintf("%s %d is %s, expected %s", what, i+1, o.Name, s.Name))
			case s.Type != o.Type || !sameShape(s.Shape, o.Shape):
				faults = append(faults, fmt.Sprintf("%s %s is %s, expected %s", what, s.Name, rowText(o), rowText(s)))
			case !slices.Equal(s.Labels, o.Labels):
				faults = append(faults, fmt.Sprintf("the labels of %s %s are %q, expected %q", what, s.Name, o.Labels, s.Labels))
			}
		}
		for _, o := range y {
			if !more && !slices.ContainsFunc(x, func(s inference.Signature) bool { return s.Name == o.Name }) {
				faults = append(faults, fmt.Sprintf("it has another %s, %s", what, o.Name))
			}
		}
	}
	side("input", a.Inputs, b.Inputs, false)
	side("output", a.Outputs, b.Outputs, true)
	if len(a.FeatureNames) > 0 && len(b.FeatureNames) > 0 && !slices.Equal(a.FeatureNames, b.FeatureNames) {
		faults = append(faults, fmt.Sprintf("its features are %s, expected %s", strings.Join(b.FeatureNames, ", "), strings.Join(a.FeatureNames, ", ")))
	}
	return faults
}

// sameShape compares shapes of rows; a size that is open fits any.
func sameShape(a, b []int) bool {
	return slices.EqualFunc(a, b, func(x, y int) bool { return x == y || x < 0 || y < 0 })
}
