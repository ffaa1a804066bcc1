//go:build !amd64 || purego

package kernel

// detect finds the best instruction set of this machine: here only Go itself.
func detect() level { return portable }

func (p *Packed) mulVector(c, a []float32, m int, bias []float32, floor float32) {
	p.mulPortable(c, a, m, bias, floor)
}

func expBest(dst, src []float32)     { expPortable(dst, src) }
func sigmoidBest(dst, src []float32) { sigmoidPortable(dst, src) }
func tanhBest(dst, src []float32)    { tanhPortable(dst, src) }
func erfBest(dst, src []float32)     { erfPortable(dst, src) }
