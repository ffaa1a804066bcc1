// Package batching compares ways to batch the rows of a model in simulated time:
// Freshet's own batcher, which waits as long as the freshness objective allows, against a
// fixed size, a fixed wait, and no wait at all. The server takes a + b·rows for a call.
//
// The table is a test, because only a test has simulated time:
//
//	go test ./bench/batching -run TestTable -table out.json -arrivals DIR
//
// DIR holds the traces that Traces names; without it the generated arrivals alone are used.
package batching
