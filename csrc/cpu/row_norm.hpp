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
template <class Lanes>
inline Vec<double> load_double(const float* p, Lanes lanes) {
  typedef float Half __attribute__((vector_size(ADVKIT_VECTOR_BYTES / 2)));
  Half half = {};
  std::memcpy(&half, p, sizeof(float) * static_cast<size_t>(lanes.lanes));
  return __builtin_convertvector(half, Vec<double>);
}

template <class T>
void row_norm_row(const RowNormParams<T>& p, int64_t row, const Crew& crew) {
  const T* values = p.values + row * p.values_row;
  const Order order = p.order;
  const auto t = sweep<double, 1, 0, 1>(crew, p.n, [=](int64_t i, auto lanes, auto& acc) {
    const Vec<double> v = load_double(values + i, lanes);
    if (order == Order::largest) {
      acc.max[0] = larger<double>(acc.max[0], absolute<double>(v));
      acc.sum[0] += choose<double>(v == v, Vec<double>{}, v);  // a maximum does not show NaN
    } else {
      acc.sum[0] += order == Order::sum ? absolute<double>(v) : v * v;
    }
  });
  p.norm[row] = order == Order::sum ? t.sum[0] : order == Order::euclidean ? std::sqrt(t.sum[0]) : t.sum[0] + t.max[0];
}

}  // namespace
}  // namespace advkit
