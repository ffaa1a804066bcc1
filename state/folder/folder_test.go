package folder_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/folder"
	"github.com/freshet-io/freshet/state/statetest"
)

func TestAFolderHoldsObjects(t *testing.T) {
	statetest.RunObjects(t, func(t testing.TB) (state.Objects, func(t testing.TB) state.Objects) {
		dir := filepath.Join(t.TempDir(), "made", "here")
		open := func(t testing.TB) state.Objects {
			f, err := folder.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		return open(t), open
	})
}

func TestWhatADeadProcessWasWritingIsNeverListedAndGoesInTheEnd(t *testing.T) {
	dir := t.TempDir()
	f, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Put(t.Context(), "a/b", 1, strings.NewReader("v")); err != nil {
		t.Fatal(err)
	}
	young, old := filepath.Join(dir, "a", ".making-1"), filepath.Join(dir, "a", ".making-2")
	for _, path := range []string{young, old} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	all, err := f.List(t.Context(), "")
	if err != nil || len(all) != 1 || all[0].Name != "a/b" {
		t.Errorf("List: %v, %v", all, err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old one is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young one may be another process's: %v", err)
	}
}
