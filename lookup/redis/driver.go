package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lookup"
)

const (
	// maxKeys bounds the answers that one pipeline holds in memory.
	maxKeys = 10_000
	// dialTimeout bounds a connection where Options.Timeout does not.
	dialTimeout = 5 * time.Second
)

// Driver is a lookup.Driver for one prefix of hashes.
type Driver struct {
	client *redis.Client
	where  string // for errors
	prefix string
	fields []lookup.Field
	names  []string // of the fields, and behind them of the time
	time   string

	mu      sync.Mutex
	closed  bool
	done    chan struct{} // closed by Close
	running sync.WaitGroup
}

// silence turns off go-redis' own log, which is the process's and goes to
// stderr: every failure that it tells of is an error that Get returns as well.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Open returns a driver for a server: redis://[user:password@]host[:port][/db]
// or rediss:// for TLS, with the query parameters of go-redis. Options.User
// and Password are used where the URL has none; From is the prefix and may be
// empty; Key is not used.
func Open(url string, o lookup.Options) (*Driver, error) {
	silence()
	where := lookup.Redact(url)
	if err := o.Validate(); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	if _, err := lookup.ParseURL(url); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	c, err := redis.ParseURL(url)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	if c.Username == "" && c.Password == "" {
		c.Username, c.Password = o.User, o.Password
	}
	if c.TLSConfig != nil && o.TLS != nil {
		t := o.TLS.Clone()
		if t.ServerName == "" {
			t.ServerName = c.TLSConfig.ServerName
		}
		c.TLSConfig = t
	}
	// Attempts and pauses are the Table's, and deadlines the context's.
	c.MaxRetries, c.DialerRetries = -1, 1
	c.ContextTimeoutEnabled = true
	if c.DialTimeout == 0 {
		c.DialTimeout = dialTimeout
		if o.Timeout > 0 {
			c.DialTimeout = min(o.Timeout, dialTimeout)
		}
	}
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	d := &Driver{client: redis.NewClient(c), where: where, prefix: o.From, fields: o.Fields, time: o.Time, done: make(chan struct{})}
	for _, f := range o.Fields {
		d.names = append(d.names, f.Name)
	}
	if o.Time != "" {
		d.names = append(d.names, o.Time)
	}
	return d, nil
}

// Capabilities implements lookup.Driver.
func (d *Driver) Capabilities() lookup.Capabilities {
	return lookup.Capabilities{MaxKeys: maxKeys, Times: d.time != "", BinaryKeys: true}
}

// Fields implements lookup.Driver.
func (d *Driver) Fields() []lookup.Field { return d.fields }

// Get implements lookup.Driver.
func (d *Driver) Get(ctx context.Context, keys []string, rows *lookup.Rows) error {
	if err := ctx.Err(); err != nil {
		return d.failed(err)
	}
	cmds := make([]*redis.SliceCmd, len(keys))
	pipe := d.client.Pipeline()
	for i, key := range keys {
		args := make([]any, 2, 2+len(d.names))
		args[0], args[1] = "hmget", d.prefix+key
		for _, n := range d.names {
			args = append(args, n)
		}
		cmds[i] = redis.NewSliceCmd(ctx, args...)
		_ = pipe.Process(ctx, cmds[i]) // queues; the error is always nil
	}
	if len(keys) == 0 {
		return d.closedError()
	}
	execErr := d.exec(ctx, pipe)
	if execErr != nil && !redis.HasErrorPrefix(execErr, "WRONGTYPE") {
		return d.failed(execErr)
	}
	for i, cmd := range cmds {
		switch err := cmd.Err(); {
		case err != nil && redis.HasErrorPrefix(err, "WRONGTYPE"):
			rows.Invalid(i, errkind.New(errkind.Invalid, "the key holds no hash"))
		case err != nil:
			return d.failed(err)
		case len(cmd.Val()) != len(d.names):
			return d.failed(errkind.Errorf(errkind.Transient, "%d values came for %d fields", len(cmd.Val()), len(d.names)))
		default:
			d.fill(rows, i, cmd.Val())
		}
	}
	return nil
}

// exec runs the pipeline and returns when ctx has ended, which the client by
// itself notices only at its deadline. The error is that of the connection, or
// the first of a command.
func (d *Driver) exec(ctx context.Context, pipe redis.Pipeliner) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return errkind.New(errkind.Closed, "the driver is closed")
	}
	d.running.Add(1)
	d.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		defer d.running.Done()
		_, err := pipe.Exec(ctx)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return errkind.New(errkind.Closed, "the driver is closed")
	}
}

func (d *Driver) fill(rows *lookup.Rows, i int, values []any) {
	found := false
	for _, v := range values {
		found = found || v != nil
	}
	if !found {
		return
	}
	rows.Found(i, lookup.Unknown)
	for j := range values {
		text, ok := values[j].(string)
		switch {
		case j == len(d.fields):
			if ok {
				rows.SetTime(i, d.time, text)
			}
		case !ok:
			rows.Columns[j].SetNull(i)
		default:
			rows.SetText(i, j, text)
		}
	}
}

// Check implements lookup.Driver: it asks for a row as Get does.
func (d *Driver) Check(ctx context.Context) error {
	var rows lookup.Rows
	rows.Reset(d.fields, 1)
	return d.Get(ctx, []string{""}, &rows)
}

// Close implements lookup.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.done)
	d.mu.Unlock()
	err := d.client.Close() // ends what the pipelines wait for
	d.running.Wait()
	return err
}

func (d *Driver) closedError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	}
	return nil
}

// failed gives an error its kind.
func (d *Driver) failed(err error) error {
	select {
	case <-d.done:
		return errkind.Errorf(errkind.Closed, "read %s: the driver is closed", d.where)
	default:
	}
	return errkind.Errorf(kindOf(err), "read %s: %w", d.where, err)
}

func kindOf(err error) errkind.Kind {
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	switch {
	case moved, ask, redis.HasErrorPrefix(err, "CROSSSLOT"):
		return errkind.Unsupported
	case redis.IsAuthError(err), redis.IsPermissionError(err), redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"),
		redis.HasErrorPrefix(err, "invalid password"), redis.HasErrorPrefix(err, "DB index"), redis.HasErrorPrefix(err, "AUTH"):
		return errkind.Config
	case redis.IsMaxClientsError(err):
		return errkind.Throttled
	case redis.IsLoadingError(err), redis.IsMasterDownError(err), redis.IsClusterDownError(err), redis.IsTryAgainError(err),
		redis.HasErrorPrefix(err, "BUSY"):
		return errkind.Transient
	}
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	if k := lookup.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		return errkind.Permanent
	}
	return errkind.Transient // the client's own: a pool without connections, a broken stream
}
