// c |x - x0| and the gradient of c |x - x0| + loss, as csrc/cpu/penalty.hpp. Where |r| has no derivative, the gradient is the
// element of least norm of the sum's subdifferential:
//   L1, r_i = 0:  sign(g_i) max(|g_i| - c, 0)          L2, r = 0:  g max(1 - c / |g|, 0)          with g the loss gradient.
// One block takes an image, or one tile of it: then the sums of the tiles lie in the workspace between three kernels.
#pragma once

#include "box.cuh"
#include "tiles.cuh"

namespace advkit {
namespace {

// What the gradient needs to know of the whole image before it can be written.
template <class T>
struct PenaltyFactors {
  T c;
  T scale;    // L2 away from 0: c / |r|;  L2 at 0: the factor of the loss gradient
  bool kink;  // L2 at 0
};

__device__ inline double length(Norm norm, double r_sum) {
  return norm == Norm::none ? 0.0 : norm == Norm::l2 ? std::sqrt(r_sum) : r_sum;
}

// r_sum = sum r_i^2 and g_sum = sum g_loss_i^2, used by L2 alone; the loss gradient is weight * g_loss.
template <class T>
__device__ inline PenaltyFactors<T> penalty_factors(Norm norm, double c, double r_sum, double g_sum, T weight) {
  PenaltyFactors<T> out{static_cast<T>(c), T(0), false};
  if (norm != Norm::l2) return out;
  out.kink = r_sum == 0;
  const double scale = out.kink ? shrunk_to(std::fabs(static_cast<double>(weight)) * std::sqrt(g_sum), c) : c / std::sqrt(r_sum);
  out.scale = static_cast<T>(scale);
  return out;
}

template <class T>
__device__ inline T penalty_gradient(Norm norm, const PenaltyFactors<T>& f, T x, T x0, T g_loss) {
  const T r = x - x0;
  if (norm == Norm::l2sq) return g_loss + (T(2) * f.c) * r;
  if (norm == Norm::l2) return f.kink ? g_loss * f.scale : g_loss + f.scale * r;
  if (norm == Norm::l1) {
    if (r > 0) return g_loss + f.c;
    if (r < 0) return g_loss - f.c;
    const T shrunk = g_loss > f.c ? g_loss - f.c : g_loss < -f.c ? g_loss + f.c : T(0);
    return g_loss == g_loss ? shrunk : g_loss;  // NaN must show
  }
  return g_loss;
}

// One value's part of the norm of r = x - x0: |r_i|, or r_i^2.
template <class T>
__device__ inline T norm_part(Norm norm, T r) {
  return norm == Norm::l1 ? absolute(r) : r * r;
}

// Sums for `penalty_factors`.
template <class T>
__device__ inline Totals<T, 2> l2_sweep(Span span, const T* x, const T* x0, const T* g_loss) {
  struct Values {
    T x, x0, g;
  };
  return sweep<T, 2>(
      span,
      [=](int64_t i) { return Values{x[i], x0[i], g_loss[i]}; },
      [](int64_t, const Values& v, auto& acc) {
        acc.sum[0] += (v.x - v.x0) * (v.x - v.x0);
        acc.sum[1] += v.g * v.g;
      });
}

// The op on one image.
template <class T>
class PenaltyRow {
 public:
  __device__ PenaltyRow(const PenaltyParams<T>& p, int64_t row)
      : norm_(p.norm),
        x_(p.x + row * p.x_row),
        x0_(p.x0 + row * p.x0_row),
        g_loss_(p.g_loss + row * p.g_loss_row),
        gradient_(p.gradient + row * p.n),
        free_(p.free + row * p.n),
        value_(p.value + row),
        box_(p.box, row),
        c_(static_cast<double>(p.c[row])) {}

  __device__ Totals<T, 2> norms(Span span) const { return l2_sweep(span, x_, x0_, g_loss_); }
  __device__ PenaltyFactors<T> factors(double r_sum, double g_sum) const {
    return penalty_factors(norm_, c_, r_sum, g_sum, T(1));
  }

