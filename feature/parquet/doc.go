// Package parquet writes the point-in-time log of a pipeline: every scored row
// with its features exactly as the model saw them, as Parquet files by hour of event time.
//
// Export reads the result topics of a pipeline and makes a folder
//
//	DIR/date=2018-04-01/hour=00/part-0.parquet
//
// that pandas, pyarrow, DuckDB or Spark open as one table. Numbers are those of the
// results, bit for bit; what is null there is null here.
//
// A row is a source event: its results on several topics, and the same result met
// again after a replay, are one row: that of the first topic in the order of
// Options.Topics. All files have the same columns.
//
// Topic by topic, rows are merged over partitions by event time and written hour by
// hour. Up to 131,072 rows are in memory, and beside them the 128-bit hashes of the ids
// of the hours that are open, at most 4 million unless one hour has more; the hour that was longest without a row is closed first. A row
// for an hour that was closed goes to that hour's next part. Labels, where they are joined, are held in memory: about
// 64 bytes each, and 9 for each field of theirs.
//
// The folder is made under another name beside DIR, synced and then renamed: DIR
// is there whole or not at all.
package parquet
