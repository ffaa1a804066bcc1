package pipeline

import "github.com/freshet-io/freshet/event"

// ResultColumn is a value that every result of a pipeline carries.
type ResultColumn struct {
	Name string
	Kind event.Kind
}

// ResultColumns are the values of a result in its order: the features, and the
// fields that feed the model, under "features"; and what the models answered, as
// "score" and under "outputs".
func (p *Plan) ResultColumns() (features, outputs []ResultColumn) {
	of := func(c int) ResultColumn { return ResultColumn{p.columns[c].name, p.columns[c].kind} }
	for _, c := range p.results {
		features = append(features, of(c))
	}
	for _, ip := range p.infers {
		for i := range ip.outputs {
			if c := ip.outputs[i].column; c >= 0 { // vectors are no columns
				outputs = append(outputs, of(c))
			}
		}
	}
	return features, outputs
}
