// Numbers as the kernels see them: bfloat16 in memory, vectors of 16 floats in registers.
//
// Written with the vector extensions that GCC and Clang share, so that one source serves every processor; only
// what those cannot say (rounding to bfloat16, dot products of pairs) is spelled out for the processors that
// have an instruction for it.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace tgi {

using bf16 = uint16_t;
constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline Floats splat(float value) { return Floats{} + value; }

inline Floats load(const float* from) {
    Floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

// 16 signed bytes.
inline Floats widen(const int8_t* from) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
#else
    Floats value;
    for (int lane = 0; lane < LANES; ++lane) value[lane] = float(from[lane]);
    return value;
#endif
}

// The lowest four bits of each word.
inline Floats lowest_bits(Words words) {
#if defined(__AVX512F__)
    const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (Floats)_mm512_permutexvar_ps((__m512i)words, numbers);  // looks at four bits of an index
#else
    return __builtin_convertvector((Ints)(words & 15), Floats);
#endif
}

// Eight lanes from `first` on, each twice.
inline Floats twice(Floats value, int first) {
#if defined(__AVX512F__)
    const __m512i pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return (Floats)_mm512_permutexvar_ps(_mm512_add_epi32(pairs, _mm512_set1_epi32(first)), (__m512)value);
#else
    Floats spread;
    for (int lane = 0; lane < LANES; ++lane) spread[lane] = value[first + lane / 2];
    return spread;
#endif
}

inline void store(float* to, Floats value) { memcpy(to, &value, sizeof value); }

inline float widen(bf16 value) {
    uint32_t bits = uint32_t(value) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline Floats widen(Halves values) {
#if defined(__AVX512F__)
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)values), 16);
#else
    return (Floats)(__builtin_convertvector(values, Words) << 16);
#endif
}

inline Floats widen(const bf16* from) {
    Halves values;
    memcpy(&values, from, sizeof values);
    return widen(values);
}

// Rounds to the nearest bfloat16, ties to even; NaN stays NaN.
inline Halves narrow(Floats value) {
#if defined(__AVX512BF16__)
    return (Halves)_mm512_cvtneps_pbh((__m512)value);
#else
    Words bits = (Words)value;
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    Ints is_number = value == value;
    return __builtin_convertvector((rounded & (Words)is_number) | (0x7fc0 & ~(Words)is_number), Halves);
#endif
}

inline void store(bf16* to, Floats value) {
    Halves rounded = narrow(value);
    memcpy(to, &rounded, sizeof rounded);
}

// What is left of a value once it was stored as bfloat16.
inline Floats rounded(Floats value) { return widen(narrow(value)); }

inline bf16 narrow(float value) { return narrow(splat(value))[0]; }

inline Floats select(Ints condition, Floats yes, Floats no) {
    return (Floats)(((Ints)yes & condition) | ((Ints)no & ~condition));
}

inline Floats larger(Floats a, Floats b) { return select(a > b, a, b); }

inline float sum(Floats value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)value);
#else
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += value[lane];
    return total;
#endif
}

inline float largest(Floats value) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)value);
#else
    float best = value[0];
    for (int lane = 1; lane < LANES; ++lane) best = value[lane] > best ? value[lane] : best;
    return best;
#endif
}

// 2 to the power of x: 0 from -126 down, infinity from 128 up, NaN of NaN. The polynomial's relative error is under
// 2e-7 on [0, 1] (a least-squares fit to 2**f at Chebyshev nodes).
inline Floats exp2(Floats x) {
    constexpr float LEAST = -126.0f;  // below, results would be denormal, which processors are slow at
#if defined(__AVX512F__)
    const __mmask16 is_normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(LEAST), _CMP_NLE_UQ);
    const Floats whole =
        (Floats)_mm512_maskz_roundscale_ps(is_normal, (__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const Floats fraction = (Floats)_mm512_maskz_sub_ps(is_normal, (__m512)x, (__m512)whole);
#else
    const Floats bounded = select(x < 128, larger(x, splat(LEAST)), splat(128.0f));
    Ints truncated = __builtin_convertvector(bounded, Ints);
    truncated += __builtin_convertvector(truncated, Floats) > bounded;  // true is -1
    const Floats fraction = bounded - __builtin_convertvector(truncated, Floats);
#endif
    Floats power = splat(1.8775767e-3f);
    power = power * fraction + 8.9893397e-3f;
    power = power * fraction + 5.5826318e-2f;
    power = power * fraction + 2.4015361e-1f;
    power = power * fraction + 6.9315308e-1f;
    power = power * fraction + 9.9999994e-1f;
#if defined(__AVX512F__)
    return (Floats)_mm512_maskz_scalef_ps(is_normal, (__m512)power, (__m512)whole);
#else
    power = (Floats)((Ints)power + (truncated << 23));
    power = select(x <= LEAST, Floats{}, power);
    power = select(x >= 128, splat(__builtin_inff()), power);
    return select(x != x, x, power);
#endif
}

}  // namespace tgi
