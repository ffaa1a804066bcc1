package parquet

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pq "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
)

// readFile returns the rows of a file as maps and what it says about itself.
func readFile(t *testing.T, path string) (rows []map[string]any, about map[string]string, groups int) {
	t.Helper()
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	about = map[string]string{}
	for _, k := range r.MetaData().KeyValueMetadata() {
		about[k.Key] = *k.Value
	}
	for g := range r.NumRowGroups() {
		group := r.RowGroup(g)
		n := int(group.NumRows())
		first := len(rows)
		for range n {
			rows = append(rows, map[string]any{})
		}
		for c := range r.MetaData().Schema.NumColumns() {
			column, err := group.Column(c)
			if err != nil {
				t.Fatal(err)
			}
			name := r.MetaData().Schema.Column(c).Name()
			for i, v := range readColumn(t, column, n) {
				rows[first+i][name] = v
			}
		}
	}
	return rows, about, r.NumRowGroups()
}

func readColumn(t *testing.T, c file.ColumnChunkReader, n int) (out []any) {
	t.Helper()
	there := make([]int16, n)
	required := c.Descriptor().MaxDefinitionLevel() == 0
	read := func(batch func(at int, there []int16) (int64, int, error), value func(i int) any) {
		for at := 0; at < n; {
			total, values, err := batch(at, there[:n-at])
			if err != nil || total == 0 {
				t.Fatalf("column %s: %d of %d rows, %v", c.Descriptor().Name(), at, n, err)
			}
			v := 0
			for i := range int(total) {
				if required || there[i] == 1 {
					out = append(out, value(v))
					v++
				} else {
					out = append(out, nil)
				}
			}
			if v != values {
				t.Fatalf("column %s: %d values, %d levels", c.Descriptor().Name(), values, v)
			}
			at += int(total)
		}
	}
	switch c := c.(type) {
	case *file.Float64ColumnChunkReader:
		b := make([]float64, n)
		read(func(at int, there []int16) (int64, int, error) { return c.ReadBatch(int64(n-at), b, there, nil) }, func(i int) any { return b[i] })
	case *file.Int64ColumnChunkReader:
		b := make([]int64, n)
		read(func(at int, there []int16) (int64, int, error) { return c.ReadBatch(int64(n-at), b, there, nil) }, func(i int) any { return b[i] })
	case *file.BooleanColumnChunkReader:
		b := make([]bool, n)
		read(func(at int, there []int16) (int64, int, error) { return c.ReadBatch(int64(n-at), b, there, nil) }, func(i int) any { return b[i] })
	case *file.ByteArrayColumnChunkReader:
		b := make([]pq.ByteArray, n)
		read(func(at int, there []int16) (int64, int, error) { return c.ReadBatch(int64(n-at), b, there, nil) }, func(i int) any { return string(b[i]) })
	default:
		t.Fatalf("column %s has type %T", c.Descriptor().Name(), c)
	}
	return out
}

// exported is an export as read back: its rows by id, and its files.
type exported struct {
	rows   map[string]map[string]any
	files  []string
	about  map[string]string
	groups int
}

// readExport reads a folder; an id that is there twice is an error.
func readExport(t *testing.T, dir string) *exported {
	t.Helper()
	e := &exported{rows: map[string]map[string]any{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".parquet" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		e.files = append(e.files, filepath.ToSlash(rel))
		rows, about, groups := readFile(t, path)
		e.groups += groups
		e.about = about
		for _, r := range rows {
			id := r["id"].(string)
			if e.rows[id] != nil {
				return fmt.Errorf("id %q is there twice, the second time in %s", id, path)
			}
			hour := hourOf(r["time"].(int64))
			want := (&hours{dir: dir}).folder(hour)
			if filepath.Dir(path) != want {
				return fmt.Errorf("id %q lies in %s, expected %s", id, path, want)
			}
			e.rows[id] = r
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(e.files)
	return e
}

// leftovers are the names beside an export that should not be there.
func leftovers(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		names = append(names, strings.TrimPrefix(n, filepath.Dir(dir)))
	}
	return names
}
