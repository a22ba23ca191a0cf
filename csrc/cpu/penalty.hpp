// c |x - x0| and the gradient of c |x - x0| + loss, for the squared L2, L2 and L1 norms.
//
// Where |r| has no derivative, the gradient is the element of least norm of the sum's subdifferential:
//   L1, r_i = 0:  sign(g_i) max(|g_i| - c, 0)          L2, r = 0:  g max(1 - c / |g|, 0)          with g the loss gradient.
#pragma once

#include <cmath>

#include "box.hpp"
#include "sweep.hpp"

namespace advkit {
namespace {

// What the gradient needs to know of the whole image before it can be written.
template <class T>
struct PenaltyFactors {
  double value;  // |x - x0|, where the gradient needs it
  T c;
  T scale;   // L2 away from 0: c / |r|;  L2 at 0: the factor of the loss gradient
  bool kink; // L2 at 0
};

// |r|^2 or |r|_1 is the sum of these.
template <Norm norm, class T>
inline Vec<T> penalty_term(Vec<T> r) {
  return norm == Norm::l1 ? absolute<T>(r) : r * r;
}

// Whether the gradient needs the value first: a pass over the image before it.
constexpr bool gradient_needs_value(Norm norm) { return norm == Norm::l2; }

// Without the value, where the gradient does not need it. The loss gradient is weight * g_loss.
template <Norm norm, class T>
PenaltyFactors<T> penalty_factors(const Crew& crew, int64_t n, const T* x, const T* x0, const T* g_loss, double c, T weight = 1) {
  PenaltyFactors<T> out{0.0, static_cast<T>(c), T(0), false};
  if constexpr (gradient_needs_value(norm)) {
    const auto r = sweep<T, 1>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
      acc.sum[0] += penalty_term<norm, T>(load(x + i, lanes) - load(x0 + i, lanes));
    });
    out.value = std::sqrt(r.sum[0]);
    out.kink = out.value == 0.0;
    if (out.kink) {
      const auto g = sweep<T, 1>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
        const Vec<T> v = weight * load(g_loss + i, lanes);
        acc.sum[0] += v * v;
      });
      out.scale = static_cast<T>(shrunk_to(std::sqrt(g.sum[0]), c));
    } else {
      out.scale = static_cast<T>(c / out.value);
    }
  }
  return out;
}

template <Norm norm, class T>
inline Vec<T> penalty_gradient(const PenaltyFactors<T>& f, Vec<T> x, Vec<T> x0, Vec<T> g_loss) {
  const Vec<T> r = x - x0;
  if constexpr (norm == Norm::l2sq) return g_loss + (T(2) * f.c) * r;
  if constexpr (norm == Norm::l2) return f.kink ? g_loss * f.scale : g_loss + f.scale * r;
  if constexpr (norm == Norm::l1) {
    const Vec<T> c = fill<T>(f.c), zero = {};
    const Vec<T> shrunk = choose<T>(g_loss > c, g_loss - c, choose<T>(g_loss < -c, g_loss + c, zero));
    const Vec<T> at_kink = choose<T>(g_loss == g_loss, shrunk, g_loss);  // NaN must show
    return choose<T>(r > zero, g_loss + c, choose<T>(r < zero, g_loss - c, at_kink));
  }
  return g_loss;
}

// |P(x - g) - x|, elementwise.
template <class T>
inline Vec<T> projected(Bounds<T> box, Vec<T> x, Vec<T> g) {
  return absolute<T>(clamp<T>(x - g, box.lower, box.upper) - x);
}

template <Norm norm, class T>
void penalty_row(const PenaltyParams<T>& p, int64_t row, const Crew& crew) {
  const T* x = p.x + row * p.x_row;
  const T* x0 = p.x0 + row * p.x0_row;
  const T* g_loss = p.g_loss + row * p.g_loss_row;
  T* gradient = p.gradient + row * p.n;
  bool* free = p.free + row * p.n;
  const RowBox<T> box(p.box, row);
  const double c = static_cast<double>(p.c[row]);
  const auto factors = penalty_factors<norm>(crew, p.n, x, x0, g_loss, c);
  const auto most = sweep<T, 1, 0, 1>(crew, p.n, [=](int64_t i, auto lanes, auto& acc) {
    const Vec<T> xi = load(x + i, lanes), x0i = load(x0 + i, lanes);
    const Vec<T> g = penalty_gradient<norm, T>(factors, xi, x0i, load(g_loss + i, lanes));
    store(gradient + i, g, lanes);
    if constexpr (norm != Norm::none && !gradient_needs_value(norm)) acc.sum[0] += penalty_term<norm, T>(xi - x0i);
    acc.max[0] = larger<T>(acc.max[0], projected<T>(smooth_part<norm, T>(box.at(i, lanes), xi, x0i, g), xi, g));
  });
  p.value[row] = static_cast<T>(c * (gradient_needs_value(norm) ? factors.value : most.sum[0]));
  const T margin = active_margin<T>(most.max[0]);
  sweep<T, 0>(crew, p.n, [=](int64_t i, auto lanes, auto&) {
    const Vec<T> xi = load(x + i, lanes), g = load(gradient + i, lanes);
    const Mask<T> m = is_free<T>(smooth_part<norm, T>(box.at(i, lanes), xi, load(x0 + i, lanes), g), xi, g, margin);
    store_mask<T>(free + i, m, lanes);
  });
}

}  // namespace
}  // namespace advkit
