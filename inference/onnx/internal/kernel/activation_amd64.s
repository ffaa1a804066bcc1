//go:build !purego

#include "textflag.h"

// The functions between layers for AVX2 and FMA, eight elements a step. An
// element's result does not depend on its place, so the caller may fill up the
// last step with anything.

#define CONSTANT(name, bits) \
	DATA name<>+0(SB)/4, $bits; \
	GLOBL name<>(SB), RODATA|NOPTR, $4

// CONSTANT8 holds eight times the same; bits is the value twice.
#define CONSTANT8(name, bits) \
	DATA name<>+0(SB)/8, $bits; \
	DATA name<>+8(SB)/8, $bits; \
	DATA name<>+16(SB)/8, $bits; \
	DATA name<>+24(SB)/8, $bits; \
	GLOBL name<>(SB), RODATA|NOPTR, $32

CONSTANT(most, 0x42b20000)      // 89: e^89 is infinite
CONSTANT(least, 0xc2d00000)     // −104: e^−104 is zero
CONSTANT(log2e, 0x3fb8aa3b)     // 1/ln 2
CONSTANT(ln2high, 0x3f318000)   // ln 2 in two parts, the first of few bits,
CONSTANT(ln2low, 0xb95e8083)    // so that its product with a small integer is exact
CONSTANT(one, 0x3f800000)
CONSTANT(two, 0x40000000)
CONSTANT(sign, 0x80000000)
CONSTANT(bias, 127)
CONSTANT(limit, 0x3f200000)     // 0.625

// Coefficients of e^r = 1 + r + r²·P(r) for |r| ≤ ln2/2 and of tanh x = x + x³·Q(x²)
// for |x| < 0.625, from the Cephes library (S. Moshier), expf.c and tanhf.c.
CONSTANT(p0, 0x39506967)
CONSTANT(p1, 0x3ab743ce)
CONSTANT(p2, 0x3c088908)
CONSTANT(p3, 0x3d2aa9c1)
CONSTANT(p4, 0x3e2aaaaa)
CONSTANT(p5, 0x3f000000)
CONSTANT(q0, 0xbbbaf0ea)
CONSTANT8(q1, 0x3ca9134e3ca9134e)
CONSTANT8(q2, 0xbd5c1e2dbd5c1e2d)
CONSTANT8(q3, 0x3e0883933e088393)
CONSTANT8(q4, 0xbeaaaa99beaaaa99)

// Coefficients of erf x = x + x·E(x²) for |x| < 0.921875 and of 1 − erf x = e^F(x) from there to 4, highest power
// first: fits at the points of Chebyshev, those of activation.go. From 4 on erf x is 1 in single precision.
CONSTANT(split, 0x3f6c0000)     // 0.921875
CONSTANT(four, 0x40800000)
CONSTANT(e0, 0xba1d83f4)
CONSTANT8(e1, 0x3ba3bdf93ba3bdf9)
CONSTANT8(e2, 0xbcdb4bb4bcdb4bb4)
CONSTANT8(e3, 0x3de70dac3de70dac)
CONSTANT8(e4, 0xbec09376bec09376)
CONSTANT8(e5, 0x3e0375d33e0375d3)
CONSTANT(f0, 0x35d881c2)
CONSTANT8(f1, 0xb83f23b0b83f23b0)
CONSTANT8(f2, 0x3a1b58d43a1b58d4)
CONSTANT8(f3, 0xbb9b4d1ebb9b4d1e)
CONSTANT8(f4, 0x3cd7f5eb3cd7f5eb)
CONSTANT8(f5, 0xbde13a13bde13a13)
CONSTANT8(f6, 0xbf21c6edbf21c6ed)
CONSTANT8(f7, 0xbf90a937bf90a937)
CONSTANT8(f8, 0x399e9e7a399e9e7a)

