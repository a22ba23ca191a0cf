// Norms of rows, every value in double before anything is added.
#pragma once

#include <cmath>

#include "sweep.hpp"

namespace advkit {
namespace {

template <class Lanes>
inline Vec<double> load_double(const double* p, Lanes lanes) {
  return load(p, lanes);
}
// Half a register of float.
typedef float Half __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 2)));
template <class Lanes>
inline Half load_half(const float* p, Lanes lanes) {
  Half half = {};
  std::memcpy(&half, p, sizeof(float) * static_cast<size_t>(lanes.lanes));
  return half;
}
template <class Lanes>
inline Vec<double> load_double(const float* p, Lanes lanes) {
  return __builtin_convertvector(load_half(p, lanes), Vec<double>);
}

// a - b, rounded to their own type.
template <class Lanes>
inline Vec<double> load_difference(const double* a, const double* b, Lanes lanes) {
  return load(a, lanes) - load(b, lanes);
}
template <class Lanes>
inline Vec<double> load_difference(const float* a, const float* b, Lanes lanes) {
  return __builtin_convertvector(load_half(a, lanes) - load_half(b, lanes), Vec<double>);
}

// Of the values (n) that value(i, lanes) gives.
template <class Value>
double norm_of(const Crew& crew, int64_t n, Order order, const Value& value) {
  const auto t = sweep<double, 1, 0, 1>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
    const Vec<double> v = value(i, lanes);
    if (order == Order::largest) {
      acc.max[0] = larger<double>(acc.max[0], absolute<double>(v));
      acc.sum[0] += choose<double>(v == v, Vec<double>{}, v);  // a maximum does not show NaN
    } else {
      acc.sum[0] += order == Order::sum ? absolute<double>(v) : v * v;
    }
  });
  return order == Order::sum ? t.sum[0] : order == Order::euclidean ? std::sqrt(t.sum[0]) : t.sum[0] + t.max[0];
}

template <class T>
void row_norm_row(const RowNormParams<T>& p, int64_t row, const Crew& crew) {
  const T* values = p.values + row * p.values_row;
  p.norm[row] = norm_of(crew, p.n, p.order, [=](int64_t i, auto lanes) { return load_double(values + i, lanes); });
}

}  // namespace
}  // namespace advkit
