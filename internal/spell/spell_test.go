package spell

import "testing"

func TestNearest(t *testing.T) {
	options := []string{"source", "steps", "outputs", "freshness", "customer_tx_1d", "customer_tx_7d", "by"}
	for word, want := range map[string]string{
		"sorce": "source", "Steps": "steps", "freshnes": "freshness", "customer_tx_1": "customer_tx_1d",
		"zebra": "", "": "", "bu": "by", "oupttus": "outputs",
	} {
		if got := Nearest(word, options); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
