package archtest

import (
	"go/ast"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// checkPortTypes reports types of other modules in what a port exports:
// signatures of exported functions and methods, fields of exported types, and
// declared types of exported variables. Function bodies may use what they like.
func (f *file) checkPortTypes() {
	foreign := f.foreignNames()
	if len(foreign) == 0 {
		return
	}
	for _, d := range f.tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
				f.wantOwnTypes(d.Name.Name, d.Type, foreign)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						f.wantOwnTypes(s.Name.Name, s.Type, foreign)
					}
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if n.IsExported() && s.Type != nil {
							f.wantOwnTypes(n.Name, s.Type, foreign)
						}
					}
				}
			}
		}
	}
}

// wantOwnTypes walks a type expression; unexported struct fields are nobody's business.
func (f *file) wantOwnTypes(decl string, t ast.Expr, foreign map[string]string) {
	ast.Inspect(t, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			for _, field := range n.Fields.List {
				if len(field.Names) == 0 || field.Names[0].IsExported() {
					f.wantOwnTypes(decl, field.Type, foreign)
				}
			}
			return false
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok {
				if p, hit := foreign[pkg.Name]; hit {
					f.fault(n.Pos(), "port %s shows %s.%s of %s in %s: a port's API stands on its own types", f.dir, pkg.Name, n.Sel.Name, p, decl)
				}
			}
			return false
		}
		return true
	})
}

func receiverExported(recv *ast.FieldList) bool {
	exported := false
	ast.Inspect(recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !exported {
			exported = id.IsExported()
			return false
		}
		return true
	})
	return exported
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// foreignNames maps the names under which the file knows packages of other
// modules to their import paths. Without type information a package's own name
// is a guess from its path, so every usual form of it is entered.
func (f *file) foreignNames() map[string]string {
	names := map[string]string{}
	for _, spec := range f.tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !isThirdParty(p) || strings.HasPrefix(p, f.module+"/") {
			continue
		}
		if spec.Name != nil {
			names[spec.Name.Name] = p
			continue
		}
		base := path.Base(p)
		if majorVersion.MatchString(base) {
			base = path.Base(path.Dir(p))
		}
		base, _, _ = strings.Cut(base, ".") // yaml.v3, nats.go
		for _, n := range []string{base, strings.TrimPrefix(base, "go-"), strings.TrimSuffix(base, "-go")} {
			names[strings.ReplaceAll(n, "-", "_")] = p
			names[strings.ReplaceAll(n, "-", "")] = p
		}
	}
	return names
}
