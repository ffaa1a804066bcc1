package pipeline

import "github.com/freshet-io/freshet/event"

// ResultColumn is a value that every result of a pipeline carries.
type ResultColumn struct {
	Name string
	Kind event.Kind
}

// ResultColumns are the values of a result in its order: the features, and the
// fields that feed the model, under "features"; and what the model answered, as
// "score" and under "outputs".
func (p *Plan) ResultColumns() (features, outputs []ResultColumn) {
	of := func(c int) ResultColumn { return ResultColumn{p.columns[c].name, p.columns[c].kind} }
	for _, c := range p.results {
		features = append(features, of(c))
	}
	if p.infer != nil {
		for i := range p.infer.outputs {
			outputs = append(outputs, of(p.infer.outputs[i].column))
		}
	}
	return features, outputs
}
