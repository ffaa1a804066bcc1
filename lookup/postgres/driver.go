package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lookup"
)

const (
	maxKeys = 10_000
	// dialTimeout bounds a connection where neither URL nor Options.Timeout does.
	dialTimeout = 5 * time.Second
	// closeGrace is how long Close lets connections end in an orderly way.
	closeGrace = 200 * time.Millisecond
)

// Driver is a lookup.Driver for one table.
type Driver struct {
	pool    *pgxpool.Pool
	sockets sockets
	where   string // for errors
	table   string // quoted
	key     string
	time    string
	fields  []lookup.Field

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	mu      sync.Mutex
	closed  bool
	plan    *plan // nil until the table has been described
	running sync.WaitGroup
}

// Open returns a driver for a server: postgres:// or postgresql://, with the
// query parameters of libpq (sslmode, sslrootcert, …) and of pgxpool
// (pool_max_conns, …). Options.User and Password are used where the URL has none.
func Open(url string, o lookup.Options) (*Driver, error) {
	where := lookup.Redact(url)
	if err := o.Validate(); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	u, err := lookup.ParseURL(url)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	table, err := parseTable(o.From)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	if o.Key == "" {
		return nil, errkind.Errorf(errkind.Config, "open %s: the table has no key: name the column to look up by", where)
	}
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx's own text can hold parts of the URL that it failed to take apart.
		return nil, errkind.Errorf(errkind.Config, "open %s: the URL's parameters are not understood: see libpq's connection parameters (sslmode, sslrootcert, connect_timeout) and pgxpool's (pool_max_conns)", where)
	}
	if _, given := u.User.Password(); !given {
		if u.User.Username() == "" && o.User != "" {
			c.ConnConfig.User = o.User
		}
		if o.Password != "" {
			c.ConnConfig.Password = o.Password
		}
	}
	if o.TLS != nil && c.ConnConfig.TLSConfig != nil {
		c.ConnConfig.TLSConfig = withServerName(o.TLS, c.ConnConfig.TLSConfig)
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = dialTimeout
		if o.Timeout > 0 {
			c.ConnConfig.ConnectTimeout = min(o.Timeout, dialTimeout)
		}
	}
	params := c.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "freshet"
	}
	if _, given := params["statement_timeout"]; !given && o.Timeout > 0 {
		params["statement_timeout"] = strconv.FormatInt(max(1, o.Timeout.Milliseconds()), 10)
	}
	d := &Driver{where: where + " table " + o.From, table: table, key: o.Key, time: o.Time, fields: o.Fields}
	d.sockets = sockets{dial: c.ConnConfig.DialFunc, open: map[net.Conn]bool{}}
	c.ConnConfig.DialFunc = d.sockets.connect
	d.ctx, d.end = context.WithCancel(context.Background())
	if d.pool, err = pgxpool.NewWithConfig(d.ctx, c); err != nil {
		d.end()
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	return d, nil
}

func withServerName(own, parsed *tls.Config) *tls.Config {
	own = own.Clone()
	if own.ServerName == "" {
		own.ServerName = parsed.ServerName
	}
	return own
}

// parseTable quotes table or schema.table for SQL. A part may stand in double quotes already.
func parseTable(from string) (string, error) {
	var parts pgx.Identifier
	for rest := from; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for end < len(rest) && (rest[end] != '"' || strings.HasPrefix(rest[end:], `""`)) {
				if rest[end] == '"' {
					end++
				}
				end++
			}
			if end >= len(rest) {
				return "", errkind.Errorf(errkind.Config, "table %q: a quote is open", from)
			}
			part, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		} else {
			end := strings.IndexByte(rest, '.')
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
		}
		if part == "" || strings.ContainsRune(part, 0) {
			return "", errkind.Errorf(errkind.Config, "table %q: expected table or schema.table", from)
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		if rest[0] != '.' || len(parts) == 2 {
			return "", errkind.Errorf(errkind.Config, "table %q: expected table or schema.table; a name with a dot stands in double quotes", from)
		}
		rest = rest[1:]
	}
	return parts.Sanitize(), nil
}

// Capabilities implements lookup.Driver.
func (d *Driver) Capabilities() lookup.Capabilities {
	return lookup.Capabilities{MaxKeys: maxKeys, Times: d.time != ""}
}

// Fields implements lookup.Driver.
func (d *Driver) Fields() []lookup.Field { return d.fields }

// Get implements lookup.Driver.
func (d *Driver) Get(ctx context.Context, keys []string, rows *lookup.Rows) error {
	return d.do(ctx, func(ctx context.Context) error {
		p, err := d.described(ctx)
		if err != nil {
			return err
		}
		asked := make([]string, 0, len(keys))
		at := make(map[string]int32, len(keys))
		for i, key := range keys {
			if p.holds(key) {
				asked = append(asked, key)
				at[key] = int32(i)
			}
		}
		if len(asked) == 0 {
			return nil
		}
		return d.read(ctx, p, asked, at, rows)
	})
}

// do runs f under a context that ends with the driver, and gives its error a kind.
func (d *Driver) do(caller context.Context, f func(context.Context) error) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	}
	d.running.Add(1)
	d.mu.Unlock()
	defer d.running.Done()
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	err := f(ctx)
	switch {
	case err == nil:
		return nil
	case caller.Err() != nil:
		return fmt.Errorf("read %s: %w", d.where, caller.Err())
	case d.ctx.Err() != nil:
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	}
	return errkind.Errorf(kindOf(err), "read %s: %w", d.where, err)
}

// read selects the rows of keys, whose places are in at.
func (d *Driver) read(ctx context.Context, p *plan, keys []string, at map[string]int32, rows *lookup.Rows) error {
	answer, err := d.pool.Query(ctx, p.query, keys)
	if err != nil {
		d.forgetPlan(err)
		return err
	}
	defer answer.Close()
	for answer.Next() {
		values := answer.RawValues() // all of type text, so their bytes are the text
		i, ok := at[string(values[0])]
		switch {
		case !ok:
			continue // a collation or type for which other keys are equal
		case rows.IsFound(int(i)):
			rows.Invalid(int(i), errkind.Errorf(errkind.Invalid, "several rows of the table have this key: give it a unique index, or the lookup a time column"))
			continue
		}
		rows.Found(int(i), lookup.Unknown)
		for j := range d.fields {
			if v := values[1+j]; v == nil {
				rows.Columns[j].SetNull(int(i))
			} else {
				rows.SetText(int(i), j, string(v))
			}
		}
		if d.time != "" {
			if v := values[1+len(d.fields)]; v != nil {
				rows.SetTime(int(i), d.time, string(v))
			}
		}
	}
	if err := answer.Err(); err != nil {
		d.forgetPlan(err)
		return err
	}
	return nil
}

// Check implements lookup.Driver: it describes the table anew and reads no row.
func (d *Driver) Check(ctx context.Context) error {
	return d.do(ctx, func(ctx context.Context) error {
		d.setPlan(nil)
		p, err := d.described(ctx)
		if err != nil {
			return err
		}
		var rows lookup.Rows
		return d.read(ctx, p, []string{}, nil, &rows)
	})
}

// Close implements lookup.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.running.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.pool.Close()
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		d.sockets.cutAll()
		<-ended
	}
	return nil
}
