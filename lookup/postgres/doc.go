// Package postgres looks rows up in a table, or view, of PostgreSQL.
//
// One Get is one SELECT of the fields WHERE key = ANY of the keys, so an index
// on the key is used. The key's column is of a text or integer type, or a
// uuid; an integer is looked up by its decimal digits, a uuid in the form of
// 36 lower-case characters. A key that the type cannot hold is missing.
//
// The driver reads the columns' types from the catalogue before its first Get and
// refuses fields whose type cannot fit their kind. Where several rows have one
// key, the one with the newest time is taken; without a time column such a key
// is an invalid row.
//
// Names are taken as they are written, also where they have capitals: FROM is
// table or schema.table, and a name with a dot stands in double quotes.
package postgres
