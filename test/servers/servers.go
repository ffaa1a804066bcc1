// Package servers starts the real servers that tests of adapters talk to, each
// by a script of this folder.
//
// A server that is not installed skips the test, loudly; where FRESHET_REQUIRE
// names it, the test fails instead. test/prepare.sh installs them and prints
// which are there.
package servers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Password is the password of every server that has one; their user, where they have one, is "freshet".
const Password = "freshet-test"

// absentCode is how a script says that its server is not installed.
const absentCode = 3

// Start starts redis, postgres or feast for the rest of the test and returns
// its address, host:port.
func Start(t testing.TB, name string) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), name+".sh")
	if _, err := os.Stat(script); !ok || err != nil {
		absent(t, name, "its script "+script+" is not here")
	}
	// Not the test's own context: it ends before the clean-up that stops the server.
	cmd := exec.CommandContext(context.Background(), "bash", script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	if err := cmd.Start(); err != nil {
		absent(t, name, err.Error())
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ready {
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == absentCode {
			absent(t, name, strings.TrimSpace(stderr.String()))
		}
		t.Fatalf("start %s: %v\n%s", name, err, stderr.String())
	}
	t.Cleanup(func() {
		_ = stdin.Close() // the script then stops the server
		_ = cmd.Wait()
	})
	return address
}

// absent skips the test, or fails it where the server has to be there.
func absent(t testing.TB, name, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("FRESHET_REQUIRE"), ","), name) {
		t.Fatalf("FRESHET_REQUIRE names %s: %s", name, why)
	}
	t.Skipf("NOT RUN: %s: %s; test/prepare.sh installs it", name, why)
}
