package pipeline

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/event"
)

type tableKind struct {
	key, article string
	object       *object
}

// tableKinds are what a table can be, by the key that says it.
var tableKinds = []tableKind{
	{"file", "a file", &fileTableKeys},
	{"topic", "a topic", &topicTableKeys},
	{"url", "a server", &serverTableKeys},
}

func (r *reader) tables(n *yaml.Node) (ts []Table) {
	if n == nil {
		return nil
	}
	known := union(&fileTableKeys, &topicTableKeys, &serverTableKeys)
	for _, e := range r.entries(n, "tables") {
		t := Table{Name: e.key, pos: e.pos}
		what := "table " + e.key
		m := r.fields(e.value, what, known...)
		var found []string
		for _, k := range tableKinds {
			if m[k.key] != nil {
				found = append(found, k.key)
			}
		}
		switch {
		case len(found) > 1:
			r.fault(posOf(m[found[1]]), "two-places", "keep one, or make two tables", "%s has both %q and %q", what, found[0], found[1])
		case len(found) == 1:
			k := tableKinds[slices.IndexFunc(tableKinds, func(k tableKind) bool { return k.key == found[0] })]
			r.only(m, known, "table", what, k.article, k.object)
			r.missing(e.value, m, what, k.object)
		case e.value.Kind == yaml.MappingNode:
			r.fault(posOf(e.value), "missing-key", "add `file: tables/"+e.key+".csv`, `topic: "+e.key+"` or `url: redis://…`", `%s needs the key "file", "topic" or "url"`, what)
		}
		t.File = r.str(m["file"], what+".file")
		t.Topic = r.name(m["topic"], what+".topic")
		t.Contract, t.contractPos = r.str(m["contract"], what+".contract"), posOf(m["contract"])
		t.Key = r.str(m["key"], what+".key")
		t.Time = r.str(m["time"], what+".time")
		if m["url"] != nil {
			r.server(e.value, m, what, &t)
		}
		ts = append(ts, t)
	}
	return ts
}

// server reads what only tables on a server have.
func (r *reader) server(n *yaml.Node, m map[string]*yaml.Node, what string, t *Table) {
	t.URL, t.urlPos = r.str(m["url"], what+".url"), posOf(m["url"])
	t.From = r.str(m["from"], what+".from")
	if t.URL != "" {
		// A URL may hold a password: no message shows more of it than its scheme.
		remedy := "write for example redis://host:6379/0, postgres://host/database or feast+http://host:6566"
		u, err := url.Parse(t.URL)
		switch {
		case err != nil:
			r.fault(t.urlPos, "url", remedy+", and percent-encode special characters in user and password", "%s.url is not a URL", what)
		case !slices.Contains([]string{"redis", "rediss", "postgres", "postgresql", "feast+http", "feast+https"}, u.Scheme):
			r.fault(t.urlPos, "url", remedy, "%s.url begins with %q, which no table can be read from", what, u.Scheme+":")
		case u.Host == "" && !strings.HasPrefix(u.Scheme, "postgres"):
			r.fault(t.urlPos, "url", remedy, "%s.url names no host", what)
		case m["from"] == nil && strings.HasPrefix(u.Scheme, "postgres"):
			r.fault(posOf(n), "missing-key", "add `from: TABLE`", "%s needs the key %q: the table of the database", what, "from")
		case m["time"] != nil && strings.HasPrefix(u.Scheme, "feast"):
			r.fault(posOf(m["time"]), "table-kind", "take it out: values carry the feature server's own times", "%s is on a feature server and cannot have %q", what, "time")
		case m["from"] == nil && strings.HasPrefix(u.Scheme, "feast"):
			r.fault(posOf(n), "missing-key", "add `from: VIEW`", "%s needs the key %q: the feature view", what, "from")
		}
	}
	if f := m["fields"]; f != nil {
		for _, e := range r.entries(f, what+".fields") {
			t.Fields = append(t.Fields, TableField{e.key, event.Kind(r.choice(e.value, what+".fields."+e.key, kindWords)), e.pos})
		}
		if t.Fields == nil && f.Kind == yaml.MappingNode {
			r.fault(posOf(f), "empty", "add for example `risk: number`", "%s.fields is empty", what)
		}
	}
	t.CacheRows, t.CacheTTL = defaultCacheRows, defaultCacheTTL
	if c := m["cache"]; c != nil {
		cm := r.object(c, what+".cache", &cacheKeys)
		t.CacheRows = r.integer(cm["rows"], what+".cache.rows", 0, maxCacheRows, defaultCacheRows)
		t.CacheTTL = r.positive(cm["ttl"], what+".cache.ttl", "1m", defaultCacheTTL)
	}
	t.Timeout = r.positive(m["timeout"], what+".timeout", "1s", defaultTimeout)
	t.OnError = LookupPolicy(r.choice(m["on_error"], what+".on_error", errorWords))
}

