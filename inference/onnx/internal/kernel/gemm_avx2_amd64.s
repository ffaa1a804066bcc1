//go:build !purego

#include "textflag.h"

// Tiles of C = A·B for AVX2 and FMA.
//
// The same scheme as for AVX-512, with 16 columns: Y12 (0..7) and Y13 (8..15)
// hold a step of the panel, Y14 and Y15 an element of A, Y(2r) and Y(2r+1) the
// sums of row r, which take their terms in the same order and so come out the same.
//
//   SI, R10             rows 0 and 3 of A; R9 is the distance of rows in bytes
//   BX                  the panel of B, 64 bytes a step of k
//   DI                  rows of C; R8 is the distance of rows in bytes
//   R12                 16 lanes of mask, −1 where a column of C exists, or nil when all do
//   DX                  bias or nil

// ROW adds the products of one element of A to the sums of its row.
#define ROW(element, spread, low, high) \
	VBROADCASTSS element, spread; \
	VFMADD231PS  Y12, spread, low; \
	VFMADD231PS  Y13, spread, high

#define COLUMNS \
	VMOVUPS (BX), Y12; \
	VMOVUPS 32(BX), Y13; \
	ADDQ    $64, BX

#define CLEAR(low, high) \
	VXORPS low, low, low; \
	VXORPS high, high, high

// After the loop Y12, Y13 hold the bias and Y14 the floor.
// VMAXPS gives its second source, in this notation the first operand, when
// either is NaN: that must be the sum, so that NaN stays NaN.
#define FINISH(low, high) \
	VADDPS Y12, low, low; \
	VADDPS Y13, high, high; \
	VMAXPS low, Y14, low; \
	VMAXPS high, Y14, high

#define STORE(low, high) \
	VMOVUPS low, (DI); \
	VMOVUPS high, 32(DI); \
	ADDQ    R8, DI

// In the masked store the mask is in Y12, Y13: the bias is no longer needed.
#define STOREMASKED(low, high) \
	VMASKMOVPS low, Y12, (DI); \
	VMASKMOVPS high, Y13, 32(DI); \
	ADDQ       R8, DI

// func tile6x16(c, a, b, bias *float32, k, lda, ldc int, mask *int32, floor float32)
TEXT ·tile6x16(SB), NOSPLIT, $0-68
	MOVQ c+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), BX
	MOVQ bias+24(FP), DX
	MOVQ k+32(FP), CX
	MOVQ lda+40(FP), R9
	SHLQ $2, R9
	MOVQ ldc+48(FP), R8
	SHLQ $2, R8
	MOVQ mask+56(FP), R12
	LEAQ (R9)(R9*2), R10
	ADDQ SI, R10
	CLEAR(Y0, Y1)
	CLEAR(Y2, Y3)
	CLEAR(Y4, Y5)
	CLEAR(Y6, Y7)
	CLEAR(Y8, Y9)
	CLEAR(Y10, Y11)
	TESTQ CX, CX
	JLE   bias

loop:
	COLUMNS
	ROW((SI), Y14, Y0, Y1)
	ROW((SI)(R9*1), Y15, Y2, Y3)
	ROW((SI)(R9*2), Y14, Y4, Y5)
	ROW((R10), Y15, Y6, Y7)
	ROW((R10)(R9*1), Y14, Y8, Y9)
	ROW((R10)(R9*2), Y15, Y10, Y11)
	ADDQ $4, SI
	ADDQ $4, R10
	DECQ CX
	JNZ  loop

bias:
	VBROADCASTSS floor+64(FP), Y14
	CLEAR(Y12, Y13)
	TESTQ        DX, DX
	JZ           finish
	TESTQ        R12, R12
	JNZ          maskedbias
	VMOVUPS      (DX), Y12
	VMOVUPS      32(DX), Y13
	JMP          finish

maskedbias:
	VMOVUPS    (R12), Y12
	VMASKMOVPS (DX), Y12, Y12
	VMOVUPS    32(R12), Y13
	VMASKMOVPS 32(DX), Y13, Y13

finish:
	FINISH(Y0, Y1)
	FINISH(Y2, Y3)
	FINISH(Y4, Y5)
	FINISH(Y6, Y7)
	FINISH(Y8, Y9)
	FINISH(Y10, Y11)
	TESTQ R12, R12
	JNZ   masked
	STORE(Y0, Y1)
	STORE(Y2, Y3)
	STORE(Y4, Y5)
	STORE(Y6, Y7)
	STORE(Y8, Y9)
	STORE(Y10, Y11)
	VZEROUPPER
	RET

masked:
	VMOVUPS (R12), Y12
	VMOVUPS 32(R12), Y13
	STOREMASKED(Y0, Y1)
	STOREMASKED(Y2, Y3)
	STOREMASKED(Y4, Y5)
	STOREMASKED(Y6, Y7)
	STOREMASKED(Y8, Y9)
	STOREMASKED(Y10, Y11)
	VZEROUPPER
	RET

