package inference

import (
	"encoding/binary"
	"math"
	"slices"
)

// rowKeys are the bytes of a request's rows that travel, one after the other.
type rowKeys struct {
	bytes  []byte
	ends   []int
	hashes []uint64
}

func (k *rowKeys) reset() { k.bytes, k.ends, k.hashes = k.bytes[:0], k.ends[:0], k.hashes[:0] }

func (k *rowKeys) key(i int) []byte {
	from := 0
	if i > 0 {
		from = k.ends[i-1]
	}
	return k.bytes[from:k.ends[i]]
}

// lookUp answers the rows that the cache holds, and notes the keys of the others.
func (m *Model) lookUp(r *Request) {
	r.keys.reset()
	for row := range r.rows {
		start := len(r.keys.bytes)
		r.keys.bytes = appendRowKey(r.keys.bytes, r.In, row)
		key := r.keys.bytes[start:]
		hash := m.cache.hash(key)
		hit := m.cache.ttl > 0 && m.cache.get(hash, key, m.cache.ttl, func(answer []byte) bool {
			return m.readAnswer(r, row, answer)
		})
		if !hit {
			if r.hits > 0 {
				r.miss = append(r.miss, int32(row))
			}
			r.keys.ends = append(r.keys.ends, len(r.keys.bytes))
			r.keys.hashes = append(r.keys.hashes, hash)
			continue
		}
		r.keys.bytes = r.keys.bytes[:start]
		if r.hits++; r.hits == 1 {
			r.Cached = zeros(r.Cached, r.rows)
			for k := range row {
				r.miss = append(r.miss, int32(k))
			}
		}
		r.Cached[row] = true
	}
	m.stats.CacheHits.Add(uint64(r.hits))
	m.stats.CacheMisses.Add(uint64(r.travelling()))
}

// readAnswer writes a kept answer into r.Out, which the first one shapes. False
// where it has another shape than the first.
func (m *Model) readAnswer(r *Request, row int, answer []byte) bool {
	r.Out = resize(r.Out, len(m.meta.Outputs))
	return decodeAnswer(answer, m.meta.Outputs, r.Out, row, r.rows, r.hits == 0)
}

// remember keeps the answers of the rows that travelled.
func (m *Model) remember(r *Request) {
	if len(r.keys.ends) != r.travelling() {
		return // rows answered by the cache had to travel after all
	}
	failed := 0 // both rise
	for k := range r.travelling() {
		row := r.row(k)
		if failed < len(r.Failed) && r.Failed[failed].Row == row {
			failed++
			continue
		}
		m.cache.put(r.keys.hashes[k], r.keys.key(k), func(dst []byte) []byte { return appendRowKey(dst, r.Out, row) })
	}
}

// Stale answers one row of in from the cache, however old its answer is up to
// Cache.Stale: for rows that the model failed. It writes one row to each tensor of out, one for each
// output, and reports whether it had an answer.
func (m *Model) Stale(in []Tensor, row int, out []Tensor) bool {
	if m.cache == nil || len(in) != len(m.meta.Inputs) || len(out) != len(m.meta.Outputs) {
		return false
	}
	for i := range in {
		if row < 0 || row >= in[i].Rows() || in[i].elements() != in[i].length() {
			return false
		}
	}
	var room [512]byte
	key := appendRowKey(room[:0], in, row)
	ok := m.cache.get(m.cache.hash(key), key, max(m.cache.stale, m.cache.ttl), func(answer []byte) bool {
		return decodeAnswer(answer, m.meta.Outputs, out, 0, 1, true)
	})
	if ok {
		m.stats.StaleHits.Add(1)
	}
	return ok
}

// appendRowKey appends the bytes of one row of all tensors, with types and
// sizes: two rows have the same bytes exactly when they are the same, bit by bit.
func appendRowKey(dst []byte, ts []Tensor, row int) []byte {
	for i := range ts {
		t := &ts[i]
		dst = append(dst, byte(t.Type), byte(len(t.Shape)))
		size := 1
		for _, d := range t.Shape[1:] {
			dst = binary.AppendUvarint(dst, uint64(d))
			size *= d
		}
		lo, hi := row*size, (row+1)*size
		switch t.Type {
		case Float32:
			for _, v := range t.F32[lo:hi] {
				dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
			}
		case Float64:
			for _, v := range t.F64[lo:hi] {
				dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
			}
		case Int64:
			for _, v := range t.I64[lo:hi] {
				dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
			}
		case Int32:
			for _, v := range t.I32[lo:hi] {
				dst = binary.LittleEndian.AppendUint32(dst, uint32(v))
			}
		case Bool:
			for _, v := range t.Bool[lo:hi] {
				b := byte(0)
				if v {
					b = 1
				}
				dst = append(dst, b)
			}
		case String:
			for _, v := range t.Str[lo:hi] {
				dst = append(binary.AppendUvarint(dst, uint64(len(v))), v...)
			}
		}
	}
	return dst
}

// decodeAnswer reads what appendRowKey made of outputs into row of out, whose
// tensors it makes rows long first where shape is set.
func decodeAnswer(b []byte, sigs []Signature, out []Tensor, row, rows int, shape bool) bool {
	for i := range out {
		dt, nd := DataType(b[0]), int(b[1])
		b = b[2:]
		var dims [8]int
		if nd-1 > len(dims) {
			return false
		}
		for d := range nd - 1 {
			v, n := binary.Uvarint(b)
			dims[d], b = int(v), b[n:]
		}
		t := &out[i]
		if shape {
			t.Name = sigs[i].Name
			t.shape(dt, dims[:nd-1], rows)
		} else if t.Type != dt || !slices.Equal(t.Shape[1:], dims[:nd-1]) {
			return false
		}
		b = t.readRow(b, row)
	}
	return true
}

// readRow reads the elements of one row and returns what follows them.
func (t *Tensor) readRow(b []byte, row int) []byte {
	size := t.rowSize()
	lo, hi := row*size, (row+1)*size
	for i := lo; i < hi; i++ {
		switch t.Type {
		case Float32:
			t.F32[i], b = math.Float32frombits(binary.LittleEndian.Uint32(b)), b[4:]
		case Float64:
			t.F64[i], b = math.Float64frombits(binary.LittleEndian.Uint64(b)), b[8:]
		case Int64:
			t.I64[i], b = int64(binary.LittleEndian.Uint64(b)), b[8:]
		case Int32:
			t.I32[i], b = int32(binary.LittleEndian.Uint32(b)), b[4:]
		case Bool:
			t.Bool[i], b = b[0] == 1, b[1:]
		case String:
			n, k := binary.Uvarint(b)
			t.Str[i], b = string(b[k:k+int(n)]), b[k+int(n):]
		}
	}
	return b
}
