package pipeline

import "github.com/freshet-io/freshet/event"

// qualityLabel checks the label by which a step's rollouts judge quality, and
// returns its field; "" without.
func (p *planner) qualityLabel(in *Infer, ip *inferPlan) string {
	ro := &in.Rollout
	if ro.Label == "" {
		if ro.Gates["quality"] > 0 {
			p.fault(ro.qualityPos, "rollout-label", "add `label: FIELD` to rollout: the labels' field that says what the score should have been",
				"infer.rollout.gates.quality is judged by labels, and infer.rollout names none")
		}
		return ""
	}
	l := p.spec.Labels
	switch {
	case l == nil:
		p.fault(ro.labelPos, "rollout-label", "add a section `labels` with the topic, the contract and the event's id", "infer.rollout.label: the pipeline has no labels")
		return ""
	case l.Event == "":
		p.fault(ro.labelPos, "rollout-label", "join labels with `event: FIELD`, the label's field with the id of the event that it is about",
			"infer.rollout.label: labels are joined by a key, and a score is of one event")
		return ""
	case p.plan.LabelContract == nil:
		return "" // reported already
	}
	f, ok := p.plan.LabelContract.Field(ro.Label)
	switch {
	case !ok:
		p.fault(ro.labelPos, "unknown-field", didYouMean(ro.Label, fieldNames(p.plan.LabelContract)), "infer.rollout.label: the contract %s has no field %q", l.Contract, ro.Label)
	case f.Kind != event.Float && f.Kind != event.Int && f.Kind != event.Bool:
		p.fault(ro.labelPos, "field-type", "choose a number, or true and false, which count as 1 and 0", "infer.rollout.label: %q is a %s", ro.Label, f.Kind)
	case ip.service != nil && ip.score < 0:
		p.fault(ro.labelPos, "rollout-label", "name one of the outputs `score`", "infer.rollout.label: labels are compared with the score, and no output is called score")
	default:
		return ro.Label
	}
	return ""
}
