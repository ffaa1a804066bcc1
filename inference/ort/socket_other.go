//go:build !unix

package ort

import (
	"net"
	"os"
	"os/exec"

	"github.com/freshet-io/freshet/errkind"
)

func socketPair() (net.Conn, *os.File, error) {
	return nil, nil, errkind.New(errkind.Unsupported, "the worker of ONNX Runtime needs a Unix system; leave out runtime: onnxruntime")
}

func detach(*exec.Cmd) {}
