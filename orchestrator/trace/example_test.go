package trace_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Read minutes with counts, scale them to 100 events a second, and draw seconds.
func Example() {
	t, err := trace.Parse(strings.NewReader("minute,count\n0,60\n1,120\n2,\n3,60\n"), "clicks.csv")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.Step, t.Holes(), t.Notes)
	drawn := t.Scale(100).Draw(1, time.Second)
	fmt.Println(drawn.Step, len(drawn.Counts))
	// Output:
	// 1m0s 1 [1 of 4 steps are unknown]
	// 1s 240
}
