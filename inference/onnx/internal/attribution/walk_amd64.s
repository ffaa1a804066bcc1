//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// Each vector of eight rows is two registers of AVX2. Registers throughout: R8 the pass, DI the split, CX splits
// left, R9 points, R10 bytes of a slot (64 for each point), R11 the table, R12 and R13 1−t and t of the points,
// DX its met, BX its met0.

DATA unit<>+0(SB)/8, $0x3FF0000000000000
GLOBL unit<>(SB), RODATA|NOPTR, $8
DATA top<>+0(SB)/8, $0x8000000000000000
GLOBL top<>(SB), RODATA|NOPTR, $8

#define LOADPASS \
	MOVQ p+0(FP), R8         \
	MOVQ pass_splits(R8), DI \
	MOVQ pass_n(R8), CX      \
	MOVQ pass_points(R8), R9 \
	MOVQ R9, R10             \
	SHLQ $6, R10             \
	MOVQ pass_table(R8), R11 \
	MOVQ pass_u(R8), R12     \
	MOVQ pass_t(R8), R13     \
	MOVQ pass_met(R8), DX    \
	MOVQ pass_met0(R8), BX

// func conditionsAVX2(p *pass)
TEXT ·conditionsAVX2(SB), NOSPLIT, $0-8
	LOADPASS
	MOVQ pass_keys(R8), SI
	VBROADCASTSD top<>(SB), Y15
	VBROADCASTSD unit<>(SB), Y14
	VPXOR Y13, Y13, Y13
	MOVQ DX, R9                     // all met
	MOVQ BX, R10                    // all met0

conditions:
	MOVLQSX split_column(DI), AX
	SHLQ $6, AX
	VMOVDQU (SI)(AX*1), Y0
	VMOVDQU 32(SI)(AX*1), Y1
	VPBROADCASTQ split_lo(DI), Y2
	VPBROADCASTQ split_span(DI), Y3
	VPBROADCASTQ split_missing(DI), Y4
	VPXOR   Y15, Y3, Y3
	VPSUBQ  Y2, Y0, Y5
	VPSUBQ  Y2, Y1, Y6
	VPXOR   Y15, Y5, Y5
	VPXOR   Y15, Y6, Y6
	VPCMPGTQ Y3, Y5, Y5             // v − lo > span, unsigned
	VPCMPGTQ Y3, Y6, Y6
	VPCMPEQQ Y13, Y0, Y0            // missing
	VPCMPEQQ Y13, Y1, Y1
	VPAND   Y4, Y0, Y0
	VPAND   Y4, Y1, Y1
	VPANDN  Y14, Y5, Y5             // 1 where inside
	VPANDN  Y14, Y6, Y6
	VPAND   Y14, Y0, Y0
	VPAND   Y14, Y1, Y1
	VPOR    Y0, Y5, Y5
	VPOR    Y1, Y6, Y6
	MOVLQSX split_prev(DI), AX
	TESTQ AX, AX
	JGE  later
	VMOVUPD Y5, (DX)
	VMOVUPD Y6, 32(DX)
	VMOVUPD Y14, (BX)
	VMOVUPD Y14, 32(BX)
	JMP  conditionsNext

later:
	SHLQ $6, AX
	VMOVUPD (R9)(AX*1), Y0
	VMOVUPD 32(R9)(AX*1), Y1
	CMPB split_prevOne(DI), $0
	JNE  earlierOne
	VMOVUPD (R10)(AX*1), Y2
	VMOVUPD 32(R10)(AX*1), Y3
	VSUBPD Y0, Y2, Y0               // met0 − met
	VSUBPD Y1, Y3, Y1

earlierOne:
	VMOVUPD Y0, (BX)
	VMOVUPD Y1, 32(BX)
	VMULPD Y0, Y5, Y5
	VMULPD Y1, Y6, Y6
	VMOVUPD Y5, (DX)
	VMOVUPD Y6, 32(DX)

conditionsNext:
	ADDQ $split__size, DI
	ADDQ $64, DX
	ADDQ $64, BX
	DECQ CX
	JNZ  conditions
	VZEROUPPER
	RET

