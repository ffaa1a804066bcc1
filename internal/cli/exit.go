package cli

import "github.com/freshet-io/freshet/errkind"

// The exit codes, as `freshet --help` documents them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const exitHelp = `Exit codes:
  0  done
  1  failed at run time
  2  wrong usage or configuration`

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errkind.Is(err, errkind.Config), errkind.Is(err, errkind.Unsupported):
		return exitUsage
	}
	return exitFailed
}

// usagef is an error about what the user wrote: exit code 2.
func usagef(format string, args ...any) error {
	return errkind.Errorf(errkind.Config, format, args...)
}
