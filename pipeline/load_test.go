package pipeline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/pipeline"
)

func TestEveryKeyIsRead(t *testing.T) {
	files, err := filepath.Glob("testdata/load/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	env := func(name string) (string, bool) { return "redis://:secret@cache:6379/1", name == "REDIS_URL" }
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			spec, faults := pipeline.Load(file, env)
			if len(faults) > 0 {
				t.Fatal(pipeline.Error(faults))
			}
			var b strings.Builder
			show(&b, "", reflect.ValueOf(spec).Elem())
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(read(t, golden)), b.String()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// show prints what a value exports, one line for each that is not zero.
func show(b *strings.Builder, path string, v reflect.Value) {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return
		}
		if v.Kind() == reflect.Interface {
			if p := v.Elem(); p.Kind() == reflect.Pointer {
				path += "." + p.Type().Elem().Name()
			}
		}
		show(b, path, v.Elem())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				show(b, strings.TrimPrefix(path+"."+f.Name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			show(b, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		for _, k := range keys {
			show(b, path+"."+k.String(), v.MapIndex(k))
		}
	default:
		if !v.IsZero() || strings.HasSuffix(path, ".Aggregate") {
			fmt.Fprintf(b, "%s = %s\n", path, word(v.Interface()))
		}
	}
}

func word(v any) string {
	switch v := v.(type) {
	case feature.Shape:
		return []string{"sliding", "panes", "tumbling", "session"}[v]
	case string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}

func TestALatenessOfZeroOverridesTheContracts(t *testing.T) {
	for text, want := range map[string]time.Duration{"time: {lateness: 0s}": 0, "time: {}": time.Hour} {
		spec, faults := pipeline.Parse("p.yaml", []byte(`
name: p
source: {topic: t, contract: c.json, `+text+`}
labels: {topic: l, contract: c.json, event: e, `+text+`}
steps: [{route: [{to: r}]}]`), nil)
		if len(faults) > 0 {
			t.Fatal(pipeline.Error(faults))
		}
		if source, labels := pipeline.LatenessOf(spec); source != want || labels != want {
			t.Errorf("%s over contracts with 1h: source %v, labels %v, want %v", text, source, labels, want)
		}
	}
}