// SHARE is a of a first split in Y6 and Y7, from z in Y2, met in Y0 and Y1, at point AX.
#define SHARE \
	VBROADCASTSD (R12)(AX*8), Y4 \
	VBROADCASTSD (R13)(AX*8), Y5 \
	VMULPD       Y2, Y4, Y4      \
	VMOVAPD      Y4, Y6          \
	VMOVAPD      Y4, Y7          \
	VFMADD231PD  Y0, Y5, Y6      \
	VFMADD231PD  Y1, Y5, Y7

// LATERSHARE is a of a later split in Y6 and Y7, from its constants at R15, met in Y0 and Y1, met0 in Y10 and Y11.
#define LATERSHARE \
	VBROADCASTSD (R15), Y6    \
	VMOVAPD      Y6, Y7       \
	VBROADCASTSD 8(R15), Y4   \
	VBROADCASTSD 16(R15), Y5  \
	VFMADD231PD  Y10, Y4, Y6  \
	VFMADD231PD  Y11, Y4, Y7  \
	VFMADD231PD  Y0, Y5, Y6   \
	VFMADD231PD  Y1, Y5, Y7

#define LATERTABLE \
	MOVLQSX split_table(DI), R15 \
	LEAQ    (R11)(R15*8), R15    \
	VMOVUPD (BX), Y10            \
	VMOVUPD 32(BX), Y11

// SLOTS puts the addresses of the children's vectors, from the base at R14, in R14 and SI.
#define SLOTS(base, x, y) \
	MOVLQSX split_one(DI), x   \
	MOVLQSX split_other(DI), y \
	IMULQ   R10, x             \
	IMULQ   R10, y             \
	ADDQ    base, x            \
	ADDQ    base, y

// func upAVX2(p *pass)
//
// R8 becomes where H of the split goes; SI and R14 are its children's.
TEXT ·upAVX2(SB), NOSPLIT, $0-8
	LOADPASS
	MOVQ CX, AX
	DECQ AX
	MOVQ AX, R14
	IMULQ $split__size, R14
	ADDQ R14, DI
	MOVQ AX, R14
	SHLQ $6, R14
	ADDQ R14, DX
	ADDQ R14, BX
	IMULQ R10, AX
	MOVQ pass_h(R8), R14
	MOVQ R14, R8
	ADDQ AX, R8

up:
	VMOVUPD (DX), Y0
	VMOVUPD 32(DX), Y1
	MOVBLZX split_kind(DI), AX
	CMPL AX, $1
	JEQ  upInner
	JA   upLater

	// A pair of leaves.
	VBROADCASTSD split_z(DI), Y2
	VBROADCASTSD split_step(DI), Y3
	VBROADCASTSD split_low(DI), Y8
	XORL AX, AX

upPairPoint:
	SHARE
	VMOVAPD Y8, Y9
	VFMADD213PD Y8, Y3, Y6          // low + a·step
	VFMADD213PD Y9, Y3, Y7
	VMOVUPD Y6, (R8)
	VMOVUPD Y7, 32(R8)
	ADDQ $64, R8
	INCQ AX
	CMPQ AX, R9
	JNE  upPairPoint
	JMP  upNext

upInner:
	VBROADCASTSD split_z(DI), Y2
	MOVQ p+0(FP), AX
	MOVQ pass_h(AX), AX
	SLOTS(AX, R14, SI)
	XORL AX, AX

upInnerPoint:
	SHARE
	VMOVUPD (SI), Y8
	VMOVUPD 32(SI), Y9
	VMOVUPD (R14), Y4
	VMOVUPD 32(R14), Y5
	VSUBPD  Y8, Y4, Y4
	VSUBPD  Y9, Y5, Y5
	VFMADD231PD Y4, Y6, Y8          // other + a·(one − other)
	VFMADD231PD Y5, Y7, Y9
	VMOVUPD Y8, (R8)
	VMOVUPD Y9, 32(R8)
	ADDQ $64, R8
	ADDQ $64, R14
	ADDQ $64, SI
	INCQ AX
	CMPQ AX, R9
	JNE  upInnerPoint
	JMP  upNext

