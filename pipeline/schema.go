package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
)

// form is the JSON Schema of what stands behind a key. Any text may be written
// as ${NAME}, so every form of a scalar takes a text with a variable as well.
type form map[string]any

// Schema returns the JSON Schema of pipeline files, for editors. It is draft-07,
// which is what they complete from. It knows each key and what may stand behind
// it; names, files and the order of steps are left to Load and MakePlan.
func Schema() []byte {
	f := fileKeys.form()
	f["$schema"] = "http://json-schema.org/draft-07/schema#"
	f["title"] = "Freshet pipeline"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		panic(fmt.Sprintf("pipeline: the schema's own tables cannot be written as JSON: %v", err))
	}
	return b.Bytes()
}

// form is the object as JSON Schema.
func (o *object) form() form {
	properties := form{}
	var required []string
	for _, k := range o.keys {
		p := form{"description": k.doc}
		for word, v := range k.form {
			p[word] = v
		}
		properties[k.name] = p
		if k.needed != "" {
			required = append(required, k.name)
		}
	}
	f := form{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		f["required"] = required
	}
	if o.rules != nil {
		f["allOf"] = o.rules
	}
	return f
}

// withVariable is the pattern of texts that ${NAME} may stand in.
const withVariable = `\$\{[^}]*\}`

func textForm() form                 { return form{"type": "string", "minLength": 1} }
func nullForm() form                 { return form{"type": "null"} }
func yesForm() form                  { return form{"const": true} }
func listForm(of form) form          { return form{"type": "array", "items": of} }
func mapForm(of form) form           { return form{"type": "object", "additionalProperties": of} }
func anyForm(fs ...form) form        { return form{"anyOf": fs} }
func oneForm(fs ...form) form        { return form{"oneOf": fs} }
func exprForm() form                 { return form{"type": []string{"string", "number", "boolean"}, "minLength": 1} }
func literalForm() form              { return form{"type": []string{"string", "number", "boolean"}} }
func topicForm() form                { return patternForm(validTopic) }
func variableForm() form             { return form{"type": "string", "pattern": withVariable} }
func boolForm() form                 { return anyForm(form{"type": "boolean"}, variableForm()) }
func choiceForm(words []string) form { return anyForm(form{"enum": words}, variableForm()) }
func patternForm(p *regexp.Regexp) form {
	return form{"type": "string", "pattern": p.String() + "|" + withVariable}
}
func exactlyOneForm(names ...string) form { return oneForm(requiredForms(names)...) }

func requiredForms(names []string) (fs []form) {
	for _, n := range names {
		fs = append(fs, form{"required": []string{n}})
	}
	return fs
}

// namedForm is a mapping whose keys follow a pattern.
func namedForm(p *regexp.Regexp, of form) form {
	f := mapForm(of)
	f["propertyNames"] = form{"pattern": p.String()}
	return f
}

// filledForm is a list or a mapping that holds something.
func filledForm(f form) form {
	f["minItems"], f["minProperties"] = 1, 1
	return f
}

// neverForm refuses keys beside each other, unless one of others is there too.
func neverForm(together []string, unless ...string) form {
	all := []form{{"required": together}}
	for _, f := range requiredForms(unless) {
		all = append(all, form{"not": f})
	}
	return form{"not": form{"allOf": all}}
}

func wholeForm(lo, hi int) form {
	return anyForm(form{"type": "integer", "minimum": lo, "maximum": hi}, variableForm())
}

// shareForm is a number between 0 and 1, both left out.
func shareForm() form {
	return anyForm(form{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, variableForm())
}

const durationPattern = `^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^\+?[0-9]{1,5}d$|` + withVariable

// durationForm is a duration of 0s or longer.
func durationForm() form {
	return anyForm(form{"const": 0}, form{"type": "string", "pattern": durationPattern})
}

// positiveForm is a duration that is longer than nothing.
func positiveForm() form {
	return form{"type": "string", "pattern": durationPattern, "not": form{"pattern": "^[^1-9$]*$"}}
}

// bytesForm is a number of bytes.
func bytesForm() form {
	return anyForm(form{"type": "integer", "minimum": minMemory}, form{"type": "string", "pattern": `^[0-9]+ *([KMGT]iB)?$|` + withVariable})
}

// numberForm is a number of at least 0.
func numberForm() form {
	return anyForm(form{"type": "number", "minimum": 0}, variableForm())
}
