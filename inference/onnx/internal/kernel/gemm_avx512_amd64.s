//go:build !purego

#include "textflag.h"

// Tiles of C = A·B for AVX-512F.
//
// All tiles share one scheme. The columns of a panel of B lie in Z24 (0..15) and
// Z25 (16..31), one element of a row of A is spread over Z26 or Z27, and the
// sums of row r are kept in Z(2r) and Z(2r+1). Each sum takes its terms in order
// of k with one fused multiply-add each, from zero; so a row's result depends
// neither on the tile that computed it nor on the other rows of the batch.
//
//   SI, R10, R11, R12   rows 0, 3, 6, 9 of A; R9 is the distance of rows in bytes
//   BX                  the panel of B, 128 bytes a step of k
//   DI                  rows of C; R8 is the distance of rows in bytes
//   CX                  steps of k left
//   K1, K2              columns of C that exist
//   Z28, Z29            bias; Z30 the floor: 0 for ReLU, −Inf for none

// ROW adds the products of one element of A, at element, to the sums of its row.
#define ROW(element, spread, low, high) \
	VBROADCASTSS element, spread; \
	VFMADD231PS  Z24, spread, low; \
	VFMADD231PS  Z25, spread, high

// COLUMNS loads the 32 columns of one step of k from the panel.
#define COLUMNS(offset) \
	VMOVUPS offset(BX), Z24; \
	VMOVUPS (offset+64)(BX), Z25

// STEP12 is one step of k for twelve rows: o is the offset in A, p in B.
#define STEP12(o, p) \
	COLUMNS(p); \
	ROW(o(SI), Z26, Z0, Z1); \
	ROW(o(SI)(R9*1), Z27, Z2, Z3); \
	ROW(o(SI)(R9*2), Z26, Z4, Z5); \
	ROW(o(R10), Z27, Z6, Z7); \
	ROW(o(R10)(R9*1), Z26, Z8, Z9); \
	ROW(o(R10)(R9*2), Z27, Z10, Z11); \
	ROW(o(R11), Z26, Z12, Z13); \
	ROW(o(R11)(R9*1), Z27, Z14, Z15); \
	ROW(o(R11)(R9*2), Z26, Z16, Z17); \
	ROW(o(R12), Z27, Z18, Z19); \
	ROW(o(R12)(R9*1), Z26, Z20, Z21); \
	ROW(o(R12)(R9*2), Z27, Z22, Z23)

// STEP4 is one step of k for four rows, whose pointers are SI, R10, R11, R12.
#define STEP4(o, p) \
	COLUMNS(p); \
	ROW(o(SI), Z26, Z0, Z1); \
	ROW(o(R10), Z27, Z2, Z3); \
	ROW(o(R11), Z26, Z4, Z5); \
	ROW(o(R12), Z27, Z6, Z7)

// STEP1 is one step of k for one row.
#define STEP1(o, p) \
	COLUMNS(p); \
	ROW(o(SI), Z26, Z0, Z1)

// CLEAR sets two sums to zero.
#define CLEAR(low, high) \
	VPXORQ low, low, low; \
	VPXORQ high, high, high

// FINISH adds the bias, applies the floor and stores one row of C at DI.
// VMAXPS gives its second source, in this notation the first operand, when
// either is NaN: that must be the sum, so that NaN stays NaN.
#define FINISH(low, high) \
	VADDPS  Z28, low, low; \
	VADDPS  Z29, high, high; \
	VMAXPS  low, Z30, low; \
	VMAXPS  high, Z30, high; \
	VMOVUPS low, K1, (DI); \
	VMOVUPS high, K2, 64(DI)

// PROLOGUE loads what the tiles of several rows take; the bias may be nil.
#define PROLOGUE \
	MOVQ         c+0(FP), DI; \
	MOVQ         a+8(FP), SI; \
	MOVQ         b+16(FP), BX; \
	MOVQ         k+32(FP), CX; \
	MOVL         mask+56(FP), AX; \
	KMOVW        AX, K1; \
	SHRL         $16, AX; \
	KMOVW        AX, K2; \
	VBROADCASTSS floor+60(FP), Z30; \
	CLEAR(Z28, Z29); \
	MOVQ         bias+24(FP), DX; \
	TESTQ        DX, DX; \
	JZ           nobias; \
	VMOVUPS.Z    (DX), K1, Z28; \
	VMOVUPS.Z    64(DX), K2, Z29

// func tile12x32(c, a, b, bias *float32, k, lda, ldc int, mask uint32, floor float32)
TEXT ·tile12x32(SB), NOSPLIT, $0-64
	PROLOGUE
