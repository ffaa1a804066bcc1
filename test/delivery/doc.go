// Command delivery makes docs/DELIVERY.md from what it finds out: for each
// broker it starts the real server, runs pipelines on it with the built program,
// sends numbered events at a steady rate, breaks something meanwhile, and counts
// in the results what was lost, repeated, out of order or computed wrongly.
//
//	go run ./test/delivery                      every broker, every fault
//	go run ./test/delivery -broker kafka,redis  some brokers
//	go run ./test/delivery -fault worker-kill   some faults
//	go run ./test/delivery -page-only              write the page from what was found before
//
// A cell of the table is one broker, one pipeline and one fault. What cells found is kept
// in results.json, where a newer run replaces the cell of an older one.
package main
