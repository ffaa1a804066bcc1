//go:build !purego

#include "textflag.h"

// Registers: BX nodes, DI keys of the group, SI where its eight results go, R8-R15 where the eight
// walks are, AX and DX temporaries, CX the level or whether a walk moved.
//
// CMP leaves the carry that says x > threshold; ADC takes it up.

// P32 and P64 step down a perfect tree: i = 2*i + carry.
#define P32(i, lane) \
	MOVL 4(BX)(i*8), AX           \
	MOVL (BX)(i*8), DX            \
	CMPL DX, (lane*4)(DI)(AX*1)   \
	ADCQ i, i

#define P64(i, lane) \
	MOVQ i, AX                    \
	SHLQ $4, AX                   \
	MOVQ 8(BX)(AX*1), DX          \
	MOVQ (BX)(AX*1), AX           \
	CMPQ AX, (lane*8)(DI)(DX*1)   \
	ADCQ i, i

// L32 and L64 step down a linked tree: i = left + carry. M32 and M64 do so too and
// gather in CX whether i changed.
#define L32(i, lane) \
	MOVL 8(BX)(i*4), AX           \
	MOVL (BX)(i*4), DX            \
	CMPL DX, (lane*4)(DI)(AX*1)   \
	MOVL 16(BX)(i*4), i           \
	ADCL $0, i

#define M32(i, lane) \
	MOVL 8(BX)(i*4), AX           \
	MOVL (BX)(i*4), DX            \
	CMPL DX, (lane*4)(DI)(AX*1)   \
	MOVL 16(BX)(i*4), AX          \
	ADCL $0, AX                   \
	XORL AX, i                    \
	ORL  i, CX                    \
	MOVL AX, i

#define L64(i, lane) \
	MOVQ 16(BX)(i*8), AX          \
	MOVQ (BX)(i*8), DX            \
	CMPQ DX, (lane*8)(DI)(AX*1)   \
	MOVQ 32(BX)(i*8), i           \
	ADCQ $0, i

#define M64(i, lane) \
	MOVQ 16(BX)(i*8), AX          \
	MOVQ (BX)(i*8), DX            \
	CMPQ DX, (lane*8)(DI)(AX*1)   \
	MOVQ 32(BX)(i*8), AX          \
	ADCQ $0, AX                   \
	XORQ AX, i                    \
	ORQ  i, CX                    \
	MOVQ AX, i

#define EIGHT(STEP) \
	STEP(R8, 0)  \
	STEP(R9, 1)  \
	STEP(R10, 2) \
	STEP(R11, 3) \
	STEP(R12, 4) \
	STEP(R13, 5) \
	STEP(R14, 6) \
	STEP(R15, 7)

#define START(from) \
	MOVL from, R8  \
	MOVL R8, R9    \
	MOVL R8, R10   \
	MOVL R8, R11   \
	MOVL R8, R12   \
	MOVL R8, R13   \
	MOVL R8, R14   \
	MOVL R8, R15

#define ARGS \
	MOVQ nodes+0(FP), BX  \
	MOVQ x+16(FP), DI     \
	MOVQ out+32(FP), SI

#define NEXT \
	ADDQ stride+24(FP), DI \
	ADDQ $32, SI           \
	DECQ groups+40(FP)

#define STORE \
	MOVL R8, 0(SI)   \
	MOVL R9, 4(SI)   \
	MOVL R10, 8(SI)  \
	MOVL R11, 12(SI) \
	MOVL R12, 16(SI) \
	MOVL R13, 20(SI) \
	MOVL R14, 24(SI) \
	MOVL R15, 28(SI)

#define LEAVES(disp, scale) \
	MOVL disp(BX)(R8*scale), R8   \
	MOVL disp(BX)(R9*scale), R9   \
	MOVL disp(BX)(R10*scale), R10 \
	MOVL disp(BX)(R11*scale), R11 \
	MOVL disp(BX)(R12*scale), R12 \
	MOVL disp(BX)(R13*scale), R13 \
	MOVL disp(BX)(R14*scale), R14 \
	MOVL disp(BX)(R15*scale), R15

// func perfectRows32(nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)
TEXT ·perfectRows32(SB), NOSPLIT, $0-48
	ARGS
group:
	START($1)
	MOVQ  depth+8(FP), CX
	TESTQ CX, CX
	JZ    done
level:
	EIGHT(P32)
	DECQ CX
	JNZ  level
done:
	STORE
	NEXT
	JNZ group
	RET

// func perfectRows64(nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)
TEXT ·perfectRows64(SB), NOSPLIT, $0-48
	ARGS
group:
	START($1)
	MOVQ  depth+8(FP), CX
	TESTQ CX, CX
	JZ    done
level:
	EIGHT(P64)
	DECQ CX
	JNZ  level
done:
	STORE
	NEXT
	JNZ group
	RET

// func linkedRows32(nodes unsafe.Pointer, root int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)
TEXT ·linkedRows32(SB), NOSPLIT, $0-48
	ARGS
group:
	START(root+8(FP))
level:
	EIGHT(L32)
	XORL CX, CX
	EIGHT(M32)
	TESTL CX, CX
	JNZ   level
	LEAVES(24, 4)
	STORE
	NEXT
	JNZ group
	RET

// func linkedRows64(nodes unsafe.Pointer, root int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)
TEXT ·linkedRows64(SB), NOSPLIT, $0-48
	ARGS
group:
	START(root+8(FP))
level:
	EIGHT(L64)
	XORL CX, CX
	EIGHT(M64)
	TESTQ CX, CX
	JNZ   level
	LEAVES(48, 8)
	STORE
	NEXT
	JNZ group
	RET
