// The loss on the logits of one image, and its gradient, in one pass.
//
//   cross-entropy, targeted      -log p_t      = softplus(lse_{k != t} z_k - z_t)
//   cross-entropy, untargeted    -log(1 - p_y) = softplus(z_y - lse_{k != y} z_k)        (stable when p_y rounds to 1)
//   margin       m = max_{k != t} z_k - z_t, or z_y - max_{k != y} z_k;  max(m, -kappa)  (Carlini & Wagner 2016, f6)
//   smooth margin                softplus(sharpness (m + kappa)) / sharpness
#pragma once

#include <cmath>

#include "advkit/params.hpp"

namespace advkit {
namespace {

inline double softplus(double v) { return v > 0 ? v + std::log1p(std::exp(-v)) : std::log1p(std::exp(v)); }
inline double logistic(double v) {
  if (v > 0) return 1 / (1 + std::exp(-v));
  const double e = std::exp(v);
  return e / (1 + e);
}

template <class T>
void class_loss_row(const ClassLossParams<T>& p, int64_t row) {
  const T* z = p.logits + row * p.logits_row;
  T* d = p.dlogits + row * p.classes;
  const int64_t y = p.labels[row];
  const double sign = p.targeted ? -1.0 : 1.0;  // of z_y in the loss

  int64_t rival = y == 0 ? 1 : 0;  // the largest other logit, the first of equals
  bool nan = std::isnan(z[y]);
  for (int64_t k = 0; k < p.classes; ++k) {
    if (k != y && z[k] > z[rival]) rival = k;
    nan = nan || std::isnan(z[k]);
  }
  if (nan) {
    p.loss[row] = std::numeric_limits<T>::quiet_NaN();
    for (int64_t k = 0; k < p.classes; ++k) d[k] = p.loss[row];
    return;
  }

  const double top = static_cast<double>(z[rival]);
  if (p.kind == Loss::cross_entropy) {
    double total = 0;
    for (int64_t k = 0; k < p.classes; ++k) {
      if (k != y) total += std::exp(static_cast<double>(z[k]) - top);
    }
    const double gap = sign * (static_cast<double>(z[y]) - top - std::log(total));
    const double slope = logistic(gap);
    p.loss[row] = static_cast<T>(softplus(gap));
    for (int64_t k = 0; k < p.classes; ++k) {
      d[k] = static_cast<T>(k == y ? sign * slope : -sign * slope * (std::exp(static_cast<double>(z[k]) - top) / total));
    }
    return;
  }

  const double margin = sign * (static_cast<double>(z[y]) - top) + p.kappa;
  double slope;
  if (p.kind == Loss::margin) {
    p.loss[row] = static_cast<T>((margin > 0 ? margin : 0.0) - p.kappa);
    slope = margin > 0 ? 1.0 : 0.0;
  } else {
    p.loss[row] = static_cast<T>(softplus(p.sharpness * margin) / p.sharpness);
    slope = logistic(p.sharpness * margin);
  }
  for (int64_t k = 0; k < p.classes; ++k) d[k] = T(0);
  d[y] = static_cast<T>(sign * slope);
  d[rival] = static_cast<T>(-sign * slope);
}

}  // namespace
}  // namespace advkit
