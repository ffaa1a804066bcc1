package onnx

import (
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// Complexity counts what the file holds: all operators of its graph, the nodes of trees with their leaves, and as
// parameters the floating-point numbers of initializers and attributes.
func (m *Model) Complexity() inference.Complexity { return m.size }

func complexity(w *wire.Model, p *program, bytes int) inference.Complexity {
	c := inference.Complexity{Bytes: int64(bytes), Nodes: len(w.Graph.Nodes)}
	tensor := func(t *wire.Tensor) {
		switch d, _ := ops.TypeFromWire(t.Type); d {
		case inference.Float32:
			c.Parameters += int64(len(t.Floats) + len(t.Raw)/4)
		case inference.Float64:
			c.Parameters += int64(len(t.Doubles) + len(t.Raw)/8)
		}
	}
	for i := range w.Graph.Initializers {
		tensor(&w.Graph.Initializers[i])
	}
	for i := range w.Graph.Nodes {
		for k := range w.Graph.Nodes[i].Attrs {
			a := &w.Graph.Nodes[i].Attrs[k]
			if a.Name == "nodes_hitrates" {
				continue
			}
			c.Parameters += int64(len(a.Floats))
			if a.T != nil {
				tensor(a.T)
			}
		}
	}
	for _, e := range p.trees {
		s := e.Size()
		c.Trees += s.Trees
		c.TreeNodes += s.Nodes
		c.Depth = max(c.Depth, s.Depth)
	}
	return c
}
