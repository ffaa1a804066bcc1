package memory

import "sort"

// tree is a B+ tree whose nodes are copied before they change once they are
// shared, so that a root taken by share stays as it is. The method is that of
// copy-on-write B-trees: a node belongs to the generation that made it, and only
// the current generation changes its own nodes in place.
type tree struct {
	root       *node
	generation uint64
	keys       int64
	bytes      int64
}

const maxItems = 64

// node is a leaf with items, or an inner node: children[i] holds the keys below
// bounds[i] and not below bounds[i−1].
type node struct {
	generation uint64
	items      []item
	bounds     []string
	children   []*node
}

// item is an entry; its value is never changed in place.
type item struct {
	key     string
	value   []byte
	expires int64
}

// itemBytes is the size of an entry's header in memory: item, and what the
// leaves leave empty.
const itemBytes = 72

func (it *item) bytes() int64 { return int64(len(it.key)+len(it.value)) + itemBytes }

// share returns the root as it is now; the tree goes on with copies.
func (t *tree) share() *node {
	t.generation++
	return t.root
}

// own returns n, or a copy that belongs to the current generation.
func (t *tree) own(n *node) *node {
	if n.generation == t.generation {
		return n
	}
	c := &node{generation: t.generation}
	if n.children == nil {
		c.items = append(make([]item, 0, max(len(n.items)+8, cap(n.items))), n.items...)
	} else {
		c.bounds = append(make([]string, 0, maxItems), n.bounds...)
		c.children = append(make([]*node, 0, maxItems+1), n.children...)
	}
	return c
}

// child is the index of the child that key belongs to.
func (n *node) child(key string) int {
	return sort.Search(len(n.bounds), func(i int) bool { return n.bounds[i] > key })
}

// find is the index of the first item whose key is not below key.
func (n *node) find(key string) int {
	return sort.Search(len(n.items), func(i int) bool { return n.items[i].key >= key })
}

// get returns the entry of key, for reading only; nil where there is none.
func (n *node) get(key string) *item {
	for n != nil && n.children != nil {
		n = n.children[n.child(key)]
	}
	if n == nil {
		return nil
	}
	if i := n.find(key); i < len(n.items) && n.items[i].key == key {
		return &n.items[i]
	}
	return nil
}

// ascend visits the items from ≤ key < to (to empty: to the end) in order, until visit returns false.
func (n *node) ascend(from, to string, visit func(*item) bool) bool {
	if n == nil {
		return true
	}
	if n.children == nil {
		for i := n.find(from); i < len(n.items); i++ {
			if to != "" && n.items[i].key >= to || !visit(&n.items[i]) {
				return false
			}
		}
		return true
	}
	for i := n.child(from); i < len(n.children); i++ {
		if i > 0 && to != "" && n.bounds[i-1] >= to {
			return false
		}
		if !n.children[i].ascend(from, to, visit) {
			return false
		}
	}
	return true
}

// put sets an entry.
func (t *tree) put(it item) {
	if t.root == nil {
		t.root = &node{generation: t.generation}
	}
	t.root = t.own(t.root)
	if right, bound := t.insert(t.root, it); right != nil {
		t.root = &node{generation: t.generation, bounds: []string{bound}, children: []*node{t.root, right}}
	}
}

// insert puts it below n, which is owned, and returns what n split off.
func (t *tree) insert(n *node, it item) (right *node, bound string) {
	if n.children != nil {
		i := n.child(it.key)
		c := t.own(n.children[i])
		n.children[i] = c
		r, b := t.insert(c, it)
		if r == nil {
			return nil, ""
		}
		n.bounds = insertAt(n.bounds, i, b)
		n.children = insertAt(n.children, i+1, r)
		if len(n.children) <= maxItems {
			return nil, ""
		}
		m := len(n.bounds) / 2
		bound = n.bounds[m]
		right = &node{
			generation: t.generation,
			bounds:     append(make([]string, 0, maxItems), n.bounds[m+1:]...),
			children:   append(make([]*node, 0, maxItems+1), n.children[m+1:]...),
		}
		clear(n.bounds[m:])
		clear(n.children[m+1:])
		n.bounds, n.children = n.bounds[:m], n.children[:m+1]
		return right, bound
	}
	i := n.find(it.key)
	if i < len(n.items) && n.items[i].key == it.key {
		t.bytes += it.bytes() - n.items[i].bytes()
		it.key = n.items[i].key
		n.items[i] = it
		return nil, ""
	}
	t.keys++
	t.bytes += it.bytes()
	n.items = insertAt(n.items, i, it)
	if len(n.items) <= maxItems {
		return nil, ""
	}
	m := len(n.items) / 2
	if i == len(n.items)-1 {
		m = len(n.items) - 1 // keys that come in order leave full leaves
	}
	right = &node{generation: t.generation, items: append(make([]item, 0, maxItems+1), n.items[m:]...)}
	clear(n.items[m:])
	n.items = n.items[:m]
	return right, right.items[0].key
}

func insertAt[T any](s []T, i int, v T) []T {
	var zero T
	s = append(s, zero)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

// remove deletes key.
func (t *tree) remove(key string) {
	if t.root.get(key) == nil {
		return
	}
	t.root = t.own(t.root)
	t.cut(t.root, key)
	for len(t.root.children) == 1 {
		t.root = t.root.children[0]
	}
	if t.root.children == nil && len(t.root.items) == 0 {
		t.root = nil
	}
}

// cut removes key, which is there, below n, which is owned.
func (t *tree) cut(n *node, key string) {
	if n.children == nil {
		i := n.find(key)
		t.keys--
		t.bytes -= n.items[i].bytes()
		copy(n.items[i:], n.items[i+1:])
		n.items[len(n.items)-1] = item{}
		n.items = n.items[:len(n.items)-1]
		return
	}
	i := n.child(key)
	c := t.own(n.children[i])
	n.children[i] = c
	t.cut(c, key)
	t.merge(n, i)
}

// merge joins child i with a neighbour where both are small, so that leaves
// stay about half full or fuller than a quarter.
func (t *tree) merge(n *node, i int) {
	size := func(c *node) int { return len(c.items) + len(c.children) }
	if size(n.children[i]) > maxItems/4 || len(n.children) == 1 {
		return
	}
	if i == len(n.children)-1 {
		i--
	}
	l, r := n.children[i], n.children[i+1]
	if size(l)+size(r) > maxItems/2 {
		return
	}
	l = t.own(l)
	if l.children == nil {
		l.items = append(l.items, r.items...)
	} else {
		l.bounds = append(append(l.bounds, n.bounds[i]), r.bounds...)
		l.children = append(l.children, r.children...)
	}
	n.children[i] = l
	n.bounds = append(n.bounds[:i], n.bounds[i+1:]...)
	n.children = append(n.children[:i+1], n.children[i+2:]...)
}
