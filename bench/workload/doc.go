// Package workload generates the events on which Freshet is shown and measured.
//
// The card payments follow the transaction simulator published in Le Borgne,
// Siblini, Lebichot, Bontempi: "Reproducible Machine Learning for Credit Card
// Fraud Detection – Practical Handbook" (2022), chapter 3, "Simulated dataset":
// customers and terminals on a 100 × 100 grid, payments at terminals near the
// customer, Poisson counts a day, amounts normal around the customer's mean,
// and three fraud scenarios. The method is theirs, the implementation is not:
// it streams payments in time order, a day at a time, in memory that does not
// grow with the number of days, and every payment is a function of the seed.
//
// Labelled adds what the payments turn out to be, known a week later; ReadPayments
// and WriteLabels do so for the public data set in the same form.
package workload
