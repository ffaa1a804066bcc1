package policies

import (
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator/trace"
)

func TestFreshnessHasAPriceAlongTheFront(t *testing.T) {
	bursts, err := trace.Generate("bursts", 1, 9*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	fronts, err := Fronts(t.Context(), Config{World: DefaultWorld(), Traces: []*trace.Trace{bursts}})
	if err != nil {
		t.Fatal(err)
	}
	os := fronts[0].Outcomes
	if len(os) < 3 || os[0].Cost < 1 {
		t.Fatalf("the front is %+v", os)
	}
	for i := 1; i < len(os); i++ {
		if os[i].Cost <= os[i-1].Cost || os[i].Late >= os[i-1].Late {
			t.Errorf("%+v costs no more than %+v, or is no fresher", os[i], os[i-1])
		}
	}
	var b strings.Builder
	if err := WriteFronts(&b, fronts); err != nil || !strings.Contains(b.String(), "COST/BOUND") {
		t.Errorf("%q, %v", b.String(), err)
	}
}
