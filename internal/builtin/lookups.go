package builtin

import (
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/lookup/feast"
	"github.com/freshet-io/freshet/lookup/postgres"
	"github.com/freshet-io/freshet/lookup/redis"
)

// lookups lists the servers that tables may lie on by the scheme of their URL,
// with the environment variables that hold what the URL should not.
var lookups = []struct {
	scheme                string
	open                  func(url string, o lookup.Options) (lookup.Driver, error)
	user, password, token string
}{
	{"redis", openRedis, "REDIS_USERNAME", "REDIS_PASSWORD", ""},
	{"rediss", openRedis, "REDIS_USERNAME", "REDIS_PASSWORD", ""},
	{"postgres", openPostgres, "PGUSER", "PGPASSWORD", ""},
	{"postgresql", openPostgres, "PGUSER", "PGPASSWORD", ""},
	{"feast+http", openFeast, "", "", "FEAST_TOKEN"},
	{"feast+https", openFeast, "", "", "FEAST_TOKEN"},
}

// OpenLookup opens the table that url and o name: redis://, rediss://,
// postgres://, postgresql://, feast+http:// or feast+https://. It does not need
// the server to be there. getenv, which may be nil, finds credentials that
// neither the URL nor o has: REDIS_USERNAME and REDIS_PASSWORD, PGUSER and
// PGPASSWORD, FEAST_TOKEN. Another scheme is Unsupported.
func OpenLookup(url string, o lookup.Options, getenv func(string) string) (lookup.Driver, error) {
	scheme, _, _ := strings.Cut(url, ":")
	var known []string
	for _, l := range lookups {
		if l.scheme != scheme {
			known = append(known, l.scheme+"://")
			continue
		}
		if getenv != nil {
			fill(&o.User, getenv, l.user)
			fill(&o.Password, getenv, l.password)
			fill(&o.Token, getenv, l.token)
		}
		return l.open(url, o)
	}
	return nil, errkind.Errorf(errkind.Unsupported, "open table %s: this program has no such server; it has %s", lookup.Redact(url), strings.Join(known, ", "))
}

// fill sets what is empty from the environment.
func fill(to *string, getenv func(string) string, name string) {
	if *to == "" && name != "" {
		*to = getenv(name)
	}
}

func openRedis(url string, o lookup.Options) (lookup.Driver, error) {
	d, err := redis.Open(url, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openPostgres(url string, o lookup.Options) (lookup.Driver, error) {
	d, err := postgres.Open(url, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openFeast(url string, o lookup.Options) (lookup.Driver, error) {
	d, err := feast.Open(url, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}
