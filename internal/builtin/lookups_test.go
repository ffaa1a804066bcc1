package builtin

import (
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lookup"
)

func TestTablesOfEveryServerAreOpened(t *testing.T) {
	o := lookup.Options{From: "merchants", Key: "id", Fields: []lookup.Field{{Name: "risk"}}}
	asked := map[string]bool{}
	getenv := func(name string) string { asked[name] = true; return "x" }
	for _, scheme := range []string{"redis", "rediss", "postgres", "postgresql", "feast+http", "feast+https"} {
		d, err := OpenLookup(scheme+"://127.0.0.1:1", o, getenv)
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		if err := d.Check(t.Context()); !errkind.Is(err, errkind.Transient) {
			t.Errorf("%s: Check without a server: %v (kind %v)", scheme, err, errkind.Of(err))
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	for _, name := range []string{"REDIS_USERNAME", "REDIS_PASSWORD", "PGUSER", "PGPASSWORD", "FEAST_TOKEN"} {
		if !asked[name] {
			t.Errorf("%s is not read", name)
		}
	}
}

func TestUnknownServerNamesTheKnown(t *testing.T) {
	d, err := OpenLookup("mysql://u:s3cret@h/d", lookup.Options{}, nil)
	if d != nil || !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "redis://") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v, %v", d, err)
	}
	if d, err := OpenLookup("redis://h", lookup.Options{}, nil); d != nil || !errkind.Is(err, errkind.Config) {
		t.Errorf("without fields: got %v, %v", d, err)
	}
}