nobias:
	MOVQ lda+40(FP), R9
	SHLQ $2, R9
	MOVQ ldc+48(FP), R8
	SHLQ $2, R8
	LEAQ (R9)(R9*2), DX  // three rows
	LEAQ (SI)(DX*1), R10
	LEAQ (SI)(DX*2), R11
	LEAQ (R10)(DX*2), R12
	CLEAR(Z0, Z1)
	CLEAR(Z2, Z3)
	CLEAR(Z4, Z5)
	CLEAR(Z6, Z7)
	CLEAR(Z8, Z9)
	CLEAR(Z10, Z11)
	CLEAR(Z12, Z13)
	CLEAR(Z14, Z15)
	CLEAR(Z16, Z17)
	CLEAR(Z18, Z19)
	CLEAR(Z20, Z21)
	CLEAR(Z22, Z23)
	SUBQ $2, CX
	JL   last

loop:
	STEP12(0, 0)
	STEP12(4, 128)
	ADDQ $8, SI
	ADDQ $8, R10
	ADDQ $8, R11
	ADDQ $8, R12
	ADDQ $256, BX
	SUBQ $2, CX
	JGE  loop

last:
	ADDQ $2, CX
	JZ   store
	STEP12(0, 0)

store:
	FINISH(Z0, Z1)
	ADDQ R8, DI
	FINISH(Z2, Z3)
	ADDQ R8, DI
	FINISH(Z4, Z5)
	ADDQ R8, DI
	FINISH(Z6, Z7)
	ADDQ R8, DI
	FINISH(Z8, Z9)
	ADDQ R8, DI
	FINISH(Z10, Z11)
	ADDQ R8, DI
	FINISH(Z12, Z13)
	ADDQ R8, DI
	FINISH(Z14, Z15)
	ADDQ R8, DI
	FINISH(Z16, Z17)
	ADDQ R8, DI
	FINISH(Z18, Z19)
	ADDQ R8, DI
	FINISH(Z20, Z21)
	ADDQ R8, DI
	FINISH(Z22, Z23)
	VZEROUPPER
	RET

// func tile4x32(c, a, b, bias *float32, k, lda, ldc int, mask uint32, floor float32, rows int)
//
// It computes 1 to 4 rows. A row of A that does not exist is read as the last
// one that does, and nothing is stored for it.
TEXT ·tile4x32(SB), NOSPLIT, $0-72
	PROLOGUE
nobias:
	MOVQ    lda+40(FP), R9
	SHLQ    $2, R9
	MOVQ    ldc+48(FP), R8
	SHLQ    $2, R8
	MOVQ    rows+64(FP), AX
	MOVQ    SI, R10
	LEAQ    (SI)(R9*1), DX
	CMPQ    AX, $1
	CMOVQGT DX, R10
	MOVQ    R10, R11
	LEAQ    (R10)(R9*1), DX
	CMPQ    AX, $2
	CMOVQGT DX, R11
	MOVQ    R11, R12
	LEAQ    (R11)(R9*1), DX
	CMPQ    AX, $3
	CMOVQGT DX, R12
	CLEAR(Z0, Z1)
	CLEAR(Z2, Z3)
	CLEAR(Z4, Z5)
	CLEAR(Z6, Z7)
	SUBQ    $2, CX
	JL      last

loop:
	STEP4(0, 0)
	STEP4(4, 128)
	ADDQ $8, SI
	ADDQ $8, R10
	ADDQ $8, R11
	ADDQ $8, R12
	ADDQ $256, BX
	SUBQ $2, CX
	JGE  loop

last:
	ADDQ $2, CX
	JZ   store
	STEP4(0, 0)

store:
	FINISH(Z0, Z1)
	CMPQ AX, $2
	JLT  done
	ADDQ R8, DI
	FINISH(Z2, Z3)
	CMPQ AX, $3
	JLT  done
	ADDQ R8, DI
	FINISH(Z4, Z5)
	CMPQ AX, $4
	JLT  done
	ADDQ R8, DI
	FINISH(Z6, Z7)

done:
	VZEROUPPER
	RET

// func tile1x32(c, a, b, bias *float32, k int, mask uint32, floor float32)
TEXT ·tile1x32(SB), NOSPLIT, $0-48
	MOVQ         c+0(FP), DI
	MOVQ         a+8(FP), SI
	MOVQ         b+16(FP), BX
	MOVQ         k+32(FP), CX
	MOVL         mask+40(FP), AX
	KMOVW        AX, K1
	SHRL         $16, AX
	KMOVW        AX, K2
	VBROADCASTSS floor+44(FP), Z30
	CLEAR(Z28, Z29)
	MOVQ         bias+24(FP), DX
	TESTQ        DX, DX
	JZ           nobias
	VMOVUPS.Z    (DX), K1, Z28
	VMOVUPS.Z    64(DX), K2, Z29

nobias:
	CLEAR(Z0, Z1)
	SUBQ $2, CX
	JL   last

loop:
	STEP1(0, 0)
	STEP1(4, 128)
	ADDQ $8, SI
	ADDQ $256, BX
	SUBQ $2, CX
	JGE  loop

last:
	ADDQ $2, CX
	JZ   store
	STEP1(0, 0)

store:
	FINISH(Z0, Z1)
	VZEROUPPER
	RET
