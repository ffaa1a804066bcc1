// Command freshet runs machine-learning inference on event streams.
package main

import (
	"os"

	"github.com/freshet-io/freshet/internal/cli"
)

func main() {
	os.Exit(cli.Main(cli.OS()))
}