func (r *reader) state(n *yaml.Node) StateSpec {
	s := StateSpec{Store: storeWords[0], Memory: defaultMemory, Every: defaultCheckpoint}
	if n == nil {
		return s
	}
	s.pos = posOf(n)
	m := r.object(n, "state", &stateKeys)
	s.Store = storeWords[r.choice(m["store"], "state.store", storeWords)]
	s.Memory = r.bytes(m["memory"], "state.memory", minMemory, defaultMemory)
	if m["memory"] != nil && s.Store == "memory" {
		r.fault(posOf(m["memory"]), "memory-store", "add `store: pebble`, or take it out", "state.memory bounds what is kept in memory before the disk is used, and the store memory has no disk")
	}
	if c := m["checkpoints"]; c != nil {
		s.Checkpoints = r.str(c, "state.checkpoints")
		r.checkpoints(posOf(c), s.Checkpoints)
	}
	s.Every = r.positive(m["every"], "state.every", "30s", defaultCheckpoint)
	return s
}

// checkpoints checks the URL of a place for checkpoints. It may hold a secret, and is not shown.
func (r *reader) checkpoints(at Pos, s string) {
	if s == "" {
		return
	}
	remedy := "write for example file:checkpoints, file:///var/lib/freshet or s3://bucket/prefix?endpoint=http://host:9000"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		r.fault(at, "url", remedy, "state.checkpoints is not a URL")
	case u.Scheme == "":
		r.fault(at, "url", remedy, "state.checkpoints must be a URL that begins with file: or s3:")
	case u.Scheme != "file" && u.Scheme != "s3":
		r.fault(at, "url", remedy, "state.checkpoints begins with %q, where no checkpoints can be kept", u.Scheme+":")
	case u.Scheme == "file" && u.Host != "" && u.Host != "localhost":
		r.fault(at, "url", remedy, "state.checkpoints names the host %q, and a folder must be on this one: file:/// has three slashes", u.Host)
	case u.Scheme == "file" && (u.Path == "" || u.Path == "/") && u.Opaque == "":
		r.fault(at, "url", remedy, "state.checkpoints names no folder")
	case u.Scheme == "s3" && u.User != nil:
		r.fault(at, "url", "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials", "state.checkpoints holds credentials, which do not belong there")
	case u.Scheme == "s3" && u.Host == "":
		r.fault(at, "url", remedy, "state.checkpoints names no bucket")
	}
}

func (r *reader) outputs(n *yaml.Node) (os []Output) {
	if n == nil {
		return nil
	}
	for _, e := range r.entries(n, "outputs") {
		o := Output{Topic: e.key, Partitions: defaultParts, pos: e.pos}
		if !validTopic.MatchString(e.key) {
			r.fault(e.pos, "name", "use letters, digits, dots, dashes and underscores", "output %q is not a valid topic name", e.key)
		}
		if e.value.Tag != "!!null" {
			m := r.object(e.value, "output "+e.key, &outputKeys)
			o.Partitions = r.integer(m["partitions"], "partitions", 1, maxPartitions, defaultParts)
			if a := m["also"]; a != nil {
				for i, v := range r.items(a, "also") {
					what := fmt.Sprintf("output %s: also[%d]", e.key, i)
					url := r.str(v, what)
					r.busURL(posOf(v), url, what, senderSchemes, "postgres://host/database?table=scores")
					o.Also = append(o.Also, url)
				}
			}
			o.Retention, _ = r.notNegative(m["retention"], "retention", "write 0s to keep results for ever")
		}
		os = append(os, o)
	}
	return os
}

// union lists the keys of several objects, each once.
func union(objects ...*object) (names []string) {
	for _, o := range objects {
		for _, n := range o.names() {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

// only reports keys, among those known, that do not belong to this kind of feature or table.
func (r *reader) only(m map[string]*yaml.Node, known []string, thing, what, kind string, o *object) {
	for _, k := range known {
		if n := m[k]; n != nil && !slices.Contains(o.names(), k) {
			r.fault(posOf(n), thing+"-kind", "take it out, or make a second "+thing+" of it", "%s is %s and cannot have %q", what, kind, k)
		}
	}
}
