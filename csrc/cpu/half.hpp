// Pairs stored in 16 bits: widened where they are loaded, rounded to the nearest, ties to even, where they are stored.
// What is stored lies in the range of its type: a pair is scaled before (pair_scale in advkit/rules.hpp).
#pragma once

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "advkit/params.hpp"
#include "vec.hpp"

namespace advkit {
namespace {

typedef uint16_t Halves __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 2)));
typedef uint32_t Words __attribute__((vector_size(ADVKIT_VECTOR_BYTES)));

inline Vec<float> as_float(Words w) { return reinterpret_cast<Vec<float>>(w); }
inline Words as_words(Vec<float> v) { return reinterpret_cast<Words>(v); }
inline Words wide(Halves h) { return __builtin_convertvector(h, Words); }
// To the nearest multiple of 2^bits, ties to even, in units of that.
inline Words rounded(Words w, int bits) { return (w + ((1u << (bits - 1)) - 1) + (w >> bits & 1u)) >> bits; }

inline Vec<float> widen(const BFloat16*, Halves h) { return as_float(wide(h) << 16); }
inline Halves narrow(BFloat16*, Vec<float> v) { return __builtin_convertvector(rounded(as_words(v), 16), Halves); }

#if defined(__AVX512F__)
// The masks ask for every lane: GCC 12 takes what the plain ones leave undefined for a mistake of ours.
inline Vec<float> widen(const Float16*, Halves h) { return _mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(h)); }
inline Halves narrow(Float16*, Vec<float> v) {
  return reinterpret_cast<Halves>(_mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
inline Vec<float> widen(const Float16*, Halves h) { return _mm256_cvtph_ps(reinterpret_cast<__m128i>(h)); }
inline Halves narrow(Float16*, Vec<float> v) { return reinterpret_cast<Halves>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
#else
// Neither needs subnormal numbers of float, which a thread may have switched off.
inline Vec<float> widen(const Float16*, Halves h) {
  const Words magnitude = wide(h) & 0x7fffu, bits = magnitude << 13;
  const Words small = as_words(__builtin_convertvector(magnitude, Vec<float>) * 0x1p-24f);
  const Words large = bits + (magnitude >= 0x7c00u ? Words{} + (224u << 23) : Words{} + (112u << 23));
  return as_float((magnitude < 0x400u ? small : large) | (wide(h) & 0x8000u) << 16);
}
inline Halves narrow(Float16*, Vec<float> v) {
  const Words magnitude = as_words(v) & 0x7fffffffu;
  const Words small = as_words(as_float(magnitude) + 0.5f) - 0x3f000000u;  // the sum is rounded to a multiple of 2^-24
  const Words large = rounded(magnitude, 13) - (112u << 10);
  const Words bits = magnitude < (113u << 23) ? small : large;
  return __builtin_convertvector(bits | (as_words(v) & 0x80000000u) >> 16, Halves);
}
#endif

template <class H, class Lanes>
inline Vec<float> load_half(const H* p, Lanes lanes) {
  Halves h = {};
  std::memcpy(&h, p, sizeof(H) * static_cast<size_t>(lanes.lanes));
  return widen(p, h);
}
template <class H, class Lanes>
inline void store_half(H* p, Vec<float> v, Lanes lanes) {
  const Halves h = narrow(p, v);
  std::memcpy(p, &h, sizeof(H) * static_cast<size_t>(lanes.lanes));
}

template <class Lanes>
inline Vec<float> load(const Float16* p, Lanes lanes) {
  return load_half(p, lanes);
}
template <class Lanes>
inline Vec<float> load(const BFloat16* p, Lanes lanes) {
  return load_half(p, lanes);
}
template <class Lanes>
inline void store(Float16* p, Vec<float> v, Lanes lanes) {
  store_half(p, v, lanes);
}
template <class Lanes>
inline void store(BFloat16* p, Vec<float> v, Lanes lanes) {
  store_half(p, v, lanes);
}

}  // namespace
}  // namespace advkit
