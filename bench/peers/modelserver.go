package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/freshet-io/freshet/inference"
)

type inferRequest struct {
	Rows [][inputs]float32 `json:"rows"`
}

type inferResponse struct {
	Scores []float64 `json:"scores"`
}

// newModelServer serves a model on loopback: rows in, scores out, as JSON.
func newModelServer(model inference.Driver) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req inferRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		scores, err := newScorer(model).score(r.Context(), req.Rows, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		// An error here means that the caller has gone.
		_ = json.NewEncoder(w).Encode(inferResponse{scores})
	}))
}

// modelClient asks such a server, over one connection kept open.
type modelClient struct {
	url    string
	client *http.Client
}

func (c *modelClient) score(ctx context.Context, rows [][inputs]float32, _ []float64) ([]float64, error) {
	body, err := json.Marshal(inferRequest{rows})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the model server: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the model server: %s: %s", resp.Status, data)
	}
	var out inferResponse
	err = json.Unmarshal(data, &out)
	return out.Scores, err
}