upLater:
	LATERTABLE
	CMPL AX, $3
	JEQ  upLaterInner
	VBROADCASTSD split_step(DI), Y3
	VBROADCASTSD split_low(DI), Y8
	XORL AX, AX

upLaterPairPoint:
	LATERSHARE
	VFMADD213PD Y8, Y3, Y6
	VFMADD213PD Y8, Y3, Y7
	VMOVUPD Y6, (R8)
	VMOVUPD Y7, 32(R8)
	ADDQ $64, R8
	ADDQ $40, R15
	INCQ AX
	CMPQ AX, R9
	JNE  upLaterPairPoint
	JMP  upNext

upLaterInner:
	MOVQ p+0(FP), AX
	MOVQ pass_h(AX), AX
	SLOTS(AX, R14, SI)
	XORL AX, AX

upLaterInnerPoint:
	LATERSHARE
	VMOVUPD (SI), Y8
	VMOVUPD 32(SI), Y9
	VMOVUPD (R14), Y4
	VMOVUPD 32(R14), Y5
	VSUBPD  Y8, Y4, Y4
	VSUBPD  Y9, Y5, Y5
	VFMADD231PD Y4, Y6, Y8
	VFMADD231PD Y5, Y7, Y9
	VMOVUPD Y8, (R8)
	VMOVUPD Y9, 32(R8)
	ADDQ $64, R8
	ADDQ $64, R14
	ADDQ $64, SI
	ADDQ $40, R15
	INCQ AX
	CMPQ AX, R9
	JNE  upLaterInnerPoint

upNext:
	SUBQ R10, R8                    // past the split's points: back over two
	SUBQ R10, R8
	SUBQ $split__size, DI
	SUBQ $64, DX
	SUBQ $64, BX
	DECQ CX
	JNZ  up
	VZEROUPPER
	RET

// CHILDREN gives the children of the split, whose product C is in Y2 and Y3 and a in Y6 and Y7, theirs.
#define CHILDREN \
	MOVQ    childOne-8(SP), R14      \
	VMULPD  Y2, Y6, Y6               \
	VMULPD  Y3, Y7, Y7               \
	VMOVUPD Y6, (R14)                \
	VMOVUPD Y7, 32(R14)              \
	ADDQ    $64, R14                 \
	MOVQ    R14, childOne-8(SP)      \
	MOVQ    childOther-16(SP), R14   \
	VSUBPD  Y6, Y2, Y6               \
	VSUBPD  Y7, Y3, Y7               \
	VMOVUPD Y6, (R14)                \
	VMOVUPD Y7, 32(R14)              \
	ADDQ    $64, R14                 \
	MOVQ    R14, childOther-16(SP)

// DIFFERENCE puts H(one) − H(other) in Y8 and Y9.
#define DIFFERENCE \
	MOVQ    valueOne-24(SP), R14   \
	VMOVUPD (R14), Y8              \
	VMOVUPD 32(R14), Y9            \
	ADDQ    $64, R14               \
	MOVQ    R14, valueOne-24(SP)   \
	VSUBPD  (SI), Y8, Y8           \
	VSUBPD  32(SI), Y9, Y9         \
	ADDQ    $64, SI

#define BOTHSLOTS \
	MOVQ p+0(FP), AX              \
	MOVQ pass_c(AX), AX           \
	SLOTS(AX, R14, SI)            \
	MOVQ R14, childOne-8(SP)      \
	MOVQ SI, childOther-16(SP)    \
	MOVQ p+0(FP), AX              \
	MOVQ pass_h(AX), AX           \
	SLOTS(AX, R14, SI)            \
	MOVQ R14, valueOne-24(SP)

// func downAVX2(p *pass)
//
// R8 is C of the split; Y12 and Y13 add up what it gives its feature.
TEXT ·downAVX2(SB), NOSPLIT, $24-8
	LOADPASS
	MOVQ pass_weight(R8), SI
	MOVQ pass_c(R8), R8
	XORL AX, AX
	MOVQ R8, R14

root:
	VBROADCASTSD (SI)(AX*8), Y0
	VMOVUPD Y0, (R14)
	VMOVUPD Y0, 32(R14)
	ADDQ $64, R14
	INCQ AX
	CMPQ AX, R9
	JNE  root

