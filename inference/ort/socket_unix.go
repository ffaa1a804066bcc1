//go:build unix

package ort

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// socketPair makes two connected sockets: one for this process, one to be inherited.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	// No other process that is started now may inherit ours: the worker's end depends on it.
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "worker")
	theirs = os.NewFile(uintptr(fds[1]), "worker")
	ours, err = net.FileConn(f) // with a descriptor of its own
	_ = f.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return ours, theirs, nil
}

// detach keeps signals of the terminal from the worker: it ends after its last call.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
