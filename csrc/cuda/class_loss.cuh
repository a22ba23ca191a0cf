// The loss on the logits of one image, and its gradient, by one warp: see csrc/cpu/class_loss.hpp for the formulae.
#pragma once

#include "tiles.cuh"

namespace advkit {
namespace {

constexpr int class_loss_warps = 4;  // rows of a block

// The larger logit, the first of equals; index -1 where there is none.
template <class F>
struct Largest {
  F value;
  int64_t index;

  __device__ void meet(F other, int64_t at) {
    if (at < 0 || (index >= 0 && !(other > value) && !(other == value && at < index))) return;
    value = other;
    index = at;
  }
};

template <class T>
__device__ inline void class_loss_rows(const Call<ClassLossParams<T>>& call) {
  using F = typename Wider<T>::type;
  const ClassLossParams<T>& p = call.p;
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * class_loss_warps + threadIdx.x / 32;
  if (row >= p.rows) return;  // all lanes of the warp
  const T* z = p.logits + row * p.logits_row;
  T* d = p.dlogits + row * p.classes;
  const int64_t y = p.labels[row];
  const double sign = p.targeted ? -1.0 : 1.0;  // of z_y in the loss
  const bool inside = 0 <= y && y < p.classes;
  const auto logit = [&](int64_t k) { return static_cast<double>(widen(z[k])); };

  Largest<F> rival{F(0), -1};
  bool nan = !inside;  // which only a read could tell the host: it shows as NaN
  for (int64_t k = lane; k < p.classes; k += 32) {
    const F zk = widen(z[k]);
    nan = nan || zk != zk;
    if (k != y) rival.meet(zk, k);
  }
  if (__any_sync(every_lane, nan)) {
    const T bad = Narrow<T>::from(not_a_number<F>);
    if (lane == 0) p.loss[row] = bad;
    for (int64_t k = lane; k < p.classes; k += 32) d[k] = bad;
    return;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const F value = __shfl_xor_sync(every_lane, rival.value, offset);
    const int64_t index = __shfl_xor_sync(every_lane, rival.index, offset);
    rival.meet(value, index);
  }

  const double own = logit(y), top = static_cast<double>(rival.value);
  if (p.kind == Loss::margin) {
    const double margin = sign * (own - top) + p.kappa;
    if (lane == 0) p.loss[row] = Narrow<T>::from((margin > 0 ? margin : 0.0) - p.kappa);
    for (int64_t k = lane; k < p.classes; k += 32) {
      const double slope = k == y ? sign : k == rival.index ? -sign : 0.0;
      d[k] = Narrow<T>::from(margin > 0 ? slope : 0.0);
    }
    return;
  }

  const bool entropy = p.kind == Loss::cross_entropy;
  const double b = entropy ? 1.0 : p.sharpness, kappa = entropy ? 0.0 : p.kappa;
  // exp(b (z_k - top)), also where top is infinite.
  const auto weight = [&](int64_t k) {
    const double zk = logit(k);
    return zk == top ? 1.0 : std::exp(b * (zk - top));
  };
  double total[1] = {};
  for (int64_t k = lane; k < p.classes; k += 32) {
    if (k != y) total[0] += weight(k);
  }
  const double sum = warp_totals<1>(total);
  const double gap = b * (sign * (own - top - std::log(sum) / b) + kappa);
  const double slope = sign * logistic(gap);
  if (lane == 0) p.loss[row] = Narrow<T>::from(softplus(gap) / b);
  for (int64_t k = lane; k < p.classes; k += 32) {
    d[k] = Narrow<T>::from(k == y ? slope : -slope * (weight(k) / sum));
  }
}

}  // namespace
}  // namespace advkit
