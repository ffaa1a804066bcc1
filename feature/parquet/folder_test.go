package parquet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
)

func TestAnExportIsReplacedOnlyWhenAsked(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	publish(t, b, "out", "p", result("1", "2018-04-01T00:00:00Z", ""))
	o := options(t, "out")
	mustExport(t, b, o)
	publish(t, b, "out", "p", result("2", "2018-04-02T00:00:00Z", ""))
	if _, err := Export(t.Context(), b, o); !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), "--overwrite") {
		t.Errorf("got %v", err)
	}
	if got := readExport(t, o.Dir); len(got.rows) != 1 {
		t.Errorf("the refused export changed the folder: %v", got.files)
	}
	o.Overwrite = true
	if _, got := mustExport(t, b, o); len(got.rows) != 2 {
		t.Errorf("rows %v", got.rows)
	}
}

func TestAFolderThatIsNoExportIsNeverReplaced(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	o := options(t, "out")
	o.Overwrite = true
	precious := filepath.Join(o.Dir, "thesis.txt")
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), b, o); !errkind.Is(err, errkind.Config) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if err := os.Remove(precious); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), b, o); err != nil {
		t.Errorf("an empty folder was refused: %v", err)
	}
	o.Dir = precious + ".file"
	if err := os.WriteFile(o.Dir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), b, o); !errkind.Is(err, errkind.Config) {
		t.Errorf("a file as folder: %v", err)
	}
}

var errFull = errors.New("no space left on device")

// failing is a file of a disk that fills up.
type failing struct {
	output64
	left *int
	at   string // write, sync or close
}

func (f failing) Write(p []byte) (int, error) {
	if f.at == "write" {
		if *f.left -= len(p); *f.left < 0 {
			return 0, errFull
		}
	}
	return f.output64.Write(p)
}

func (f failing) Sync() error {
	if f.at == "sync" {
		return errFull
	}
	return f.output64.Sync()
}

func (f failing) Close() error {
	err := f.output64.Close()
	if f.at == "close" {
		return errFull
	}
	return err
}

// TestAFailureLeavesWhatWasThere lets writing fail everywhere and looks at the folder.
func TestAFailureLeavesWhatWasThere(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 2})
	for i := range 20 {
		publish(t, b, "out", "p", result(fmt.Sprint(i), fmt.Sprintf("2018-04-01T%02d:00:00Z", i%8), `,"features":{"a":1.5,"s":"x"}`))
	}
	try := func(o Options, at string, left int) error {
		o.create = func(path string) (output64, error) {
			if at == "create" {
				return nil, errFull
			}
			f, err := os.Create(path)
			return failing{f, &left, at}, err
		}
		_, err := Export(t.Context(), b, o)
		return err
	}
	before := options(t, "out")
	mustExport(t, b, before)
	before.Overwrite = true
	places := map[string][]int{"create": {0}, "sync": {0}, "close": {0}}
	for n := 0; n < 16000; n += 2000 {
		places["write"] = append(places["write"], n)
	}
	failed := 0
	for at, sizes := range places {
		for _, n := range sizes {
			for _, o := range []Options{before, options(t, "out")} {
				err := try(o, at, n)
				switch {
				case err == nil && at == "write": // it fitted
				case !errors.Is(err, errFull):
					t.Fatalf("%s at %d: %v", at, n, err)
				default:
					failed++
					if _, err := os.Stat(o.Dir); err == nil != o.Overwrite {
						t.Fatalf("%s at %d: the new folder is there, or the old one is not", at, n)
					}
				}
				if l := leftovers(t, o.Dir); l != nil {
					t.Fatalf("%s at %d left %v", at, n, l)
				}
			}
			if got := readExport(t, before.Dir); len(got.rows) != 20 {
				t.Fatalf("%s at %d: the old export has %d rows", at, n, len(got.rows))
			}
		}
	}
	if failed < 10 {
		t.Errorf("only %d failures were tried", failed)
	}
}

func TestAnInterruptedExportLeavesNothing(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	var payloads []string
	for i := range 3 * fetchRecords {
		payloads = append(payloads, result(fmt.Sprint(i), "2018-04-01T00:00:00Z", ""))
	}
	publish(t, b, "out", "p", payloads...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := options(t, "out")
	o.Progress = func(p Progress) {
		if p.Total != int64(len(payloads)) {
			t.Errorf("progress %+v", p)
		}
		if p.Records > fetchRecords {
			cancel()
		}
	}
	if _, err := Export(ctx, b, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.Dir); err == nil || leftovers(t, o.Dir) != nil {
		t.Errorf("left: %v, %v", err, leftovers(t, o.Dir))
	}
}
