// Package archtest keeps the picture of docs/ARCHITECTURE.md true: it reads the
// import statements and the exported declarations of the module's files and
// reports every arrow that does not point down.
//
// The checker is a pure function over a map of files, so that its tests can
// turn an arrow and see it fail. It parses the files in the process instead of
// asking the go command: the test cache notices what a test reads, and cannot
// notice what a child process reads.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Check returns what is wrong with the module's files, one line a fault, each
// beginning with the file's path and line; nil when the picture holds. The keys
// of files are slash-separated paths relative to the module's root, the values
// are Go sources.
func Check(module string, files map[string][]byte) []string {
	var faults []string
	for name, src := range files {
		f := &file{module: module, name: name, dir: path.Dir(name), fset: token.NewFileSet()}
		tree, err := parser.ParseFile(f.fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: read Go source: %v", name, err))
			continue
		}
		f.tree = tree
		f.checkPlace()
		f.checkImports()
		if isPort(f.dir) && !f.isTest() {
			f.checkPortTypes()
		}
		faults = append(faults, f.faults...)
	}
	slices.Sort(faults)
	return faults
}

// file is one source file under inspection.
type file struct {
	module, name, dir string
	fset              *token.FileSet
	tree              *ast.File
	faults            []string
}

func (f *file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f *file) fault(at token.Pos, format string, args ...any) {
	where := fmt.Sprintf("%s:%d: ", f.name, f.fset.Position(at).Line)
	f.faults = append(f.faults, where+fmt.Sprintf(format, args...))
}

// checkPlace wants every package in a room of the table, under a name that says something.
func (f *file) checkPlace() {
	if f.dir == "." {
		f.fault(f.tree.Name.Pos(), "the module's root holds no Go files: move it into a room")
		return
	}
	if roomOf(f.dir) == nil {
		f.fault(f.tree.Name.Pos(), "package %s has no place in the picture: add its room to the table in internal/archtest/rooms.go and to docs/ARCHITECTURE.md", f.dir)
	}
	names := append(strings.Split(f.dir, "/"), strings.TrimSuffix(f.tree.Name.Name, "_test"))
	for _, n := range names {
		if slices.Contains(emptyNames, n) {
			f.fault(f.tree.Name.Pos(), "package %s: the name %q says nothing: name the package after what it gives", f.dir, n)
			return
		}
	}
}

func (f *file) checkImports() {
	for _, spec := range f.tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused it already
		}
		if dir, ours := strings.CutPrefix(p, f.module+"/"); ours {
			f.checkArrow(spec.Pos(), dir)
			continue
		}
		if from := roomOf(f.dir); from != nil && from.wordsOnly && isThirdParty(p) && !f.isTest() {
			f.fault(spec.Pos(), "%s imports %s: words stand on the standard library alone", f.dir, p)
		}
	}
}

// checkArrow judges one import of a package of this module.
func (f *file) checkArrow(at token.Pos, dir string) {
	from, to := roomOf(f.dir), roomOf(dir)
	switch {
	case from == nil:
		return // checkPlace has said so
	case to == nil:
		f.fault(at, "%s imports %s, which has no place in the picture", f.dir, dir)
	case from.path == to.path:
		return // inside one room
	case to.forTests && f.isTest():
		return
	case to.kind == suite:
		if !f.isTest() {
			f.fault(at, "%s imports %s outside of a test: conformance suites belong to tests", f.dir, dir)
		}
	case to.kind == adapter:
		if from.kind == adapter && !f.isTest() {
			f.fault(at, "adapter %s imports adapter %s: adapters know their port and what is below it", from.path, to.path)
		} else if !from.seesAdapters && !f.isTest() {
			f.fault(at, "%s imports adapter %s: only internal/builtin, benchmarks, examples and tests do", f.dir, dir)
		}
	case to.layer >= from.layer:
		f.fault(at, "%s imports %s: arrows point down only, and %s lies %s", f.dir, dir, to.path, side(to.layer, from.layer))
	}
}

func side(to, from int) string {
	if to == from {
		return "beside it"
	}
	return "above it"
}

// isThirdParty reports whether an import path is outside of the standard
// library: its first element is a host name.
func isThirdParty(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return strings.Contains(first, ".")
}
