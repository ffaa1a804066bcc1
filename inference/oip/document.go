package oip

import (
	"errors"
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/jsontensor"
)

// jsonOutput is an output of an answer in JSON.
type jsonOutput struct {
	name, datatype string
	shape          []int64
	data           int // where its data begins; negative where there is none
	binary         int // the size of its raw contents; negative where it has none
	raw            []byte
}

// read fills out from the JSON and the raw contents of an answer to the request of that id.
func (h *httpClient) read(text, raw []byte, id string, n int, out []inference.Tensor) error {
	r := jsontensor.New(text, h.c.nan == jsontensor.NaNLiteral, h.c.null)
	var outputs []jsonOutput
	version, answers := "", ""
	err := r.Mapping(func(key string) (err error) {
		switch key {
		case "id":
			if r.Peek() != '"' {
				return r.Skip()
			}
			answers, err = r.Text()
			return err
		case "model_version":
			if r.Peek() == 'n' {
				return r.Skip()
			}
			version, err = r.Text()
			return err
		case "outputs":
			if outputs != nil {
				return errors.New("the outputs stand there twice")
			}
			outputs = []jsonOutput{}
			return r.List(func(int) error {
				if len(outputs) == maxOutputs {
					return fmt.Errorf("more than %d outputs", maxOutputs)
				}
				o, err := readOutput(r)
				outputs = append(outputs, o)
				return err
			})
		}
		return r.Skip()
	})
	if err == nil {
		err = r.End()
	}
	switch {
	case err != nil:
		return fmt.Errorf("the answer is none of the protocol: %w", err)
	case answers != "" && answers != id:
		return fmt.Errorf("the answer is to request %q, not %q", answers, id)
	case h.c.version != "" && version != "" && version != h.c.version:
		return fmt.Errorf("version %q answers, expected %q", version, h.c.version)
	}
	// Raw contents follow the order of the outputs.
	for i := range outputs {
		o := &outputs[i]
		if o.binary < 0 {
			continue
		}
		if o.binary > len(raw) {
			return fmt.Errorf("output %q claims %d bytes, and %d are left", o.name, o.binary, len(raw))
		}
		o.raw, raw = raw[:o.binary], raw[o.binary:]
	}
	if len(raw) > 0 {
		return fmt.Errorf("%d bytes are left behind the outputs", len(raw))
	}
	for i := range out {
		if err := h.fill(r, &h.m.outputs[i], outputs, n, &out[i]); err != nil {
			return fmt.Errorf("output %q: %w", h.m.outputs[i].sig.Name, err)
		}
	}
	return nil
}

func readOutput(r *jsontensor.Reader) (o jsonOutput, err error) {
	o.data, o.binary = -1, -1
	err = r.Mapping(func(key string) (err error) {
		switch key {
		case "name":
			o.name, err = r.Text()
		case "datatype":
			o.datatype, err = r.Text()
		case "shape":
			o.shape = o.shape[:0]
			err = r.List(func(i int) error {
				if i == maxRank {
					return errRank
				}
				d, err := r.Whole()
				o.shape = append(o.shape, d)
				return err
			})
		case "data":
			r.Peek()
			o.data = r.Mark()
			err = r.Skip()
		case "parameters":
			if r.Peek() != '{' {
				return r.Skip()
			}
			err = r.Mapping(func(key string) error {
				if key != "binary_data_size" {
					return r.Skip()
				}
				size, err := r.Whole()
				if err == nil && (size < 0 || size > 1<<40) {
					err = fmt.Errorf("binary_data_size is %d", size)
				}
				o.binary = int(size)
				return err
			})
		default:
			err = r.Skip()
		}
		return err
	})
	return o, err
}

func (h *httpClient) fill(r *jsontensor.Reader, p *port, outputs []jsonOutput, n int, t *inference.Tensor) error {
	var o *jsonOutput
	for i := range outputs {
		if outputs[i].name == p.sig.Name {
			if o != nil {
				return errors.New("the answer has it twice")
			}
			o = &outputs[i]
		}
	}
	if o == nil {
		return errors.New("the answer has none of that name")
	}
	if o.datatype != p.dt.name {
		return fmt.Errorf("comes as %.20q, expected %s", o.datatype, p.dt.name)
	}
	var scratch [maxRank]int
	dims, count, err := p.fit(o.shape, n, scratch[:0])
	if err != nil {
		return err
	}
	if o.binary >= 0 {
		if o.data >= 0 {
			return errors.New("comes both as JSON and as raw contents")
		}
		if err := p.dt.fits(o.raw, count); err != nil {
			return err
		}
		p.room(t, dims, n)
		return p.dt.readRaw(t, o.raw)
	}
	if o.data < 0 {
		return errors.New("comes without data")
	}
	r.Back(o.data)
	if count > r.Rest() { // every element takes a byte at least
		return fmt.Errorf("%d bytes for %d elements", r.Rest(), count)
	}
	p.room(t, dims, n)
	nested := r.NextIsNested()
	if nested {
		shape := scratch[:0]
		for _, d := range o.shape {
			shape = append(shape, int(d))
		}
		err = r.Nested(t, shape)
	} else {
		err = r.Flat(t, count)
	}
	if err != nil {
		return err
	}
	return p.dt.narrow(t)
}

// narrow finds an integer that the datatype does not have.
func (d datatype) narrow(t *inference.Tensor) error {
	least, most := d.bounds()
	for i, v := range t.I32 {
		if d.of == inference.Int32 && (int64(v) < least || int64(v) > most) {
			return fmt.Errorf("element %d is %d, which %s cannot hold", i, v, d.name)
		}
	}
	for i, v := range t.I64 {
		if d.of == inference.Int64 && (v < least || v > most) {
			return fmt.Errorf("element %d is %d, which %s cannot hold", i, v, d.name)
		}
	}
	return nil
}
