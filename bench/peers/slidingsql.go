package main

import (
	"context"
	"errors"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func sqliteEngine() slidingEngine {
	return slidingEngine{
		name: "SQLite in the process",
		what: "modernc's SQLite in pure Go, in memory, one transaction a batch: a clustered table by key and time; for each event an insert, a delete of what left the longest window, and one range query that adds up all six",
		open: newSQLSliding, once: true,
	}
}

type sqlSliding struct {
	db                    *sqlite.Conn
	insert, remove, query *sqlite.Stmt
}

func newSQLSliding(context.Context, *slidingWork, string) (slidingSide, error) {
	db, err := sqlite.OpenConn(":memory:")
	if err != nil {
		return nil, err
	}
	s := &sqlSliding{db: db}
	err = sqlitex.ExecuteScript(db, `
		PRAGMA journal_mode = OFF;
		CREATE TABLE event (key TEXT, at INTEGER, cents INTEGER, PRIMARY KEY (key, at)) WITHOUT ROWID;`, nil)
	for to, text := range map[**sqlite.Stmt]string{
		&s.insert: `INSERT INTO event VALUES (?1, ?2, ?3)`,
		&s.remove: `DELETE FROM event WHERE key = ?1 AND at <= ?2`,
		&s.query: `SELECT count(*) FILTER (WHERE at > ?2), sum(cents) FILTER (WHERE at > ?2),
			count(*) FILTER (WHERE at > ?3), sum(cents) FILTER (WHERE at > ?3), count(*), sum(cents)
			FROM event WHERE key = ?1 AND at > ?4`,
	} {
		if err == nil {
			*to, err = db.Prepare(text)
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *sqlSliding) take(w *slidingWork, from, to int, answers []slidingAnswer) (err error) {
	defer sqlitex.Transaction(s.db)(&err)
	for i := from; i < to; i++ {
		name, at := w.names[w.keys[i]], w.at(i)
		s.insert.BindText(1, name)
		s.insert.BindInt64(2, at)
		s.insert.BindInt64(3, int64(w.cents[i]))
		if err := once(s.insert, nil); err != nil {
			return err
		}
		if answers == nil {
			continue // nothing leaves while the longest window fills
		}
		s.remove.BindText(1, name)
		s.remove.BindInt64(2, at-int64(slidingSpans[2]))
		if err := once(s.remove, nil); err != nil {
			return err
		}
		s.query.BindText(1, name)
		for n, over := range slidingSpans {
			s.query.BindInt64(2+n, at-int64(over))
		}
		a := &answers[i-from]
		err := once(s.query, func(row *sqlite.Stmt) {
			for n := range slidingSpans {
				a.Counts[n] = row.ColumnInt64(2 * n)
				a.Means[n] = float64(row.ColumnInt64(2*n+1)) / (100 * float64(a.Counts[n]))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// once runs a statement that gives at most one row.
func once(s *sqlite.Stmt, row func(*sqlite.Stmt)) error {
	there, err := s.Step()
	if err == nil && there && row != nil {
		row(s)
	}
	return errors.Join(err, s.Reset())
}

func (s *sqlSliding) close() error { return s.db.Close() }
