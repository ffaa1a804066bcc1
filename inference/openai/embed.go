package openai

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/web"
)

// vector is an embedding: a list of numbers, or the base64 of float32 in little-endian order.
type vector []float32

// UnmarshalJSON implements json.Unmarshaler.
func (v *vector) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		var list []*float32
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		*v = make(vector, len(list))
		for i, x := range list {
			if x == nil {
				return fmt.Errorf("number %d is null", i)
			}
			(*v)[i] = *x
		}
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw)%4 != 0 {
		return fmt.Errorf("an embedding is no base64 of float32")
	}
	*v = make(vector, len(raw)/4)
	for i := range *v {
		(*v)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}

type embeddingAnswer struct {
	Model string `json:"model"`
	Data  []struct {
		Index     *int   `json:"index"`
		Embedding vector `json:"embedding"`
	} `json:"data"`
	Usage *usage          `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// embed asks for all rows at once.
func (d *Driver) embed(ctx context.Context, in, out []inference.Tensor, n int) error {
	texts := make([]string, n)
	for i := range texts {
		var err error
		if texts[i], err = d.text(in, i); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	vectors, err := d.vectors(ctx, texts)
	if err != nil {
		return err
	}
	width := d.c.width
	for i, v := range vectors {
		if len(v) != width {
			return errkind.Errorf(errkind.Permanent, "the embedding of row %d has %d numbers, expected %d", i, len(v), width)
		}
		copy(out[0].F32[i*width:], v)
	}
	return nil
}

// vectors are the embeddings of texts, in their order.
func (d *Driver) vectors(ctx context.Context, texts []string) ([]vector, error) {
	m := map[string]any{"model": d.c.model, "input": texts, "encoding_format": "float"}
	for k, v := range d.c.extra {
		m[k] = v
	}
	if d.c.dimensions > 0 {
		m["dimensions"] = d.c.dimensions
	}
	body, err := marshal(m)
	if err != nil {
		return nil, err
	}
	var vectors []vector
	err = d.call(ctx, "/embeddings", body, 0, func(resp *http.Response, _ time.Time) (*usage, string, int, error) {
		data, err := d.client.Body(resp, new(bytes.Buffer))
		if err != nil {
			return nil, "", 0, err
		}
		var a embeddingAnswer
		if err := json.Unmarshal(data, &a); err != nil {
			return nil, "", 0, errkind.Errorf(errkind.Permanent, "the answer holds no embeddings: %w: %s", err, web.Shown(data))
		}
		if failed(a.Error) {
			return a.Usage, a.Model, 0, errkind.Errorf(errkind.Transient, "the server failed: %s", web.Shown(a.Error))
		}
		vectors, err = a.inOrder(len(texts))
		return a.Usage, a.Model, 0, err
	})
	return vectors, err
}

// inOrder puts the embeddings in the order of the texts by their index, and wants
// one for each.
func (a *embeddingAnswer) inOrder(n int) ([]vector, error) {
	if len(a.Data) != n {
		return nil, errkind.Errorf(errkind.Permanent, "the answer has %d embeddings for %d texts", len(a.Data), n)
	}
	vectors := make([]vector, n)
	for i := range a.Data {
		at := i
		if a.Data[i].Index != nil {
			at = *a.Data[i].Index
		}
		v := a.Data[i].Embedding
		switch {
		case at < 0 || at >= n || vectors[at] != nil:
			return nil, errkind.Errorf(errkind.Permanent, "the answer has an embedding of text %d a second time, or there is no such text", at)
		case len(v) == 0:
			return nil, errkind.Errorf(errkind.Permanent, "the embedding of text %d is empty", at)
		}
		for _, x := range v {
			if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, errkind.Errorf(errkind.Permanent, "the embedding of text %d holds %v", at, f)
			}
		}
		vectors[at] = v
	}
	return vectors, nil
}