  // Writes the gradient; the norm of r, and the projected gradient's.
  __device__ Totals<T, 1> gradient(Span span, const PenaltyFactors<T>& f) const {
    struct Values {
      T x, x0, g;
      Bounds<T> box;
    };
    return sweep<T, 1>(
        span,
        [this](int64_t i) { return Values{x_[i], x0_[i], g_loss_[i], box_.at(i)}; },
        [&, this](int64_t i, const Values& v, auto& acc) {
          const T g = penalty_gradient(norm_, f, v.x, v.x0, v.g);
          gradient_[i] = g;
          acc.sum[0] += norm_part(norm_, v.x - v.x0);
          acc.max = larger(acc.max, projected(smooth_part(norm_, v.box, v.x, v.x0, g), v.x, g));
        });
  }

  __device__ void finish(Span span, const Totals<T, 1>& image) const {
    if (span.begin == 0 && threadIdx.x == 0) {
      *value_ = static_cast<T>(c_ * length(norm_, image.sum[0]));
    }
    struct Values {
      T x, x0, g;
      Bounds<T> box;
    };
    const T margin = active_margin<T>(static_cast<double>(image.max));
    sweep<T, 0>(
        span,
        [this](int64_t i) { return Values{x_[i], x0_[i], gradient_[i], box_.at(i)}; },
        [&, this](int64_t i, const Values& v, auto&) {
          free_[i] = is_free(smooth_part(norm_, v.box, v.x, v.x0, v.g), v.x, v.g, margin);
        });
  }

 private:
  const Norm norm_;
  const T *const x_, *const x0_, *const g_loss_;
  T* const gradient_;
  bool* const free_;
  T* const value_;
  const RowBox<T> box_;
  const double c_;
};

template <class T>
__device__ inline void penalty_block(const Call<PenaltyParams<T>>& call) {
  __shared__ Meeting<T, 2> meeting;
  Block<T, 2> block(meeting);
  const PenaltyRow<T> row(call.p, blockIdx.x);
  const Span all{0, call.p.n};
  PenaltyFactors<T> factors = row.factors(0, 0);
  if (call.p.norm == Norm::l2) {
    const auto t = block.template reduce<false>(row.norms(all));
    factors = row.factors(t.sum[0], t.sum[1]);
  }
  row.finish(all, block.template reduce<true>(row.gradient(all, factors)));
}

// The split form: norms (L2 alone) -> gradient -> finish.
template <class T>
__device__ inline void penalty_norms(const Call<PenaltyParams<T>>& call) {
  __shared__ Meeting<T, 2> meeting;
  Block<T, 2> block(meeting);
  const PenaltyRow<T> row(call.p, blockIdx.x);
  put_partial(call, 0, block.template reduce<false>(row.norms(tile_of(call))));
}

template <class T>
__device__ inline void penalty_gradients(const Call<PenaltyParams<T>>& call) {
  __shared__ Meeting<T, 2> meeting;
  Block<T, 2> block(meeting);
  const PenaltyRow<T> row(call.p, blockIdx.x);
  PenaltyFactors<T> factors = row.factors(0, 0);
  if (call.p.norm == Norm::l2) {
    const auto t = block.template reduce<false>(get_partials<T, 2>(call, 0));
    factors = row.factors(t.sum[0], t.sum[1]);
  }
  put_partial(call, 1, block.template reduce<true>(row.gradient(tile_of(call), factors)));
}

template <class T>
__device__ inline void penalty_finish(const Call<PenaltyParams<T>>& call) {
  __shared__ Meeting<T, 1> meeting;
  Block<T, 1> block(meeting);
  const PenaltyRow<T> row(call.p, blockIdx.x);
  row.finish(tile_of(call), block.template reduce<true>(get_partials<T, 1>(call, 1)));
}

}  // namespace
}  // namespace advkit