// EXP replaces Y0 by e^Y0 and uses Y1 to Y4; Y5 to Y15 hold the constants of SETEXP.
// e^x = 2^n · e^r with n = round(x/ln 2); 2^n is multiplied in two halves, so
// that results beyond the normal range round correctly to infinity or a denormal.
// VMINPS and VMAXPS give their second source, in this notation the first
// operand, when either is NaN: that must be x, so that NaN stays NaN.
#define EXP \
	VMINPS       Y0, Y5, Y0; \
	VMAXPS       Y0, Y6, Y0; \
	VMULPS       Y7, Y0, Y1; \
	VROUNDPS     $8, Y1, Y1; \
	VFNMADD231PS Y8, Y1, Y0; \
	VFNMADD231PS Y9, Y1, Y0; \
	VCVTPS2DQ    Y1, Y1; \
	VBROADCASTSS p0<>(SB), Y2; \
	VFMADD213PS  Y10, Y0, Y2; \
	VFMADD213PS  Y11, Y0, Y2; \
	VFMADD213PS  Y12, Y0, Y2; \
	VFMADD213PS  Y13, Y0, Y2; \
	VBROADCASTSS p5<>(SB), Y3; \
	VFMADD213PS  Y3, Y0, Y2; \
	VMULPS       Y0, Y0, Y3; \
	VADDPS       Y14, Y0, Y0; \
	VFMADD231PS  Y3, Y2, Y0; \
	VPSRAD       $1, Y1, Y2; \
	VPSUBD       Y2, Y1, Y1; \
	VPADDD       Y15, Y1, Y1; \
	VPADDD       Y15, Y2, Y2; \
	VPSLLD       $23, Y1, Y1; \
	VPSLLD       $23, Y2, Y2; \
	VMULPS       Y1, Y0, Y0; \
	VMULPS       Y2, Y0, Y0

#define SETEXP \
	VBROADCASTSS most<>(SB), Y5; \
	VBROADCASTSS least<>(SB), Y6; \
	VBROADCASTSS log2e<>(SB), Y7; \
	VBROADCASTSS ln2high<>(SB), Y8; \
	VBROADCASTSS ln2low<>(SB), Y9; \
	VBROADCASTSS p1<>(SB), Y10; \
	VBROADCASTSS p2<>(SB), Y11; \
	VBROADCASTSS p3<>(SB), Y12; \
	VBROADCASTSS p4<>(SB), Y13; \
	VBROADCASTSS one<>(SB), Y14; \
	VBROADCASTSS bias<>(SB), Y15

// func expAVX2(dst, src *float32, n int)
TEXT ·expAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SETEXP
	SUBQ $8, CX
	JL   done

loop:
	VMOVUPS (SI), Y0
	EXP
	VMOVUPS Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JGE     loop

done:
	VZEROUPPER
	RET

// func sigmoidAVX2(dst, src *float32, n int)
//
// With z = e^−|x| the result is 1/(1+z) for x ≥ 0 and z/(1+z) below: neither overflows.
TEXT ·sigmoidAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SETEXP
	SUBQ $8, CX
	JL   done

loop:
	VBROADCASTSS sign<>(SB), Y0
	VORPS        (SI), Y0, Y0       // −|x|
	EXP
	VMOVUPS      (SI), Y1
	VADDPS       Y14, Y0, Y2        // 1+z
	VBLENDVPS    Y1, Y0, Y14, Y3    // z where the sign of x is set, else 1
	VDIVPS       Y2, Y3, Y0
	VMOVUPS      Y0, (DI)
	ADDQ         $32, SI
	ADDQ         $32, DI
	SUBQ         $8, CX
	JGE          loop

done:
	VZEROUPPER
	RET

// func tanhAVX2(dst, src *float32, n int)
//
// 1 − 2/(e^2|x|+1) with the sign of x; near zero, where that cancels, the polynomial.
TEXT ·tanhAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SETEXP
	SUBQ $8, CX
	JL   done