down:
	VMOVUPD (DX), Y0
	VMOVUPD 32(DX), Y1
	VXORPD  Y12, Y12, Y12
	VXORPD  Y13, Y13, Y13
	MOVBLZX split_kind(DI), AX
	CMPL AX, $1
	JEQ  downInner
	JA   downLater
	XORL AX, AX

downPairPoint:
	VADDPD (R8), Y12, Y12
	VADDPD 32(R8), Y13, Y13
	ADDQ $64, R8
	INCQ AX
	CMPQ AX, R9
	JNE  downPairPoint
	VBROADCASTSD split_z(DI), Y2
	VBROADCASTSD split_step(DI), Y3
	VSUBPD Y2, Y0, Y0
	VSUBPD Y2, Y1, Y1
	VMULPD Y0, Y12, Y12
	VMULPD Y1, Y13, Y13
	VMULPD Y3, Y12, Y12
	VMULPD Y3, Y13, Y13
	JMP  downNext

downInner:
	BOTHSLOTS
	XORL AX, AX

downInnerPoint:
	VBROADCASTSD split_z(DI), Y2
	SHARE
	VMOVUPD (R8), Y2
	VMOVUPD 32(R8), Y3
	DIFFERENCE
	VFMADD231PD Y2, Y8, Y12
	VFMADD231PD Y3, Y9, Y13
	CHILDREN
	ADDQ $64, R8
	INCQ AX
	CMPQ AX, R9
	JNE  downInnerPoint
	VBROADCASTSD split_z(DI), Y2
	VSUBPD Y2, Y0, Y0
	VSUBPD Y2, Y1, Y1
	VMULPD Y0, Y12, Y12
	VMULPD Y1, Y13, Y13
	JMP  downNext

downLater:
	LATERTABLE
	CMPL AX, $3
	JEQ  downLaterInner
	XORL AX, AX

downLaterPairPoint:
	VBROADCASTSD 24(R15), Y4
	VBROADCASTSD 32(R15), Y5
	VMULPD Y10, Y4, Y6
	VMULPD Y11, Y4, Y7
	VFMADD231PD Y0, Y5, Y6
	VFMADD231PD Y1, Y5, Y7
	VFMADD231PD (R8), Y6, Y12
	VFMADD231PD 32(R8), Y7, Y13
	ADDQ $64, R8
	ADDQ $40, R15
	INCQ AX
	CMPQ AX, R9
	JNE  downLaterPairPoint
	VBROADCASTSD split_step(DI), Y3
	VMULPD Y3, Y12, Y12
	VMULPD Y3, Y13, Y13
	JMP  downNext

downLaterInner:
	BOTHSLOTS
	XORL AX, AX

downLaterInnerPoint:
	VMOVUPD (R8), Y2
	VMOVUPD 32(R8), Y3
	DIFFERENCE
	VBROADCASTSD 24(R15), Y4
	VBROADCASTSD 32(R15), Y5
	VMULPD Y10, Y4, Y6
	VMULPD Y11, Y4, Y7
	VFMADD231PD Y0, Y5, Y6
	VFMADD231PD Y1, Y5, Y7
	VMULPD Y2, Y6, Y6
	VMULPD Y3, Y7, Y7
	VFMADD231PD Y8, Y6, Y12
	VFMADD231PD Y9, Y7, Y13
	LATERSHARE
	CHILDREN
	ADDQ $64, R8
	ADDQ $40, R15
	INCQ AX
	CMPQ AX, R9
	JNE  downLaterInnerPoint

downNext:
	MOVQ p+0(FP), AX
	MOVQ pass_sum(AX), AX
	MOVLQSX split_column(DI), R14
	SHLQ $6, R14
	ADDQ R14, AX
	VADDPD (AX), Y12, Y12
	VADDPD 32(AX), Y13, Y13
	VMOVUPD Y12, (AX)
	VMOVUPD Y13, 32(AX)
	ADDQ $split__size, DI
	ADDQ $64, DX
	ADDQ $64, BX
	DECQ CX
	JNZ  down
	VZEROUPPER
	RET
