package builtin

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
)

func TestStateStoresAreOpenedByKind(t *testing.T) {
	for _, kind := range []string{"memory", "pebble"} {
		s, err := OpenStore(kind, filepath.Join(t.TempDir(), "spill"), StoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Space("task", "step")
		if err != nil {
			t.Fatal(err)
		}
		b := p.NewBatch()
		b.Put([]byte("k"), []byte("v"), 0)
		found := false
		if err := p.Apply(b); err != nil {
			t.Fatal(err)
		}
		if err := p.Load([][]byte{[]byte("k")}, func(_ int, v []byte) { found = string(v) == "v" }); err != nil || !found {
			t.Errorf("%s: found %v, %v", kind, found, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := OpenStore("rocksdb", "", StoreOptions{}); !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "memory, pebble") {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := OpenStore("pebble", "", StoreOptions{}); !errkind.Is(err, errkind.Config) {
		t.Errorf("pebble without a folder: %v", err)
	}
}

func TestObjectStoresAreOpenedByURL(t *testing.T) {
	dir := t.TempDir()
	o, err := OpenObjects(t.Context(), "file://"+filepath.ToSlash(dir)+"/objects")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Put(t.Context(), "a/b", 1, strings.NewReader("v")); err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if _, err := OpenObjects(t.Context(), "gs://user:hunter2@bucket"); !errkind.Is(err, errkind.Unsupported) || !strings.Contains(err.Error(), "s3://") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an unknown scheme: %v", err)
	}
	for _, url := range []string{"file://host/path", "file:", "file:///", "file:///a?b=c", "s3://"} {
		if _, err := OpenObjects(t.Context(), url); !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
