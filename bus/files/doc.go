// Package files writes results into files: JSON lines or Parquet, each result once.
//
//	file:///var/lib/scores?format=parquet&roll=64MiB&every=1m
//
// A finished file is named TOPIC-PARTITION-FIRST-LAST.jsonl or .parquet, by the
// positions of its first and last record (of 5 and 20 digits); a topic's name is percent-encoded where it must be. Names
// that begin with a dot are not finished.
//
// The order of events: Send appends its records to .TOPIC-PARTITION.open and
// syncs it to disk before it returns; when that has grown to roll, or every has passed since
// its first record, or at Close, its records are written to a file in the form asked for, which is synced, gets
// its name by a rename, and only then .open is emptied. After a crash
// Open reads what .open holds, without what was torn, and drops what a finished file has already. A record whose
// position is not behind the last one of its partition has been written and is passed over: so a batch
// that is sent again changes nothing. A topic that is made anew begins at position 0 again, and so
// needs another folder; how many records are passed over is logged.
//
// One process writes to a folder at a time, held by the file .lock (on Unix).
//
// # Lines and columns
//
// A line, and a row, is the result: the record's value, which has to be JSON (an object for
// Parquet). With content=events lines are CloudEvents with all attributes, and values may be anything.
//
// Parquet has a column for each member of the results: position, id (or the record's), source_id, time, key, score, route, the
// others, outputs.NAME, features.NAME and feature_times.NAME. A file has those that its results have.
// Numbers without a fraction are int64, others double; time, arrival and feature_times.* are
// timestamps in nanoseconds; where results disagree a column is text, as are arrays and objects.
//
// # Options
//
// format (jsonl or parquet), roll (64MiB; B, KiB, MiB, GiB), every (1m), content (results or events, of JSON lines).
package files
