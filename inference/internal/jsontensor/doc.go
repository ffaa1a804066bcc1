// Package jsontensor reads and writes the JSON of model servers: lists of numbers,
// flat or as lists of lists, with the tokens NaN, Infinity and -Infinity where a
// server is known to write them, and nothing converted on the way.
//
// A Reader is a cursor over one text. It allocates nothing but what it is asked
// for, knows a bound of depth, and refuses what is no JSON.
package jsontensor
