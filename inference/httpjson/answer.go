package httpjson

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/internal/web"
)

// read fills out with the n rows of an answer. Every error is Permanent.
func (c *config) read(data []byte, n int, out []inference.Tensor) error {
	plain := data
	if c.nan == nanLiteral {
		plain = quoteSpecial(data)
	}
	// Before gjson, which takes text that is no JSON, and knows no bound of depth.
	if !json.Valid(plain) {
		return errkind.Errorf(errkind.Permanent, "the answer is no JSON: %s", web.Shown(data))
	}
	for i := range c.answers {
		a := &c.answers[i]
		tensors.Make(&out[i], &a.sig, n)
		v := gjson.GetBytes(plain, a.path)
		if !v.Exists() {
			return errkind.Errorf(errkind.Permanent, "output %s: the answer has nothing at %s: %s", a.name, a.path, web.Shown(data))
		}
		var err error
		if c.perRow {
			err = a.row(&out[i], 0, v)
		} else {
			err = a.rows(&out[i], n, v)
		}
		if err != nil {
			return errkind.Errorf(errkind.Permanent, "output %s (%s): %w", a.name, a.path, err)
		}
	}
	return nil
}

func (a *answer) rows(out *inference.Tensor, n int, v gjson.Result) error {
	if !v.IsArray() {
		return fmt.Errorf("expected a list with a value for each of %d rows, not %s", n, web.Shown([]byte(v.Raw)))
	}
	var err error
	row := 0
	v.ForEach(func(_, e gjson.Result) bool {
		if row < n {
			err = a.row(out, row, e)
		}
		row++
		return err == nil
	})
	switch {
	case err != nil:
		return err
	case row != n:
		return fmt.Errorf("the answer has %d values for %d rows", row, n)
	}
	return nil
}

func (a *answer) row(out *inference.Tensor, row int, v gjson.Result) error {
	if a.width == 0 {
		if err := a.value(out, row, v); err != nil {
			return fmt.Errorf("row %d: %w", row, err)
		}
		return nil
	}
	if !v.IsArray() {
		return fmt.Errorf("row %d: expected a list of %d values, not %s", row, a.width, web.Shown([]byte(v.Raw)))
	}
	var err error
	i := 0
	v.ForEach(func(_, e gjson.Result) bool {
		if i < a.width {
			err = a.value(out, row*a.width+i, e)
		}
		i++
		return err == nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("row %d, value %d: %w", row, i-1, err)
	case i != a.width:
		return fmt.Errorf("row %d has %d values, expected %d", row, i, a.width)
	}
	return nil
}

// value writes element i.
func (a *answer) value(out *inference.Tensor, i int, v gjson.Result) error {
	switch a.sig.Type {
	case inference.Float64:
		switch {
		case v.Type == gjson.Number && !math.IsInf(v.Num, 0): // 1e999 is no number of ours
			out.F64[i] = v.Num
			return nil
		case v.Type == gjson.Null && a.nullIsNaN, v.Type == gjson.String && v.Str == "NaN":
			out.F64[i] = math.NaN()
			return nil
		case v.Type == gjson.String && (v.Str == "Infinity" || v.Str == "-Infinity"):
			sign := 1
			if v.Str[0] == '-' {
				sign = -1
			}
			out.F64[i] = math.Inf(sign)
			return nil
		}
	case inference.Int64:
		if v.Type == gjson.Number {
			n, err := strconv.ParseInt(v.Raw, 10, 64)
			if err == nil {
				out.I64[i] = n
				return nil
			}
		}
	case inference.Bool:
		if v.IsBool() {
			out.Bool[i] = v.Bool()
			return nil
		}
	case inference.String:
		if v.Type == gjson.String {
			out.Str[i] = v.Str
			return nil
		}
	}
	return fmt.Errorf("expected %s, not %s", map[inference.DataType]string{
		inference.Float64: "a number", inference.Int64: "a whole number", inference.Bool: "true or false", inference.String: "a text",
	}[a.sig.Type], web.Shown([]byte(v.Raw)))
}
