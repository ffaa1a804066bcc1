package expr_test

import (
	"fmt"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
)

func Example() {
	vars := []expr.Var{{Name: "amount", Kind: event.Float}, {Name: "time", Kind: event.Time}}
	night, err := expr.Compile(`time.hour() <= 6 && amount > 100`, vars, event.Bool)
	if err != nil {
		fmt.Println(err)
		return
	}
	// One column for each of night.Vars(): amount, time.
	cols := []*event.Column{
		{Kind: event.Float, Floats: []float64{250, 250, 0}, Null: []bool{false, false, true}},
		{Kind: event.Time, Ints: []int64{3600e9, 36000e9, 3600e9}},
	}
	var out event.Column
	faults := night.Evaluator().Eval(cols, 3, &out)
	fmt.Println(night.Vars(), out.Bools, out.Null, len(faults))

	_, err = expr.Compile(`amout > 100`, vars)
	fmt.Println(err)
	// Output:
	// [amount time] [true false false] [false false true] 0
	// column 1: undeclared name "amout"; did you mean "amount"?
}
