package postgres

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// kindOf gives a kind to an error of the server or of the way to it.
func kindOf(err error) errkind.Kind {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return kindOfCode(pe.Code)
	}
	if k := errkind.Of(err); k != errkind.Unknown && k != errkind.Canceled && k != errkind.Transient {
		return k
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown && k != errkind.Canceled {
		return k
	}
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) && strings.Contains(err.Error(), "tls") {
		return errkind.Config // a server that refuses TLS
	}
	return errkind.Transient // the connection broke in the middle of an answer
}

// kindOfCode sorts SQLSTATE codes by their class.
func kindOfCode(code string) errkind.Kind {
	switch code {
	case "53300", "53400": // too many connections, configured limit
		return errkind.Throttled
	case "53100", "53200": // disk full, out of memory
		return errkind.Exhausted
	case "57014", "42P05", "26000", "0A000": // statement_timeout; statement names lost by a pooler; a plan that no longer fits
		return errkind.Transient
	case "XX001", "XX002": // data or index corrupted
		return errkind.Corrupt
	}
	if len(code) < 2 {
		return errkind.Permanent
	}
	switch code[:2] {
	case "08", "25", "40", "53", "55", "57", "58", "XX": // connection, state, rollback, resources, in use, intervention, system
		return errkind.Transient
	case "28", "3D", "3F", "42", "0P": // authorization, catalogue, schema, names and rights
		return errkind.Config
	}
	return errkind.Permanent
}

// missing says whether the server refused a row of the table because the column,
// which our statements leave null on purpose, is null: see statements.go.
func missing(err error, table string) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && pe.Code == "23502" && pe.TableName == table && pe.ColumnName == "position"
}

// undone says that err leaves no doubt: the server has rolled the statements back,
// or has never had them. A session that the server ends may have committed before.
func undone(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Severity == "ERROR" && pe.Code[:min(2, len(pe.Code))] != "08" && pe.Code != "40003"
	}
	var ce *pgconn.ConnectError
	return errors.As(err, &ce) || pgconn.SafeToRetry(err)
}
