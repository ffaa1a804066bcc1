package pipeline

import (
	"fmt"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// Fault is one thing wrong with a pipeline file.
type Fault struct {
	// File, Line and Column say where, counted from 1; Line is 0 where the
	// fault concerns the file as a whole.
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Rule is the fault's stable name.
	Rule string `json:"rule"`
	// Message says what is wrong and what was expected.
	Message string `json:"message"`
	// Remedy says what to do.
	Remedy string `json:"remedy"`
}

// String is the fault on one line, the place first as compilers write it.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": " + f.Message)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Error joins faults into one error of kind Config; nil where there are none.
func Error(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.String()
	}
	return errkind.New(errkind.Config, strings.Join(lines, "\n"))
}