// func tile3x16(c, a, b, bias *float32, k, lda, ldc int, mask *int32, floor float32, rows int)
//
// It computes 1 to 3 rows, whose pointers are SI, R10, R13. A row of A that
// does not exist is read as the last one that does, and nothing is stored for it.
TEXT ·tile3x16(SB), NOSPLIT, $0-80
	MOVQ    c+0(FP), DI
	MOVQ    a+8(FP), SI
	MOVQ    b+16(FP), BX
	MOVQ    k+32(FP), CX
	MOVQ    lda+40(FP), R9
	SHLQ    $2, R9
	MOVQ    ldc+48(FP), R8
	SHLQ    $2, R8
	MOVQ    mask+56(FP), R12
	MOVQ    rows+72(FP), AX
	MOVQ    SI, R10
	LEAQ    (SI)(R9*1), DX
	CMPQ    AX, $1
	CMOVQGT DX, R10
	MOVQ    R10, R13
	LEAQ    (R10)(R9*1), DX
	CMPQ    AX, $2
	CMOVQGT DX, R13
	MOVQ    bias+24(FP), DX
	CLEAR(Y0, Y1)
	CLEAR(Y2, Y3)
	CLEAR(Y4, Y5)
	TESTQ   CX, CX
	JLE     bias

loop:
	COLUMNS
	ROW((SI), Y14, Y0, Y1)
	ROW((R10), Y15, Y2, Y3)
	ROW((R13), Y14, Y4, Y5)
	ADDQ $4, SI
	ADDQ $4, R10
	ADDQ $4, R13
	DECQ CX
	JNZ  loop

bias:
	VBROADCASTSS floor+64(FP), Y14
	CLEAR(Y12, Y13)
	TESTQ        DX, DX
	JZ           finish
	TESTQ        R12, R12
	JNZ          maskedbias
	VMOVUPS      (DX), Y12
	VMOVUPS      32(DX), Y13
	JMP          finish

maskedbias:
	VMOVUPS    (R12), Y12
	VMASKMOVPS (DX), Y12, Y12
	VMOVUPS    32(R12), Y13
	VMASKMOVPS 32(DX), Y13, Y13

finish:
	FINISH(Y0, Y1)
	FINISH(Y2, Y3)
	FINISH(Y4, Y5)
	TESTQ R12, R12
	JNZ   masked
	STORE(Y0, Y1)
	CMPQ  AX, $2
	JLT   done
	STORE(Y2, Y3)
	CMPQ  AX, $3
	JLT   done
	STORE(Y4, Y5)

done:
	VZEROUPPER
	RET

masked:
	VMOVUPS (R12), Y12
	VMOVUPS 32(R12), Y13
	STOREMASKED(Y0, Y1)
	CMPQ    AX, $2
	JLT     done
	STOREMASKED(Y2, Y3)
	CMPQ    AX, $3
	JLT     done
	STOREMASKED(Y4, Y5)
	VZEROUPPER
	RET

// func columnAVX2(c, a, b *float32, k, m int, mask *int32, bias, floor float32)
//
// It computes C = A·B where B is one column: a scalar product for each row. A is
// m rows of k without gaps; b has k elements, then zeros up to a multiple of 16;
// mask has 16 lanes, −1 for each of the k mod 16 elements after the last whole
// group of 16. Term i goes to lane i mod 16, each lane in order; the lanes are
// then added in halves.
TEXT ·columnAVX2(SB), NOSPLIT, $0-56
	MOVQ         c+0(FP), DI
	MOVQ         a+8(FP), SI
	MOVQ         b+16(FP), BX
	MOVQ         k+24(FP), CX
	MOVQ         m+32(FP), AX
	MOVQ         mask+40(FP), R12
	VMOVSS       bias+48(FP), X10
	VMOVSS       floor+52(FP), X11
	VMOVUPS      (R12), Y8
	VMOVUPS      32(R12), Y9
	MOVQ         CX, R8
	ANDQ         $15, R8         // elements after the last whole group
	SHRQ         $4, CX          // whole groups
	TESTQ        AX, AX
	JLE          done

row:
	CLEAR(Y0, Y1)
	MOVQ  BX, R10
	MOVQ  CX, R11
	TESTQ R11, R11
	JZ    rest

group:
	VMOVUPS     (SI), Y2
	VMOVUPS     32(SI), Y3
	VFMADD231PS (R10), Y2, Y0
	VFMADD231PS 32(R10), Y3, Y1
	ADDQ        $64, SI
	ADDQ        $64, R10
	DECQ        R11
	JNZ         group

rest:
	TESTQ       R8, R8
	JZ          sum
	VMASKMOVPS  (SI), Y8, Y2
	VMASKMOVPS  32(SI), Y9, Y3
	VFMADD231PS (R10), Y2, Y0
	VFMADD231PS 32(R10), Y3, Y1
	LEAQ        (SI)(R8*4), SI

sum:
	VADDPS       Y1, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS       X1, X0, X0
	VMOVHLPS     X0, X0, X1
	VADDPS       X1, X0, X0
	VMOVSHDUP    X0, X1
	VADDSS       X1, X0, X0
	VADDSS       X10, X0, X0
	VMAXSS       X0, X11, X0     // gives X0 where it is NaN
	VMOVSS       X0, (DI)
	ADDQ         $4, DI
	DECQ         AX
	JNZ          row

done:
	VZEROUPPER
	RET