loop:
	VBROADCASTSS sign<>(SB), Y1
	VANDNPS      (SI), Y1, Y0       // |x|
	VADDPS       Y0, Y0, Y0
	EXP
	VADDPS       Y14, Y0, Y0
	VBROADCASTSS two<>(SB), Y1
	VDIVPS       Y0, Y1, Y0
	VSUBPS       Y0, Y14, Y0        // 1 − 2/(e^2|x|+1)
	VMOVUPS      (SI), Y4
	VBROADCASTSS sign<>(SB), Y1
	VANDPS       Y4, Y1, Y2
	VORPS        Y2, Y0, Y0         // with the sign of x
	VANDNPS      Y4, Y1, Y1         // |x|
	VBROADCASTSS limit<>(SB), Y2
	VCMPPS       $1, Y2, Y1, Y1     // |x| < limit; false for NaN
	VMULPS       Y4, Y4, Y2         // x²
	VBROADCASTSS q0<>(SB), Y3
	VFMADD213PS  q1<>(SB), Y2, Y3
	VFMADD213PS  q2<>(SB), Y2, Y3
	VFMADD213PS  q3<>(SB), Y2, Y3
	VFMADD213PS  q4<>(SB), Y2, Y3
	VMULPS       Y4, Y2, Y2         // x³
	VFMADD213PS  Y4, Y2, Y3         // x + x³·Q
	VBLENDVPS    Y1, Y3, Y0, Y0
	VMOVUPS      Y0, (DI)
	ADDQ         $32, SI
	ADDQ         $32, DI
	SUBQ         $8, CX
	JGE          loop

done:
	VZEROUPPER
	RET

// func erfAVX2(dst, src *float32, n int)
//
// 1 − e^F(|x|) with the sign of x; near zero the polynomial.
TEXT ·erfAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SETEXP
	SUBQ $8, CX
	JL   done

loop:
	VBROADCASTSS sign<>(SB), Y1
	VANDNPS      (SI), Y1, Y1       // |x|
	VBROADCASTSS four<>(SB), Y2
	VMINPS       Y1, Y2, Y1         // NaN stays NaN
	VBROADCASTSS f0<>(SB), Y0
	VFMADD213PS  f1<>(SB), Y1, Y0
	VFMADD213PS  f2<>(SB), Y1, Y0
	VFMADD213PS  f3<>(SB), Y1, Y0
	VFMADD213PS  f4<>(SB), Y1, Y0
	VFMADD213PS  f5<>(SB), Y1, Y0
	VFMADD213PS  f6<>(SB), Y1, Y0
	VFMADD213PS  f7<>(SB), Y1, Y0
	VFMADD213PS  f8<>(SB), Y1, Y0
	EXP
	VSUBPS       Y0, Y14, Y0        // 1 − e^F
	VMOVUPS      (SI), Y4
	VBROADCASTSS sign<>(SB), Y1
	VANDPS       Y4, Y1, Y2
	VORPS        Y2, Y0, Y0         // with the sign of x
	VANDNPS      Y4, Y1, Y1         // |x|
	VBROADCASTSS split<>(SB), Y2
	VCMPPS       $1, Y2, Y1, Y1     // |x| < split; false for NaN
	VMULPS       Y4, Y4, Y2         // x²
	VBROADCASTSS e0<>(SB), Y3
	VFMADD213PS  e1<>(SB), Y2, Y3
	VFMADD213PS  e2<>(SB), Y2, Y3
	VFMADD213PS  e3<>(SB), Y2, Y3
	VFMADD213PS  e4<>(SB), Y2, Y3
	VFMADD213PS  e5<>(SB), Y2, Y3
	VFMADD213PS  Y4, Y4, Y3         // x + x·E
	VBLENDVPS    Y1, Y3, Y0, Y0
	VMOVUPS      Y0, (DI)
	ADDQ         $32, SI
	ADDQ         $32, DI
	SUBQ         $8, CX
	JGE          loop

done:
	VZEROUPPER
	RET
