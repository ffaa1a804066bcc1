// Trainpolicy trains the policy that package learn embeds, and writes it to the file
// that its argument names.
package main

import (
	"fmt"
	"os"

	"github.com/freshet-io/freshet/orchestrator/learn"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: trainpolicy FILE")
		os.Exit(2)
	}
	if err := train(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "trainpolicy:", err)
		os.Exit(1)
	}
}

func train(path string) error {
	task, how := learn.Recipe()
	sum := 0.0
	how.Progress = func(iteration int, reward float64) {
		sum += reward
		if (iteration+1)%10 == 0 {
			fmt.Printf("%d of %d iterations, mean reward of the last 10: %.4f\n", iteration+1, how.Iterations, sum/10)
			sum = 0
		}
	}
	trained, err := learn.Train(task, how)
	if err != nil {
		return err
	}
	return os.WriteFile(path, trained.ONNX(), 0o644)
}
