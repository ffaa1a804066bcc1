// Package expr compiles CEL expressions into programs that run over columns.
//
// An expression is parsed and type-checked by cel-go and then, where all of it is
// within the compiled subset, turned into loops over whole columns; anything else
// that cel-go accepts runs in cel-go's own interpreter row by row, with the same
// results (Program.Vectorised tells which). Beyond CEL's standard functions,
// macros and its math and string extensions there are:
//
//   - arithmetic and equality between integers and numbers: amount * 2, count == 3.0;
//     x in [1, 2, 3] for a number x
//   - on times, in UTC or in a time zone given as argument: t.hour(), t.minute(),
//     t.second(), t.day() (1–31), t.month() (1–12), t.year(), t.weekday() (0 is Sunday)
//   - x == null, x != null, has(x), isNull(x)
//
// Null: an operator or function with a null operand gives null, except that
// && and || give what their other operand decides alone (false && null is false),
// c ? a : b looks only at the branch that c selects, and the tests for null above.
// CEL's rules for errors apply: an integer overflow, a division of integers by
// zero, the least of NaN and a number or a failed conversion is a Fault of the row, absorbed
// by && and || as null is. Times outside the years 1678 to 2262 are faults.
package expr
