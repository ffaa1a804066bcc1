package httpjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"text/template"
	"text/template/parse"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

// maxBody bounds a request.
const maxBody = 64 << 20

// body writes the requests.
type body struct {
	inputs []inference.Signature
	nan    nanPolicy
	perRow bool
	t      *template.Template // nil: the default
}

// newBody reads the template and tries it on a row.
func newBody(c *config, inputs []inference.Signature) (*body, error) {
	b := &body{inputs: inputs, nan: c.nan, perRow: c.perRow}
	if c.body == "" {
		return b, nil
	}
	t, err := template.New("body").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			out, err := b.append(nil, v)
			return string(out), err
		},
		"text": func(v any) (string, error) {
			if _, isText := v.(string); !isText {
				v = fmt.Sprint(v)
			}
			out, err := b.append(nil, v)
			if err != nil {
				return "", err
			}
			return string(out[1 : len(out)-1]), nil
		},
	}).Parse(c.body)
	if err != nil {
		return nil, fmt.Errorf("request.body: %w", err)
	}
	for _, one := range t.Templates() {
		if one.Tree != nil {
			asJSON(one.Root)
		}
	}
	b.t = t
	var buf bytes.Buffer
	if err := b.write(&buf, sample(inputs), 1); err != nil {
		return nil, fmt.Errorf("request.body: %w", err)
	}
	return b, nil
}

// asJSON makes every action that prints end in json or text.
func asJSON(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, c := range n.Nodes {
				asJSON(c)
			}
		}
	case *parse.IfNode:
		asJSON(n.List)
		asJSON(n.ElseList)
	case *parse.RangeNode:
		asJSON(n.List)
		asJSON(n.ElseList)
	case *parse.WithNode:
		asJSON(n.List)
		asJSON(n.ElseList)
	case *parse.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return
		}
		last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1]
		if id, ok := last.Args[0].(*parse.IdentifierNode); ok && (id.Ident == "json" || id.Ident == "text") {
			return
		}
		id := parse.NewIdentifier("json").SetPos(n.Pos)
		n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{id}})
	}
}

// sample is a row with texts that a careless template trips over.
func sample(inputs []inference.Signature) []inference.Tensor {
	in := make([]inference.Tensor, len(inputs))
	for i := range inputs {
		sig := inputs[i]
		sig.Shape = nil
		for _, d := range inputs[i].Shape {
			sig.Shape = append(sig.Shape, max(d, 1))
		}
		tensors.Make(&in[i], &sig, 1)
		for j := range in[i].Str {
			in[i].Str[j] = `a "quoted" \ text`
		}
	}
	return in
}

// write writes the request for n rows. An error is Invalid, or Config for a
// template that fails.
func (b *body) write(buf *bytes.Buffer, in []inference.Tensor, n int) error {
	buf.Reset()
	if b.t == nil {
		return b.writeDefault(buf, in, n)
	}
	if err := b.t.Execute(&bounded{buf}, b.data(in, n)); err != nil {
		if kind := errkind.Of(err); kind == errkind.Invalid {
			return err
		}
		return errkind.With(errkind.Config, err)
	}
	if b.nan != nanLiteral && !jsonscan.Valid(buf.Bytes()) || b.nan == nanLiteral && !json.Valid(quoteSpecial(buf.Bytes())) {
		return errkind.New(errkind.Config, "the template gives no JSON; what an action prints is JSON already, and {{text …}} goes inside of a string")
	}
	return nil
}

func (b *body) data(in []inference.Tensor, n int) map[string]any {
	rows, instances := make([]any, n), make([]any, n)
	columns := make(map[string]any, len(in))
	names := make([]any, len(in))
	for i := range in {
		names[i] = b.inputs[i].Name
		columns[b.inputs[i].Name] = make([]any, n)
	}
	for r := range n {
		row, instance := make(map[string]any, len(in)), make([]any, len(in))
		for i := range in {
			name := b.inputs[i].Name
			v := tensors.Row(&in[i], r)
			row[name], instance[i] = v, v
			columns[name].([]any)[r] = v
		}
		rows[r], instances[r] = row, instance
	}
	data := map[string]any{"rows": rows, "columns": columns, "instances": instances, "names": names, "n": int64(n)}
	if b.perRow {
		data["row"], data["instance"] = rows[0], instances[0]
	}
	return data
}

