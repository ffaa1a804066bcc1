//go:build !purego

package attribution

import "github.com/freshet-io/freshet/inference/onnx/internal/kernel"

// vectors says whether the assembly runs on this machine.
func vectors() bool { return kernel.Vectors() }

// The functions of the assembly do what those of pass of the same name do.

//go:noescape
func conditionsAVX2(p *pass)

//go:noescape
func upAVX2(p *pass)

//go:noescape
func downAVX2(p *pass)

// walkVectors is walk in assembly; members says that a split of the tree is on a set.
func (p *pass) walkVectors(members bool) {
	if members {
		p.conditions()
	} else {
		conditionsAVX2(p)
	}
	upAVX2(p)
	downAVX2(p)
}
