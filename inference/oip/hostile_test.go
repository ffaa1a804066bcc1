package oip

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// part writes an output of an answer: name, datatype, shape and, where it is not nil, typed contents.
func part(name, datatype string, contents []byte, shape ...int64) []byte {
	b := appendText(appendText(nil, tensorName, name), tensorDatatype, datatype)
	for _, d := range shape { // not packed, as the other tests have it
		b = protowire.AppendVarint(protowire.AppendTag(b, tensorShape, protowire.VarintType), uint64(d))
	}
	if contents != nil {
		b = appendMessage(b, tensorContents, contents)
	}
	return appendMessage(nil, answerOutputs, b)
}

func raw(b ...byte) []byte { return appendMessage(nil, answerRaw, b) }

func concat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// floats has an output of one float32 a row, and one of an open size.
func floats(t testing.TB) *model {
	t.Helper()
	m, err := newModel(&description{
		Inputs:  []tensorInfo{info("x", "FP32")},
		Outputs: []tensorInfo{info("y", "FP32"), info("z", "BYTES", -1)},
	}, &config{model: "m", batch: 8}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var (
	eight = raw(0, 0, 128, 63, 0, 0, 0, 64) // 1 and 2
	texts = raw(1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b')
	goodY = part("y", "FP32", nil, 2)
	goodZ = part("z", "BYTES", nil, 2, 1)
)

func TestNoScoreComesOfAHostileMessage(t *testing.T) {
	packed := appendMessage(nil, contentsFP32, []byte{0, 0, 128, 63, 0, 0, 0, 64})
	bytesOf := appendText(appendText(nil, contentsBytes, "a"), contentsBytes, "b")
	for name, tc := range map[string]struct {
		message []byte
		want    string // empty: it is good
	}{
		"raw":                    {concat(goodY, goodZ, eight, texts), ""},
		"another order":          {concat(goodZ, goodY, texts, eight), ""},
		"typed":                  {concat(part("y", "FP32", packed, 2), part("z", "BYTES", bytesOf, 2, 1)), ""},
		"typed beside raw":       {concat(part("y", "FP32", packed, 2), goodZ, texts), ""},
		"a dimension of 1":       {concat(part("y", "FP32", nil, 2, 1), goodZ, eight, texts), ""},
		"more outputs":           {concat(part("w", "FP8", nil, 7), goodY, goodZ, raw(1), eight, texts), ""},
		"nothing":                {nil, "none of that name"},
		"garbage":                {[]byte("<html>504 Gateway Timeout</html>"), ""},
		"half":                   {concat(goodY, goodZ, eight, texts)[:40], "no message"},
		"fewer rows":             {concat(part("y", "FP32", nil, 1), goodZ, raw(0, 0, 128, 63), texts), "for 2 rows"},
		"more rows":              {concat(part("y", "FP32", nil, 3), goodZ, raw(make([]byte, 12)...), texts), "for 2 rows"},
		"wider rows":             {concat(part("y", "FP32", nil, 2, 2), goodZ, raw(make([]byte, 16)...), texts), "expected rows of []"},
		"no shape":               {concat(part("y", "FP32", nil), goodZ, eight, texts), "shape []"},
		"another type":           {concat(part("y", "INT32", nil, 2), goodZ, eight, texts), `comes as "INT32"`},
		"missing":                {concat(goodZ, texts), "none of that name"},
		"twice":                  {concat(goodY, goodZ, goodY, eight, texts, eight), "twice"},
		"too few bytes":          {concat(goodY, goodZ, raw(0, 0, 128), texts), "3 bytes for 2"},
		"too many bytes":         {concat(goodY, goodZ, raw(make([]byte, 9)...), texts), "9 bytes for 2"},
		"too few raw":            {concat(goodY, goodZ, eight), "1 raw contents for 2"},
		"too many raw":           {concat(goodY, goodZ, eight, texts, eight), "3 raw contents"},
		"no contents":            {concat(goodY, goodZ), "0 bytes"},
		"a negative size":        {concat(goodY, part("z", "BYTES", nil, 2, -1), eight, texts), "shape [2 -1]"},
		"terabytes":              {concat(goodY, part("z", "BYTES", nil, 2, 1<<39), eight, texts), "10 bytes for"},
		"more than there is":     {concat(goodY, part("z", "BYTES", nil, 2, 1<<62), eight, texts), "shape"},
		"overflow":               {concat(goodY, part("z", "BYTES", nil, 2, math.MaxInt64), eight, texts), "shape"},
		"typed terabytes":        {concat(goodY, part("z", "BYTES", bytesOf, 2, 1<<39), eight), "bytes for"},
		"many dimensions":        {concat(part("y", "FP32", nil, make([]int64, 40)...), goodZ, eight, texts), "dimensions"},
		"a text too long":        {concat(goodY, goodZ, eight, raw(1, 0, 0, 0, 'a', 255, 255, 255, 255, 'b')), "claims 4294967295 bytes"},
		"a text without length":  {concat(goodY, goodZ, eight, raw(5, 0, 0, 0, 'a', 'b', 'c', 'd', 'e')), "end before text 1"},
		"bytes behind the texts": {concat(goodY, goodZ, eight, raw(1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b', 9)), "are left"},
		"no UTF-8":               {concat(goodY, goodZ, eight, raw(1, 0, 0, 0, 0xff, 1, 0, 0, 0, 'b')), "no UTF-8"},
		"contents of another type": {concat(part("y", "FP32", appendMessage(nil, contentsFP64, make([]byte, 8)), 2), goodZ, texts),
			"another type"},
		"too few typed":  {concat(part("y", "FP32", packed[:6], 2), goodZ, texts), ""},
		"too many typed": {concat(part("y", "FP32", append(packed, packed...), 2), goodZ, texts), "element 2 of 2"},
		"another version": {concat(appendText(nil, answerVersion, "8"), goodY, goodZ, eight, texts),
			`version "8" answers`},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answer{m: floats(t), version: "7"}
			out := make([]inference.Tensor, 2)
			err := a.read(tc.message, 2, out)
			good := map[string]bool{"raw": true, "another order": true, "typed": true, "typed beside raw": true, "a dimension of 1": true, "more outputs": true}[name]
			switch {
			case good && (err != nil || out[0].F32[0] != 1 || out[0].F32[1] != 2 || out[1].Str[0] != "a" || out[1].Str[1] != "b"):
				t.Errorf("%v %+v", err, out)
			case !good && (err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 500):
				t.Errorf("%v, expected %q", err, tc.want)
			}
		})
	}
	many := concat(goodY, goodZ)
	for range maxOutputs {
		many = append(many, goodY...)
	}
	if err := (&answer{m: floats(t)}).read(many, 2, make([]inference.Tensor, 2)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
}

func TestNoScoreComesOfAHostileDocument(t *testing.T) {
	good := `{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2]}`
	for name, tc := range map[string]struct {
		text, raw string
		want      string // empty: it is good
	}{
		"good":                {`{"outputs": [` + good + `]}`, "", ""},
		"nested":              {`{"outputs": [{"data": [[1], [2]], "name": "y", "datatype": "FP32", "shape": [2, 1]}]}`, "", ""},
		"raw":                 {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}`, "\x00\x00\x80\x3f\x00\x00\x00\x40", ""},
		"an error":            {`{"error": "no"}`, "", "none of that name"},
		"no JSON":             {`<html>`, "", "expected a mapping"},
		"nothing":             {``, "", "expected a mapping"},
		"half":                {`{"outputs": [` + good, "", "expected a comma"},
		"twice":               {`{"outputs": [` + good + `,` + good + `]}`, "", "twice"},
		"outputs twice":       {`{"outputs": [` + good + `], "outputs": []}`, "", "twice"},
		"fewer values":        {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}`, "", "1 values, expected 2"},
		"more values":         {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2, 3]}]}`, "", "more than 2"},
		"fewer rows":          {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}]}`, "", "for 2 rows"},
		"another type":        {`{"outputs": [{"name": "y", "datatype": "FP64", "shape": [2], "data": [1, 2]}]}`, "", "comes as"},
		"null":                {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, null]}]}`, "", "not null"},
		"NaN":                 {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, NaN]}]}`, "", "NaN"},
		"a text":              {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, "2"]}]}`, "", "expected a number"},
		"beyond a float":      {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 1e39]}]}`, "", "does not fit"},
		"no data":             {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}]}`, "", "without data"},
		"terabytes":           {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1099511627776], "data": [1, 2]}]}`, "", "shape"},
		"ragged":              {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [[1, 2], []]}]}`, "", "more than 1"},
		"deep":                {`{"outputs": ` + strings.Repeat("[", 100000) + `}`, "", "expected a mapping"},
		"deep elsewhere":      {`{"x": ` + strings.Repeat("[", 100000) + `}`, "", "too deep"},
		"raw without bytes":   {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}`, "\x00", "claims 8 bytes"},
		"raw with more bytes": {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}`, "\x00\x00\x80\x3f\x00\x00\x00\x40z", "1 bytes are left"},
		"raw and data":        {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2], "parameters": {"binary_data_size": 1}}]}`, "z", "both"},
		"a negative size":     {`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": -8}}]}`, "", "binary_data_size"},
		"another request":     {`{"id": "another", "outputs": [` + good + `]}`, "", `request "another"`},
		"another version":     {`{"model_version": "8", "outputs": [` + good + `]}`, "", `version "8" answers`},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					_, _ = w.Write([]byte(`{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}]}`))
					return
				}
				if tc.raw != "" {
					w.Header().Set(headLength, strconv.Itoa(len(tc.text)))
				}
				_, _ = w.Write([]byte(tc.text + tc.raw))
			}))
			defer s.Close()
			d := mustOpen(t, "oip+http://"+strings.TrimPrefix(s.URL, "http://")+"/m?version=7", nil)
			defer d.Close()
			out := make([]inference.Tensor, 1)
			err := d.Infer(t.Context(), rows(d, 2), out)
			switch {
			case tc.want == "" && (err != nil || out[0].F32[0] != 1 || out[0].F32[1] != 2):
				t.Errorf("%v %+v", err, out)
			case tc.want != "" && (!errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 900):
				t.Errorf("%v %v, expected %q", errkind.Of(err), err, tc.want)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(concat(goodY, goodZ, eight, texts))
	f.Add(concat(part("y", "FP32", appendMessage(nil, contentsFP32, make([]byte, 8)), 2), part("z", "BYTES", appendText(nil, contentsBytes, "a"), 2, 1)))
	m := floats(f)
	a := &answer{m: m}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := make([]inference.Tensor, 2)
		if err := a.read(b, 2, out); err == nil && (len(out[0].F32) != 2 || len(out[1].Str) != 2*out[1].Shape[1]) {
			t.Fatalf("%+v", out)
		}
		a.release()
		_, _ = tensorOf(b)
	})
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"model_version": null, "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1, 2]}, {"name": "z", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}]}`), []byte{})
	f.Add([]byte(`{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}`), []byte("12345678"))
	h := &httpClient{c: &config{}, m: floats(f)}
	f.Fuzz(func(t *testing.T, text, raw []byte) {
		out := make([]inference.Tensor, 2)
		if err := h.read(text, raw, "1", 2, out); err == nil && (len(out[0].F32) != 2 || len(out[1].Str) != 2*out[1].Shape[1]) {
			t.Fatalf("%+v", out)
		}
	})
}