// writeDefault is {"instances": [[…], …]}, without anything in between.
func (b *body) writeDefault(buf *bytes.Buffer, in []inference.Tensor, n int) error {
	out := append(buf.AvailableBuffer(), `{"instances":[`...)
	var err error
	for r := range n {
		if r > 0 {
			out = append(out, ',')
		}
		out = append(out, '[')
		for i := range in {
			if i > 0 {
				out = append(out, ',')
			}
			t := &in[i]
			if len(t.Shape) > 1 {
				out, err = b.append(out, tensors.Row(t, r))
			} else {
				out, err = b.element(out, t, r)
			}
			if err != nil {
				return fmt.Errorf("row %d: input %s: %w", r, b.inputs[i].Name, err)
			}
		}
		if out = append(out, ']'); len(out) > maxBody {
			return errTooLong
		}
	}
	buf.Write(append(out, `]}`...))
	return nil
}

var errTooLong = errkind.Errorf(errkind.Invalid, "the request is longer than %d bytes", maxBody)

func (b *body) element(out []byte, t *inference.Tensor, i int) ([]byte, error) {
	switch t.Type {
	case inference.Float64:
		return b.number(out, t.F64[i])
	case inference.Float32:
		return b.number(out, float64(t.F32[i]))
	}
	return b.append(out, tensors.At(t, i))
}

func (b *body) number(out []byte, v float64) ([]byte, error) {
	if special := specialName(v); special != "" {
		switch {
		case b.nan == nanLiteral:
			return append(out, special...), nil
		case b.nan == nanText:
			return append(append(append(out, '"'), special...), '"'), nil
		case b.nan == nanNull && v != v:
			return append(out, "null"...), nil
		}
		return out, errkind.Errorf(errkind.Invalid, "JSON has no %s: choose how it goes out with the option nan", special)
	}
	return appendFloat(out, v), nil
}

// append writes a value of data as JSON, mappings in the order of their keys.
func (b *body) append(out []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case float64:
		return b.number(out, v)
	case []any:
		out = append(out, '[')
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = b.append(out, e); err != nil {
				return out, err
			}
		}
		return append(out, ']'), nil
	case map[string]any:
		out = append(out, '{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = b.append(out, k); err != nil {
				return out, err
			}
			out = append(out, ':')
			if out, err = b.append(out, v[k]); err != nil {
				return out, err
			}
		}
		return append(out, '}'), nil
	}
	encoded, err := json.Marshal(v)
	return append(out, encoded...), err
}

// appendFloat writes a number so that it reads back as the same.
func appendFloat(out []byte, v float64) []byte {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(out, v, format, -1, 64)
}

// quoteSpecial puts NaN, Infinity and -Infinity, where they stand outside of texts,
// into quotes, so that what Python wrote is JSON. Anything else stays as it is.
func quoteSpecial(b []byte) []byte {
	if !bytes.Contains(b, []byte("NaN")) && !bytes.Contains(b, []byte("Infinity")) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	inText := false
	for i := 0; i < len(b); i++ {
		c := b[i]
		if inText {
			out = append(out, c)
			if c == '\\' && i+1 < len(b) {
				i++
				out = append(out, b[i])
			}
			inText = c != '"'
			continue
		}
		if c == 'N' || c == 'I' || c == '-' {
			if word := special.Find(b[i:min(len(b), i+9)]); word != nil {
				out = append(append(append(out, '"'), word...), '"')
				i += len(word) - 1
				continue
			}
		}
		inText = c == '"'
		out = append(out, c)
	}
	return out
}

var special = regexp.MustCompile(`^(NaN|-?Infinity)`)

func specialName(v float64) string {
	switch {
	case v != v:
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return ""
}

// bounded is a buffer that refuses to grow beyond maxBody.
type bounded struct{ buf *bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxBody {
		return 0, errTooLong
	}
	return b.buf.Write(p)
}
