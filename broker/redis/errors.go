package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// replyError is an error that the server answered with.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (e replyError) RedisError() {}

// replyKinds gives answers of the server their kinds, by the word they begin with.
var replyKinds = []struct {
	prefix string
	kind   errkind.Kind
}{
	{"MOVED", errkind.Unsupported}, {"ASK ", errkind.Unsupported}, {"CROSSSLOT", errkind.Unsupported},
	{"NOAUTH", errkind.Config}, {"WRONGPASS", errkind.Config}, {"NOPERM", errkind.Config}, {"DENIED", errkind.Config},
	{"ERR AUTH", errkind.Config}, {"ERR invalid password", errkind.Config}, {"ERR DB index", errkind.Config},
	{"ERR Client sent AUTH", errkind.Config}, {"ERR SELECT is not allowed", errkind.Unsupported},
	{"OOM", errkind.Exhausted}, {"MISCONF", errkind.Exhausted},
	{"LOADING", errkind.Transient}, {"BUSY", errkind.Transient}, {"READONLY", errkind.Transient}, {"MASTERDOWN", errkind.Transient},
	{"NOREPLICAS", errkind.Transient}, {"TRYAGAIN", errkind.Transient}, {"CLUSTERDOWN", errkind.Transient}, {"UNBLOCKED", errkind.Transient},
	{"ERR max number of clients", errkind.Throttled}, {"max number of clients", errkind.Throttled},
	{"WRONGTYPE", errkind.Conflict},
	{"ERR unknown command", errkind.Unsupported},
}

// replyKind is the kind of an answer of the server.
func replyKind(text string) errkind.Kind {
	// What fails within a script comes with the script's own words around it.
	text = strings.TrimPrefix(text, "ERR Error running script: ")
	for _, k := range replyKinds {
		if strings.HasPrefix(text, k.prefix) {
			return k.kind
		}
	}
	if strings.Contains(text, "NOPERM") || strings.Contains(text, "ACL failure in script") {
		return errkind.Config
	}
	return errkind.Permanent
}

// kindOf is the kind of any error of the client library or of a connection.
func kindOf(err error) errkind.Kind {
	var answer redis.Error
	if errors.As(err, &answer) {
		return replyKind(answer.Error())
	}
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	return errkind.Transient // the client's own: a pool without connections, a broken stream
}

// answered says that err is an answer of the server, so that the outcome of
// the call is known.
func answered(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// failed gives an error of a call its kind, and says what was being done where.
// What the caller's own context ended keeps the context's error.
func (d *Driver) failed(ctx context.Context, doing string, err error) error {
	if d.ended() {
		return d.errClosed()
	}
	if err := over(ctx); err != nil {
		return err
	}
	k := kindOf(err)
	if k == errkind.Canceled { // not the caller's context: that of a connection given up
		k = errkind.Transient
	}
	return errkind.Errorf(k, "%s %s: %w", doing, d.where, err)
}

// over is the error of a context that has ended. A deadline that has passed
// ends calls a moment before its context says so.
func over(ctx context.Context) error {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func (d *Driver) errClosed() error {
	return errkind.Errorf(errkind.Closed, "%s: the driver is closed", d.where)
}
