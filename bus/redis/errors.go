package redis

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// kindOf is the kind of any error of the client library or of a connection.
func kindOf(err error) errkind.Kind {
	var answer redis.Error
	if errors.As(err, &answer) {
		text := answer.Error()
		is := func(prefixes ...string) bool {
			for _, p := range prefixes {
				if strings.HasPrefix(text, p) {
					return true
				}
			}
			return false
		}
		switch {
		case is("NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "ERR AUTH", "ERR invalid password", "ERR DB index", "ERR Client sent AUTH"),
			strings.Contains(text, "ACL failure in script"), strings.Contains(text, "NOPERM"):
			return errkind.Config
		case is("MOVED", "ASK ", "CROSSSLOT", "ERR SELECT is not allowed", "ERR unknown command"):
			return errkind.Unsupported
		case is("OOM", "MISCONF"):
			return errkind.Exhausted
		case is("LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN"):
			return errkind.Transient
		case is("ERR max number of clients", "max number of clients"):
			return errkind.Throttled
		case is("WRONGTYPE"):
			return errkind.Conflict
		}
		return errkind.Permanent
	}
	if k := errkind.Of(err); k != errkind.Unknown && k != errkind.Canceled {
		return k
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown && k != errkind.Canceled {
		return k
	}
	return errkind.Transient // the client's own: a pool without connections, a broken stream
}
