// Package trace has arrivals over time: read from files of several forms, scaled, cut, and drawn
// at random around their rates.
package trace
