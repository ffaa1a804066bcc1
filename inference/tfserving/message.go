package tfserving

import (
	"errors"
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/jsontensor"
)

// write makes the body of a call.
func (d *Driver) write(b []byte, in []inference.Tensor) ([]byte, error) {
	b = append(b, `{"signature_name":`...)
	b = append(jsontensor.AppendText(b, d.c.signature), `,"inputs":{`...)
	for i := range in {
		p := &d.inputs[i]
		if err := p.dt.fits(&in[i]); err != nil {
			return b, fmt.Errorf("input %q: %w", p.sig.Name, err)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsontensor.AppendText(b, p.sig.Name), ':')
		var err error
		if b, err = jsontensor.NaNLiteral.AppendNested(b, &in[i]); err != nil {
			return b, fmt.Errorf("input %q: %w", p.sig.Name, err)
		}
	}
	return append(b, `}}`...), nil
}

// read fills out with the n rows of an answer.
func (d *Driver) read(text []byte, n int, out []inference.Tensor) error {
	r := jsontensor.New(text, true, false)
	var where map[string]int // of the outputs
	err := r.Mapping(func(key string) error {
		if key != "outputs" {
			return r.Skip()
		}
		if where != nil {
			return errors.New("the outputs stand there twice")
		}
		where = map[string]int{}
		if r.Peek() != '{' {
			// A signature with one output answers it without its name.
			where[""] = r.Mark()
			return r.Skip()
		}
		return r.Mapping(func(name string) error {
			if _, twice := where[name]; twice {
				return fmt.Errorf("output %q stands there twice", name)
			}
			r.Peek()
			where[name] = r.Mark()
			return r.Skip()
		})
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return fmt.Errorf("the answer is none of TensorFlow Serving: %w", err)
	}
	for i := range out {
		p := &d.outputs[i]
		at, ok := where[p.sig.Name]
		if !ok {
			if at, ok = where[""]; !ok || !d.single {
				return fmt.Errorf("output %q: the answer has none of that name", p.sig.Name)
			}
		}
		t := &out[i]
		t.Name, t.Type = p.sig.Name, p.sig.Type
		t.Shape = append(append(t.Shape[:0], n), p.sig.Shape...)
		r.Back(at)
		if err := r.Nested(t, t.Shape); err != nil {
			return fmt.Errorf("output %q: %w", p.sig.Name, err)
		}
		for j := range t.Shape {
			t.Shape[j] = max(t.Shape[j], 0) // below a size of 0 there is nothing to count
		}
		if err := p.dt.fits(t); err != nil {
			return fmt.Errorf("output %q: %w", p.sig.Name, err)
		}
	}
	return nil
}
