// One register of values, from the compiler's vector extension: the same source becomes SSE, AVX2, AVX-512 or NEON.
// Everything here has internal linkage: this header is compiled once for every instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
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

template <class T>
inline Vec<T> fill(T value) {
  return value - Vec<T>{};  // a broadcast, which GCC 12 does not make of a loop over the lanes; minus, since -0 + 0 is 0
}
// The lanes of a register that take part, 0 in the others.
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

// Lanes of double, to which lanes of T are added.
struct Wide {
  Vec<double> lanes = {};
  void add(Vec<double> a, Vec<double> b) { lanes += a + b; }
  void add(Vec<float> a, Vec<float> b) { lanes += halves(a) + halves(b); }
  double total() const {
    double sum = 0;
    for (int i = 0; i < width<double>; ++i) sum += lanes[i];
    return sum;
  }

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
