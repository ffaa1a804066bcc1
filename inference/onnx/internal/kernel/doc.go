// Package kernel computes the dense layers of neural networks in single
// precision: matrix products with a constant right side, and the functions that
// stand between layers.
//
// Products run on AVX-512 or AVX2 with FMA where the machine has them, and in Go
// elsewhere or with the build tag purego. A row of a result depends only on that
// row of the input: not on the other rows of the batch, its place in it or its
// size. AVX-512 and AVX2 give the same bits; Go rounds products before it adds
// them, which may change the last bits.
//
// NaN and infinities are values like others: a NaN reaches every result that it
// takes part in, and ReLU of NaN is NaN. The sign of a zero result is not fixed.
package kernel
