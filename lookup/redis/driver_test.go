package redis

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/lookup/lookuptest"
	"github.com/freshet-io/freshet/test/servers"
)

var _ lookup.Driver = (*Driver)(nil)

func url(address string) string { return "redis://:" + servers.Password + "@" + address + "/2" }

// client talks to the server directly.
func client(t testing.TB, address string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url(address))
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func text(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

func TestSuite(t *testing.T) {
	address := servers.Start(t, "redis")
	c := client(t, address)
	var tables atomic.Int64
	lookuptest.Run(t, lookuptest.Harness{
		Address: address,
		Secrets: []string{servers.Password},
		Put: func(t testing.TB, rows []lookuptest.Row) string {
			prefix := fmt.Sprintf("suite%d:", tables.Add(1))
			pipe := c.Pipeline()
			for _, r := range rows {
				var args []any
				for i, v := range r.Values {
					if v != nil {
						args = append(args, lookuptest.Fields[i].Name, text(v))
					}
				}
				if !r.At.IsZero() {
					args = append(args, "updated at", r.At.Unix())
				}
				pipe.HSet(t.Context(), prefix+r.Key, args...)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			return prefix
		},
		Open: func(t testing.TB, address, table string) lookup.Driver {
			d, err := Open(url(address), lookup.Options{From: table, Fields: lookuptest.Fields, Time: "updated at"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}
