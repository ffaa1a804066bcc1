package contract

import (
	"regexp"
	"regexp/syntax"
)

// matcher tells whether a pattern matches a string.
type matcher struct {
	text  string
	runs  []run          // the pattern is ^runs$
	regex *regexp.Regexp // where runs is nil
}

// run is a class of ASCII characters, taken lo to hi times.
type run struct {
	class  [2]uint64
	lo, hi int // hi −1: no limit
}

func (r *run) has(c byte) bool { return c < 128 && r.class[c>>6]>>(c&63)&1 != 0 }

func newMatcher(pattern string) (*matcher, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return &matcher{text: pattern, runs: runsOf(pattern), regex: re}, nil
}

// match takes each run as long as it can; runsOf made sure that this needs no
// second try.
func (m *matcher) match(s string) bool {
	if m.runs == nil {
		return m.regex.MatchString(s)
	}
	i := 0
	for k := range m.runs {
		r := &m.runs[k]
		from := i
		for i < len(s) && (r.hi < 0 || i-from < r.hi) && r.has(s[i]) {
			i++
		}
		if i-from < r.lo {
			return false
		}
	}
	return i == len(s)
}

// runsOf takes a pattern apart that is an anchored sequence of ASCII characters
// and classes, each perhaps repeated, such as ^[A-Z]{3}-\d+$. It returns nil for others, and for
// those where a run of open length could take what the one after it needs.
func runsOf(pattern string) []run {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) < 3 ||
		re.Sub[0].Op != syntax.OpBeginText || re.Sub[len(re.Sub)-1].Op != syntax.OpEndText {
		return nil
	}
	var runs []run
	for _, sub := range re.Sub[1 : len(re.Sub)-1] {
		lo, hi := 1, 1
		switch sub.Op {
		case syntax.OpPlus:
			lo, hi, sub = 1, -1, sub.Sub[0]
		case syntax.OpStar:
			lo, hi, sub = 0, -1, sub.Sub[0]
		case syntax.OpQuest:
			lo, hi, sub = 0, 1, sub.Sub[0]
		case syntax.OpRepeat:
			lo, hi, sub = sub.Min, sub.Max, sub.Sub[0]
		}
		switch {
		case sub.Flags&syntax.FoldCase != 0:
			return nil
		case sub.Op == syntax.OpLiteral && (len(sub.Rune) == 1 || lo == 1 && hi == 1):
			for _, c := range sub.Rune {
				r := run{lo: lo, hi: hi}
				if c >= 128 {
					return nil
				}
				r.class[c>>6] |= 1 << (c & 63)
				runs = append(runs, r)
			}
		case sub.Op == syntax.OpCharClass:
			r := run{lo: lo, hi: hi}
			for i := 0; i < len(sub.Rune); i += 2 {
				if sub.Rune[i+1] >= 128 {
					return nil
				}
				for c := sub.Rune[i]; c <= sub.Rune[i+1]; c++ {
					r.class[c>>6] |= 1 << (c & 63)
				}
			}
			runs = append(runs, r)
		default:
			return nil
		}
	}
	for i := range runs {
		if runs[i].lo == runs[i].hi {
			continue
		}
		for j := i + 1; j < len(runs); j++ {
			if runs[i].class[0]&runs[j].class[0]|runs[i].class[1]&runs[j].class[1] != 0 {
				return nil
			}
			if runs[j].lo > 0 {
				break
			}
		}
	}
	return runs
}
