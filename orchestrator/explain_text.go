package orchestrator

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func choiceText(workers, batch int, r Route) string {
	text := workersText(workers)
	if batch > 0 {
		text += fmt.Sprintf(" at up to %d events a call", batch)
	}
	if r.Share > 0 && r.To != "" {
		text += fmt.Sprintf(", %s of the events to %s", shareText(digits(r.Share, 3)), r.To)
	}
	return text
}

func ordersText(o Orders) string { return choiceText(o.Workers, o.Batch, o.Route) }

// changeText says what differs, and from what.
func changeText(before, after Orders) string {
	var t []string
	if before.Workers != after.Workers {
		t = append(t, fmt.Sprintf("%s instead of %d", workersText(after.Workers), before.Workers))
	} else {
		t = append(t, workersText(after.Workers)+" as before")
	}
	if before.Batch != after.Batch && after.Batch > 0 {
		text := fmt.Sprintf("up to %d events a call", after.Batch)
		if before.Batch > 0 {
			text += fmt.Sprintf(" instead of %d", before.Batch)
		}
		t = append(t, text)
	}
	if !sameRoute(before.Route, after.Route) {
		if after.Route.Share > 0 {
			t = append(t, fmt.Sprintf("%s of the events to %s", shareText(digits(after.Route.Share, 3)), after.Route.To))
		} else {
			t = append(t, "no events to "+before.Route.To+" any more")
		}
	}
	return strings.Join(t, ", ")
}

// powers are numbers such as 1.08e+04.
var powers = regexp.MustCompile(`[0-9](\.[0-9]+)?e\+[0-9]{2}`)

// sentence ends a text with a full stop, and writes large numbers out.
func sentence(text string) string {
	text = powers.ReplaceAllStringFunc(strings.TrimSpace(text), func(s string) string {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return s
		}
		return number(x, 4)
	})
	if text == "" {
		return ""
	}
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

func capital(text string) string {
	for i, r := range text {
		return strings.ToUpper(string(r)) + text[i+len(string(r)):]
	}
	return text
}

func join(a, sep, b string) string {
	if a == "" {
		return b
	}
	return a + sep + b
}

func rateText(x float64) string { return number(x, 4) + "~events/s" }

// countText is a whole number with its thousands apart.
func countText(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) || math.Abs(x) >= 1e15 {
		return number(x, 4)
	}
	return thousands(strconv.FormatFloat(math.Round(x), 'f', 0, 64))
}

// number has so many digits that count, and its thousands apart.
func number(x float64, n int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "no number"
	}
	if a := math.Abs(x); a != 0 && (a >= 1e15 || a < 1e-4) {
		return strconv.FormatFloat(x, 'g', n, 64)
	}
	return thousands(strconv.FormatFloat(digits(x, n), 'f', -1, 64))
}

func thousands(text string) string {
	whole, rest, dot := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if dot {
		whole += "." + rest
	}
	return sign + whole
}

func shareText(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "an unknown share"
	}
	return number(100*x, 3) + "~%"
}

// spanText is a duration as people say it.
func spanText(d time.Duration) string {
	if d < 0 {
		return "-" + spanText(-d)
	}
	part := func(whole, rest time.Duration, unit, restUnit string, of time.Duration) string {
		if rest == 0 {
			return fmt.Sprintf("%d~%s", whole, unit)
		}
		return fmt.Sprintf("%d~%s~%d~%s", whole, unit, rest/of, restUnit)
	}
	switch {
	case d < time.Second:
		return number(float64(d)/1e6, 3) + "~ms"
	case d < 2*time.Minute:
		return number(d.Seconds(), 3) + "~s"
	case d < 2*time.Hour:
		d = d.Round(time.Second)
		return part(d/time.Minute, d%time.Minute, "min", "s", time.Second)
	}
	d = d.Round(time.Minute)
	return part(d/time.Hour, d%time.Hour, "h", "min", time.Minute)
}
