// Package postgres writes results into a table of PostgreSQL, each once.
//
//	postgres://user@host:5432/db?table=scores&create=true&password_env=PGPASSWORD
//
// The order of events of a Send: the batch is written as one INSERT … ON CONFLICT
// (id) in one transaction, and Send returns when the server has committed it. A batch that is
// sent again so changes nothing. Where the server refuses values (a text that
// is no number, a constraint that does not hold), the rows that it refuses are
// found by halves, in one transaction too; they are listed in a bus.RefusedError and
// the others are committed.
//
// # Columns
//
// The table is described once, at the first batch. It needs a unique index or primary key on id. Columns are filled by
// their names:
//
//	id         the record's ID
//	key        the record's key
//	time       the result's time, or the CloudEvents one
//	payload    the whole result; of type json, jsonb, text or bytea
//	topic, partition
//	source, type    the CloudEvents attributes
//	others     the member of the result with that name (source_id, score, route, model, …),
//	           or else of its "outputs", "features" or "feature_times"; outputs.NAME, features.NAME and
//	           feature_times.NAME name one of those
//
// A column that no result of a batch has is left out, and gets its default. A value is
// turned into the column's type by PostgreSQL, from its text. A record without an ID is refused.
//
// With create=true the table is made, if it is not there, with id text PRIMARY KEY, source_id text,
// time timestamptz, key text, score float8, route text, payload jsonb.
//
// # Options
//
// table (results; or schema.table), create (false), on_conflict (update, or nothing, which keeps what was
// written first), connections (4), timeout (10s, of connecting and of each statement), and those
// of package endpoint. postgres+tls encrypts.
package postgres
