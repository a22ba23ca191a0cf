// The loss on the logits of one image, and its gradient, in one pass.
//
// With b the sharpness and R_b = log(sum_{k != y} exp(b z_k)) / b the smooth maximum of the other logits:
//   smooth margin   softplus(b (z_y - R_b + kappa)) / b, with R_b - z_t in place of the difference when targeted
//   cross-entropy   the same with b = 1 and kappa = 0: -log p_t, or -log(1 - p_y), exact where p rounds to 0 or 1
//   margin          max(z_y - max_{k != y} z_k, -kappa), or the other way round  (Carlini & Wagner 2016, f6)
#pragma once

#include <cmath>

#include "advkit/rules.hpp"

namespace advkit {
namespace {

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
    p.loss[row] = not_a_number<T>;
    for (int64_t k = 0; k < p.classes; ++k) d[k] = p.loss[row];
    return;
  }

  const double top = static_cast<double>(z[rival]);
  if (p.kind == Loss::margin) {
    const double margin = sign * (static_cast<double>(z[y]) - top) + p.kappa;
    p.loss[row] = static_cast<T>((margin > 0 ? margin : 0.0) - p.kappa);
    for (int64_t k = 0; k < p.classes; ++k) d[k] = T(0);
    d[y] = static_cast<T>(margin > 0 ? sign : 0.0);
    d[rival] = static_cast<T>(margin > 0 ? -sign : 0.0);
    return;
  }

  const bool entropy = p.kind == Loss::cross_entropy;
  const double b = entropy ? 1.0 : p.sharpness, kappa = entropy ? 0.0 : p.kappa;
  // exp(b (z_k - top)), also where top is infinite.
  const auto weight = [&](int64_t k) {
    const double zk = static_cast<double>(z[k]);
    return zk == top ? 1.0 : std::exp(b * (zk - top));
  };
  double total = 0;
  for (int64_t k = 0; k < p.classes; ++k) {
    if (k != y) total += weight(k);
  }
  const double gap = b * (sign * (static_cast<double>(z[y]) - top - std::log(total) / b) + kappa);
  const double slope = sign * logistic(gap);
  p.loss[row] = static_cast<T>(softplus(gap) / b);
  for (int64_t k = 0; k < p.classes; ++k) {
    d[k] = static_cast<T>(k == y ? slope : -slope * (weight(k) / total));
  }
}

}  // namespace
}  // namespace advkit
