// One register of values, from the compiler's vector extension: the same source becomes SSE, AVX2, AVX-512 or NEON.
// Everything here has internal linkage: this header is compiled once for every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define ADVKIT_VECTOR_BYTES 64
#elif defined(__AVX__)
#define ADVKIT_VECTOR_BYTES 32
#else
#define ADVKIT_VECTOR_BYTES 16
#endif

namespace advkit {
namespace {

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float type __attribute__((vector_size(ADVKIT_VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(ADVKIT_VECTOR_BYTES)));
};
template <>
struct Lanes<double> {
  typedef double type __attribute__((vector_size(ADVKIT_VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(ADVKIT_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Lanes<T>::type;
template <class T>
using Mask = typename Lanes<T>::mask;  // all bits of a lane set, or none
template <class T>
constexpr int width = ADVKIT_VECTOR_BYTES / static_cast<int>(sizeof(T));
// Which register value i of a row lies in; unsigned, so that dividing is a shift.
template <class T>
constexpr size_t register_of(int64_t i) {
  return static_cast<size_t>(i) / static_cast<size_t>(width<T>);
}

// How many lanes of a register take part: all, or the first `lanes` at the end of a row (the others read 0, write nothing).
template <class T>
struct Whole {
  static constexpr int lanes = width<T>;
};
struct Part {
  int lanes;
};

template <class T>
inline Vec<T> load(const T* p, Whole<T>) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline Vec<T> load(const T* p, Part part) {
  Vec<T> v = {};
  std::memcpy(&v, p, sizeof(T) * static_cast<size_t>(part.lanes));
  return v;
}
template <class T>
inline void store(T* p, Vec<T> v, Whole<T>) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
inline void store(T* p, Vec<T> v, Part part) {
  std::memcpy(p, &v, sizeof(T) * static_cast<size_t>(part.lanes));
}

// Asks for the line at p, which may be anywhere, to be brought to the second-level cache.
template <class T>
inline void fetch(const T* p) {
  __builtin_prefetch(p, 0, 2);
}

template <class T>
inline Vec<T> fill(T value) {
  return value - Vec<T>{};  // a broadcast, which GCC 12 does not make of a loop over the lanes; minus, since -0 + 0 is 0
}
// The lanes of a register that take part, 0 in the others.
template <class T>
inline Vec<T> first(Whole<T>, Vec<T> v) {
  return v;
}
template <class V>
inline V first(Part part, V v) {
  V out = {};
  std::memcpy(&out, &v, sizeof(v[0]) * static_cast<size_t>(part.lanes));
  return out;
}
template <class T>
inline Vec<T> choose(Mask<T> m, Vec<T> a, Vec<T> b) {
  return m ? a : b;
}
template <class T>
inline Vec<T> keep(Mask<T> m, Vec<T> a) {
  return reinterpret_cast<Vec<T>>(reinterpret_cast<Mask<T>>(a) & m);
}

// A mask as memory keeps it: a bit for each lane where the processor has registers for such masks, so that a load can take
// one along, else the mask itself.
#if defined(__AVX512F__)
template <class T>
struct PackedMask;
template <>
struct PackedMask<float> {
  __mmask16 bits;
  explicit PackedMask(Mask<float> m) : bits(_mm512_movepi32_mask(reinterpret_cast<__m512i>(m))) {}
  Vec<float> keep(Vec<float> a) const { return _mm512_maskz_mov_ps(bits, a); }
  Vec<float> choose(Vec<float> a, Vec<float> b) const { return _mm512_mask_mov_ps(b, bits, a); }
};
template <>
struct PackedMask<double> {
  __mmask8 bits;
  explicit PackedMask(Mask<double> m) : bits(_mm512_movepi64_mask(reinterpret_cast<__m512i>(m))) {}
  Vec<double> keep(Vec<double> a) const { return _mm512_maskz_mov_pd(bits, a); }
  Vec<double> choose(Vec<double> a, Vec<double> b) const { return _mm512_mask_mov_pd(b, bits, a); }
};
#else
template <class T>
struct PackedMask {
  Mask<T> lanes;
  explicit PackedMask(Mask<T> m) : lanes(m) {}
  Vec<T> keep(Vec<T> a) const { return advkit::keep<T>(lanes, a); }
  Vec<T> choose(Vec<T> a, Vec<T> b) const { return advkit::choose<T>(lanes, a, b); }
};
#endif

// bool in memory, one byte each.
template <class T>
struct Bytes;
template <>
struct Bytes<float> {
  typedef int8_t type __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 4)));
};
template <>
struct Bytes<double> {
  typedef int8_t type __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 8)));
};
template <class T, class Lanes>
inline Mask<T> load_mask(const bool* p, Lanes lanes) {
  typename Bytes<T>::type bytes = {};
  std::memcpy(&bytes, p, static_cast<size_t>(lanes.lanes));
  return __builtin_convertvector(bytes, Mask<T>) != 0;
}
template <class T, class Lanes>
inline void store_mask(bool* p, Mask<T> m, Lanes lanes) {
  const auto bytes = __builtin_convertvector(-m, typename Bytes<T>::type);
  std::memcpy(p, &bytes, static_cast<size_t>(lanes.lanes));
}

template <class T>
inline Vec<T> absolute(Vec<T> a) {
  return reinterpret_cast<Vec<T>>(reinterpret_cast<Mask<T>>(a) & ~reinterpret_cast<Mask<T>>(fill<T>(-T(0))));
}
template <class T>
inline Vec<T> larger(Vec<T> a, Vec<T> b) {
  return choose<T>(a > b, a, b);
}
// NaN stays NaN: it must not turn into a bound unseen.
template <class T>
inline Vec<T> clamp(Vec<T> v, Vec<T> lo, Vec<T> hi) {
  v = choose<T>(v < lo, lo, v);
  return choose<T>(v > hi, hi, v);
}

// The sum of all lanes: the upper half is added to the lower, as long as there is one.
inline double total_of(Vec<double> v) {
  double lanes[width<double>];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = width<double> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// Lanes of double, to which lanes of T are added.
struct Wide {
  Vec<double> lanes = {};
  void add(Vec<double> a, Vec<double> b) { lanes += a + b; }
  void add(Vec<float> a, Vec<float> b) { lanes += halves(a) + halves(b); }
  double total() const { return total_of(lanes); }

 private:
  // The lower lanes plus the upper ones. Of half a register GCC 12 would convert by way of the stack.
  static Vec<double> halves(Vec<float> v) {
    typedef double Both __attribute__((vector_size(2 * ADVKIT_VECTOR_BYTES)));
    const Both both = __builtin_convertvector(v, Both);
    Vec<double> half[2];
    std::memcpy(half, &both, sizeof both);
    return half[0] + half[1];
  }
};

template <class T>
inline double max_lanes(Vec<T> v) {
  double most = 0;
  for (int i = 0; i < width<T>; ++i) most = static_cast<double>(v[i]) > most ? static_cast<double>(v[i]) : most;
  return most;
}

}  // namespace
}  // namespace advkit
