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
  Vec<T> v;
  for (int i = 0; i < width<T>; ++i) v[i] = value;
  return v;
}
template <class T>
inline Vec<T> fill(T value, Whole<T>) {
  return fill<T>(value);
}
template <class T>
inline Vec<T> fill(T value, Part part) {
  Vec<T> v = {};
  for (int i = 0; i < part.lanes; ++i) v[i] = value;
  return v;
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

// A sum in lanes of double, to which lanes of T are added.
template <class T>
struct Wide;
template <>
struct Wide<double> {
  Vec<double> part = {};
  void add(Vec<double> v) { part += v; }
  double total() const {
    double sum = 0;
    for (int i = 0; i < width<double>; ++i) sum += part[i];
    return sum;
  }
};
template <>
struct Wide<float> {
  typedef float half __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 2)));
  Wide<double> low, high;
  void add(Vec<float> v) {
    half h[2];
    std::memcpy(h, &v, sizeof v);
    low.add(__builtin_convertvector(h[0], Vec<double>));
    high.add(__builtin_convertvector(h[1], Vec<double>));
  }
  double total() const { return low.total() + high.total(); }
};

template <class T>
inline double max_lanes(Vec<T> v) {
  double most = 0;
  for (int i = 0; i < width<T>; ++i) most = static_cast<double>(v[i]) > most ? static_cast<double>(v[i]) : most;
  return most;
}

}  // namespace
}  // namespace advkit
