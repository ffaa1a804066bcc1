// Package learn has what learns by gradients, written out by hand: a small recurrent forecaster (LSTM), a
// member of the ensemble, which goes on learning from the recent past; and a policy trained in the
// simulator by proximal policy optimisation (Train), kept as an ONNX file that any runtime evaluates (Net).
//
// All of it is seeded and the same on every run of one kind of processor: another architecture may fuse
// multiplication and addition, and then weights differ in their last bits.
//
// The policy is trusted with nothing: within a Controller the rails bound its orders, and with signals that
// are missing or no numbers, or with a network that fails, it holds.
package learn
