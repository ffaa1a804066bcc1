// Package lookup is the port between Freshet and the servers that enrich
// events: rows of named fields, found by a key.
//
// Callers hold a *Table, which caches rows, asks once for keys that many rows
// or tasks need at the same time, repeats what may pass, and counts; adapters
// implement the small, batch-first Driver and prove themselves with package
// lookuptest.
//
// A value carries its own time where the server knows it, so that a caller can
// tell how old a feature is. What becomes of an event whose look-up failed is
// not decided here: the Table says for each row whether it was found, is
// missing, or could not be asked, and MayPass says whether asking again can help.
package lookup
