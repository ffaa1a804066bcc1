package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freshet-io/freshet/errkind"
)

func TestOnlyWhatTheServerRolledBackIsUndone(t *testing.T) {
	_, refused := pgconn.Connect(t.Context(), "postgres://u@127.0.0.1:1/d?sslmode=disable")
	for _, c := range []struct {
		err  error
		kind errkind.Kind
		want bool
	}{
		{&pgconn.PgError{Severity: "ERROR", Code: "40P01"}, errkind.Transient, true},         // deadlock
		{&pgconn.PgError{Severity: "ERROR", Code: "57014"}, errkind.Transient, true},         // statement timeout
		{&pgconn.PgError{Severity: "ERROR", Code: "53100"}, errkind.Exhausted, true},         // disk full
		{&pgconn.PgError{Severity: "FATAL", Code: "57P01"}, errkind.Transient, false},        // shutdown, perhaps behind the commit
		{&pgconn.PgError{Severity: "ERROR", Code: "40003"}, errkind.Transient, false},        // completion unknown
		{&pgconn.PgError{Severity: "ERROR", Code: "08006"}, errkind.Transient, false},        // a pooler that lost its server
		{&pgconn.PgError{Severity: "ERROR", Code: ""}, errkind.Permanent, true},              // no server of ours
		{refused, errkind.Transient, true},                                                   // never sent
		{fmt.Errorf("in an answer: %w", context.DeadlineExceeded), errkind.Transient, false}, // perhaps sent
		{errkind.Errorf(errkind.Transient, "%w", &pgconn.PgError{Severity: "ERROR", Code: "28P01"}), errkind.Config, true},
	} {
		if got := undone(c.err); got != c.want || kindOf(c.err) != c.kind {
			t.Errorf("%v: undone %v, want %v; kind %v, want %v", c.err, got, c.want, kindOf(c.err), c.kind)
		}
	}
}

func FuzzNotificationsOfOthersAreHarmless(f *testing.F) {
	for _, payload := range []string{"", "1.2", "1.2,3.4", "1.", ".", ",,", "99999999999999999999.1", "a.b,1.2"} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		b := newBells()
		waiting := b.next(place{1, 2})
		b.heard(payload + ",1.2")
		select {
		case <-waiting:
		default:
			t.Errorf("%q: nobody was woken", payload)
		}
	})
}
