//go:build !amd64 || purego

package attribution

func vectors() bool { return false }

func (p *pass) walkVectors(bool) { p.walk() }
