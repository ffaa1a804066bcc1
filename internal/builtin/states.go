package builtin

import (
	"context"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/folder"
	"github.com/freshet-io/freshet/state/memory"
	"github.com/freshet-io/freshet/state/pebble"
	"github.com/freshet-io/freshet/state/s3"
)

// StoreOptions is what the program passes to whichever state store is opened.
type StoreOptions struct {
	Logger *slog.Logger
	// CacheBytes bounds the cache of a store on disk; 0 is its default.
	CacheBytes int64
	// Limits are those of the store.
	Limits state.Config
}

// stores lists the state stores by kind.
var stores = []struct {
	kind string
	open func(dir string, o StoreOptions) (state.Freezer, error)
}{
	{"memory", openMemory},
	{"pebble", openPebble},
}

// OpenStore opens an empty state store of a kind, memory or pebble; one on disk
// lies in dir, which is emptied. Another kind is Unsupported.
func OpenStore(kind, dir string, o StoreOptions) (*state.Store, error) {
	var known []string
	for _, s := range stores {
		if s.kind != kind {
			known = append(known, s.kind)
			continue
		}
		d, err := s.open(dir, o)
		if err != nil {
			return nil, err
		}
		store, err := state.New(d, o.Limits)
		if err != nil {
			_ = d.Close()
			return nil, err
		}
		return store, nil
	}
	return nil, errkind.Errorf(errkind.Unsupported, "open state store: this program has no %q; it has %s", kind, strings.Join(known, ", "))
}

func openMemory(string, StoreOptions) (state.Freezer, error) { return memory.Open(), nil }

func openPebble(dir string, o StoreOptions) (state.Freezer, error) {
	if dir == "" {
		return nil, errkind.New(errkind.Config, "open state store: pebble needs a folder")
	}
	s, err := pebble.Open(dir, pebble.Options{Logger: o.Logger, CacheBytes: o.CacheBytes})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// objects lists the object stores by the scheme of their URL.
var objects = []struct {
	scheme string
	open   func(ctx context.Context, rawURL string) (state.Objects, error)
}{
	{"file", openFolder},
	{"s3", openS3},
}

// OpenObjects opens the object store that rawURL names: file:///path, a folder, or
// s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION, with the credentials
// of the environment. Its calls are repeated where that may help. Another scheme
// is Unsupported.
func OpenObjects(ctx context.Context, rawURL string) (state.Objects, error) {
	scheme, _, _ := strings.Cut(rawURL, ":")
	var known []string
	for _, s := range objects {
		if s.scheme == scheme {
			o, err := s.open(ctx, rawURL)
			if err != nil {
				return nil, err
			}
			return state.WithRetry(o, state.Retry{}), nil
		}
		known = append(known, s.scheme+"://")
	}
	// The rest of the URL is not repeated: it may hold a secret.
	return nil, errkind.Errorf(errkind.Unsupported, "open object store %q: this program has %s", scheme, strings.Join(known, ", "))
}

func openFolder(_ context.Context, rawURL string) (state.Objects, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || u.Path == "" || u.Path == "/" {
		return nil, errkind.New(errkind.Config, "open object store: a folder is written file:///path")
	}
	f, err := folder.Open(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func openS3(ctx context.Context, rawURL string) (state.Objects, error) {
	b, err := s3.Open(ctx, rawURL, s3.Options{})
	if err != nil {
		return nil, err
	}
	return b, nil
}
