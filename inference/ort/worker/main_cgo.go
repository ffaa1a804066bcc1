//go:build cgo

package worker

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Main runs the worker with the arguments args and returns the exit code.
func Main(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("freshet-onnxruntime", flag.ContinueOnError)
	flags.SetOutput(stderr)
	library := flags.String("library", "", "ONNX Runtime's shared library; empty looks beside this program, then where the system has libraries")
	lanes := flags.Int("lanes", 0, "number of sockets for calls, which are inherited as file descriptors from 4 on")
	memory := flags.Uint64("memory", 0, "most bytes of memory (Linux); 0 is no limit")
	version := flags.Bool("version", false, "print ONNX Runtime's version and exit")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *library == "" {
		*library = findLibrary()
	}
	err := run(*library, *lanes, *memory, *version, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "freshet-onnxruntime: %v\n", err)
		return 1
	}
	return 0
}

func run(library string, lanes int, memory uint64, version bool, stderr io.Writer) error {
	if lanes <= 0 && !version {
		return fmt.Errorf("this program is started by freshet, for models with runtime: onnxruntime; -version tries whether it can run")
	}
	if memory > 0 {
		if err := limitMemory(memory); err != nil {
			return fmt.Errorf("limit the memory to %d bytes: %w", memory, err)
		}
	}
	e, err := openNative(library)
	if err != nil {
		return err
	}
	if version {
		fmt.Fprintf(stderr, "ONNX Runtime %s from %s\n", e.version(), library)
		return nil
	}
	// Blocking reads: a lane's thread wakes with its call.
	socket := func(fd int) io.ReadWriter { return os.NewFile(uintptr(fd), "socket") }
	var calls []io.ReadWriter
	for i := range lanes {
		calls = append(calls, socket(4+i))
	}
	return serve(socket(3), calls, e)
}

// findLibrary looks beside the program; what it returns otherwise the system's loader looks for.
func findLibrary() string {
	name, pattern := "libonnxruntime.so.1", "libonnxruntime.so*"
	if runtime.GOOS == "darwin" {
		name, pattern = "libonnxruntime.dylib", "libonnxruntime*.dylib"
	}
	program, err := os.Executable()
	if err != nil {
		return name
	}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	for _, dir := range []string{".", "../lib"} {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(program), dir, pattern))
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return name
}
