// How far the network is from being fooled at one image: as the constraint h <= 0 of an attack, with its gradient by the
// logits, and as the margin that decides. advkit/attack/margins.py is the same in plain torch, and says what is what.
#pragma once

#include <cmath>
#include <limits>

#include "advkit/params.hpp"

namespace advkit {
namespace {

template <class T>
void margin_row(const MarginParams<T>& p, int64_t row) {
  const T* z = p.logits + row * p.logits_row;
  const int64_t y = p.labels[row];
  int64_t top = y == 0 ? 1 : 0;  // the largest other logit, the first of equals; NaN is larger than any
  T size = 0;                    // of the largest finite one
  for (int64_t k = 0; k < p.classes; ++k) {
    const T a = std::abs(z[k]);
    if (std::isfinite(a) && a > size) size = a;
    if (k != y && !std::isnan(z[top]) && (std::isnan(z[k]) || z[k] > z[top])) top = k;
  }
  const T margin = (p.targeted ? z[y] - z[top] : z[top] - z[y]) - static_cast<T>(p.kappa);
  p.margin[row] = margin;
  p.fooled[row] = p.kappa > 0 ? margin >= 0 : margin > 0;
  p.surely[row] = margin > 64 * std::numeric_limits<T>::epsilon() * size;
  if (p.constraint == nullptr) return;

  const int64_t rival = p.rivals[row] < 0 ? top : p.rivals[row];
  const T sign = p.targeted ? T(-1) : T(1);
  T* d = p.dlogits + row * p.classes;
  T other = z[rival];
  double b = p.sharpness == nullptr ? 0.0 : p.sharpness[row];
  if (b < 0) {
    const double difference = std::abs(static_cast<double>(z[y] - other));
    b = -b / (difference < 1e-6 ? 1e-6 : difference);
  }
  if (b != 0) {
    const double highest = static_cast<double>(z[top]);
    const auto weight = [&](int64_t k) { return z[k] == z[top] ? 1.0 : std::exp(b * (static_cast<double>(z[k]) - highest)); };
    double total = 0;
    for (int64_t k = 0; k < p.classes; ++k) {
      const double w = k == y ? 0.0 : weight(k);
      total += w;
      d[k] = static_cast<T>(w);
    }
    other = static_cast<T>(highest + std::log(total) / b);
    for (int64_t k = 0; k < p.classes; ++k) d[k] *= static_cast<T>(-sign / total);
  } else {
    for (int64_t k = 0; k < p.classes; ++k) d[k] = T(0);
    d[rival] = -sign;
  }
  d[y] = sign;
  p.constraint[row] = sign * (z[y] - other) + static_cast<T>(p.kappa);
}

}  // namespace
}  // namespace advkit
