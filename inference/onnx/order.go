package onnx

// sort orders the nodes that the outputs need so that each comes after those it reads.
func (pl *planner) sort() error {
	g := &pl.model.Graph
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(g.Nodes))
	type visit struct{ node, next int }
	var stack []visit
	push := func(name, reader string) error {
		v := pl.values[name]
		if v == nil {
			return invalid("%s reads %q, which nothing defines", reader, name)
		}
		v.uses++
		if v.producer >= 0 && state[v.producer] != done {
			if state[v.producer] == open {
				return invalid("the graph has a cycle through %s", pl.nodeName(v.producer))
			}
			state[v.producer] = open
			stack = append(stack, visit{v.producer, 0})
		}
		return nil
	}
	for _, o := range g.Outputs {
		if err := push(o.Name, "the output list"); err != nil {
			return err
		}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			n := &g.Nodes[top.node]
			if top.next == len(n.Inputs) {
				state[top.node] = done
				pl.order = append(pl.order, top.node)
				stack = stack[:len(stack)-1]
				continue
			}
			name := n.Inputs[top.next]
			top.next++
			if name == "" {
				continue
			}
			if err := push(name, pl.nodeName(top.node)); err != nil {
				return err
			}
		}
	}
	return nil
}
