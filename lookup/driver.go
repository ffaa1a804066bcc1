package lookup

import (
	"context"
	"crypto/tls"
	"math"
	"time"

	"github.com/freshet-io/freshet/event"
)

// Unknown is the time of a value whose time is not known.
const Unknown = math.MinInt64

// Field is one value of a table's rows.
type Field struct {
	// Name is the server's own name of the field.
	Name string
	Kind event.Kind
}

// Options says what an adapter reads. Its address is the URL given beside it.
type Options struct {
	// From is what is read: the prefix of Redis' hashes, PostgreSQL's table,
	// Feast's feature view.
	From string
	// Key is the column or entity by which rows are found; Redis has none.
	Key string
	// Fields are the fields of a row, at least one, with different names.
	Fields []Field
	// Time is the field with the time of a row's values; empty where they have
	// none, and with Feast, which has times of its own.
	Time string
	// Timeout is how long the Table waits for one answer. A server that can be
	// told so gives up then too. 0 means no limit.
	Timeout time.Duration
	// User and Password are used where the URL has none.
	User, Password string
	// Token is sent as a bearer token to servers that speak HTTP.
	Token string
	// TLS is used where the URL asks for TLS; nil is Go's default.
	TLS *tls.Config
}

// Driver is what an adapter implements; callers hold a *Table.
//
// All methods may be called concurrently. Opening a driver does not need the
// server: what is wrong in the URL and the options is a Config error at once,
// and everything else shows in Get.
//
// Errors carry an errkind: Transient for a server that cannot be reached, is
// starting or was too slow; Throttled for one that asks for less; Config for
// credentials, tables and fields that are wrong; Unsupported for what this
// kind of server cannot do; Closed after Close. No error holds a password or a token.
type Driver interface {
	// Capabilities says what this server can do. It is constant.
	Capabilities() Capabilities
	// Fields are the fields that Get fills, in order: those of Options. It is constant.
	Fields() []Field
	// Get reads the rows of keys, which are all different and at most
	// Capabilities.MaxKeys. rows has been Reset to the driver's fields and
	// len(keys) rows: none found, all values zero. The driver calls Found for
	// each key that the server has and fills its values, or calls Invalid for a
	// row whose values do not fit their kinds. A key that the server cannot
	// hold, because of bytes it does not allow for instance, is not found.
	//
	// Get returns soon after ctx has ended. It keeps neither slice after the call; strings
	// that it puts into rows never change afterwards. An error concerns all
	// keys, and rows then says nothing.
	Get(ctx context.Context, keys []string, rows *Rows) error
	// Check asks the server whether address, credentials, table and fields are
	// right, as far as it can tell.
	Check(ctx context.Context) error
	// Close releases everything. Calls in progress return Closed errors or
	// succeed; a second Close returns nil.
	Close() error
}

// Capabilities declares what a driver can do; the suite holds it to them.
type Capabilities struct {
	// MaxKeys is the greatest number of keys of one Get, at least 1.
	MaxKeys int
	// Times: rows carry the time of their values, from Options.Time or by themselves.
	Times bool
	// BinaryKeys: keys may be any bytes; otherwise only valid UTF-8 without NUL is found.
	BinaryKeys bool
}

// Rows is what Get fills: one row for each key, in columns.
type Rows struct {
	// Columns are the values, a column for each field, with kinds set. A null is set by SetNull.
	Columns []event.Column
	// At is the time of a row's values in Unix nanoseconds, or Unknown.
	At []int64

	found  []bool
	reason []error // nil, or one for each row
}

// Reset makes r n rows of the fields, none of them found.
func (r *Rows) Reset(fields []Field, n int) {
	if len(r.Columns) != len(fields) {
		r.Columns = make([]event.Column, len(fields))
	}
	for i := range r.Columns {
		c := &r.Columns[i]
		c.Name, c.Kind = fields[i].Name, fields[i].Kind
		c.Reset(n)
	}
	if cap(r.found) < n {
		r.found, r.At = make([]bool, n), make([]int64, n)
	}
	r.found, r.At = r.found[:n], r.At[:n]
	clear(r.found)
	for i := range r.At {
		r.At[i] = Unknown
	}
	r.reason = nil
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.found) }

// Found says that the server has row i; at is the time of its values, or Unknown.
func (r *Rows) Found(i int, at int64) { r.found[i], r.At[i] = true, at }

// IsFound reports whether row i was found and is valid.
func (r *Rows) IsFound(i int) bool { return r.found[i] && r.Reason(i) == nil }

// Invalid says that row i is there and cannot be used. It is then missing, for the reason given.
func (r *Rows) Invalid(i int, reason error) {
	if r.reason == nil {
		r.reason = make([]error, len(r.found))
	}
	if r.reason[i] == nil {
		r.reason[i] = reason
	}
}

// Reason is why row i is invalid; nil where it is not.
func (r *Rows) Reason(i int) error {
	if r.reason == nil {
		return nil
	}
	return r.reason[i]
}
