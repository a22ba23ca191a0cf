// What lbfgs_step does with the vectors of one image, on all of it or on a tile: the sweeps of csrc/cpu/lbfgs_step.hpp.
#pragma once

#include "advkit/decision.hpp"
#include "penalty.cuh"
#include "two_loop.cuh"

namespace advkit {
namespace {

// With what the gradient of L2 has to know of the trial, should the multiplier move.
template <class T>
struct StepControl : Control<T> {
  double r_sum, g_sum;
};

template <class T, class H>
class StepImage {
 public:
  struct Point {  // one value of the accepted point
    T x, x0, g;
    Bounds<T> box;
  };

  __device__ StepImage(const StepParams<T, H>& p, int64_t row) : p_(p), row_(row), slot_(static_cast<int>(p.slot[row])) {}

  // Whether the row names a slot that is still running.
  __device__ static bool running(const StepParams<T, H>& p, int64_t row) {
    const int64_t slot = p.slot[row];
    return 0 <= slot && slot < p.slots &&
           p.counters[slot * column::counters + column::status] == static_cast<int>(Status::running);
  }

  // Pointers are put together where a sweep begins: kept from one sweep to the next they would cost the two-loop recursion
  // its registers.
  __device__ T* vector(int which) const { return p_.vectors + (int64_t{slot_} * column::vectors + which) * p_.ld; }
  __device__ T* trial() const { return p_.trial + slot_ * p_.trial_row; }
  __device__ const T* x0() const { return p_.norm == Norm::none ? trial() : p_.x0 + slot_ * p_.x0_row; }
  __device__ const T* g_loss() const { return p_.g_loss + row_ * p_.g_loss_row; }
  __device__ Pairs<H> pairs(const Control<T>& c) const {
    const H* history = p_.history + slot_ * p_.m * 2 * p_.ld;
    return {history, history + p_.ld, 2 * p_.ld, 2 * p_.ld, p_.m, c.head, c.count};
  }

  // Sums for `penalty_factors`, which the gradient of L2 has to know before.
  __device__ Totals<T, 2> norms(Span span) const { return l2_sweep(span, trial(), x0(), g_loss()); }

  // The gradient at the trial, what the decisions need of it (0 ... 4, and the maximum), and the norm (5).
  __device__ Totals<T, 6> evaluate(Span span, double r_sum, double g_sum) const {
    struct Values {
      T xt, x0, g_loss, x, g;
      Bounds<T> box;
    };
    const Norm norm = p_.norm;
    const bool start = p_.counters[int64_t{slot_} * column::counters + column::phase] == static_cast<int>(Phase::start);
    const T weight = static_cast<T>(loss_weight(scalar(column::mu), scalar(column::rho), static_cast<double>(p_.loss[row_])));
    const PenaltyFactors<T> factors = penalty_factors(norm, scalar(column::c), r_sum, g_sum, weight);
    const T *x = vector(column::x), *g = vector(column::g), *xt = trial(), *x0 = this->x0(), *g_loss = this->g_loss();
    T* trial_g = vector(column::trial_g);
    const RowBox<T> box = this->box();
    return sweep<T, 6>(
        span,
        [&](int64_t i) { return Values{xt[i], x0[i], g_loss[i], start ? T(0) : x[i], start ? T(0) : g[i], box.at(i)}; },
        [&](int64_t i, const Values& v, auto& acc) {
          const T gt = penalty_gradient(norm, factors, v.xt, v.x0, weight * v.g_loss);
          trial_g[i] = gt;
          acc.max = larger(acc.max, projected(smooth_part(norm, v.box, v.xt, v.x0, gt), v.xt, gt));
          acc.sum[5] += norm_part(norm, v.xt - v.x0);
          if (start) {
            acc.sum[4] += gt * gt;
            return;
          }
          const T s = v.xt - v.x, y = gt - v.g;
          acc.sum[0] += gt * s;
          acc.sum[1] += v.g * s;
          acc.sum[2] += y * s;
          acc.sum[3] += s * s;
          acc.sum[4] += y * y;
        });
  }
  __device__ void shrink(Span span, T step) const {
    struct Values {
      Point at;
      T d;
    };
    const T* d = vector(column::direction);
    T* xt = trial();
    const Points points(*this);
    sweep<T, 0>(
        span,
        [&](int64_t i) { return Values{points[i], d[i]}; },
        [&](int64_t i, const Values& v, auto&) {
          const Bounds<T> b = part(v.at);
          const T end = clamp(v.at.x + v.d, b.lower, b.upper);
          xt[i] = clamp(v.at.x + step * (end - v.at.x), b.lower, b.upper);
        });
  }

  // How far the trial moves: the maximum.
  __device__ Totals<T, 0> expand(Span span, T step) const {
    struct Values {
      Point at;
      T d, here, here_g;
    };
    const T *d = vector(column::direction), *trial_g = vector(column::trial_g);
    T *xt = trial(), *best = vector(column::best), *best_g = vector(column::best_g);
    const Points points(*this);
    return sweep<T, 0>(
        span,
        [&](int64_t i) { return Values{points[i], d[i], xt[i], trial_g[i]}; },
        [&](int64_t i, const Values& v, auto& acc) {
          best[i] = v.here;
          best_g[i] = v.here_g;
          const Bounds<T> b = part(v.at);
          const T next = clamp(v.at.x + step * v.d, b.lower, b.upper);
          xt[i] = next;
          acc.max = larger(acc.max, absolute(next - v.here));
        });
  }

  // x moves to the new point and the pair enters the ring. If the multiplier has moved, y is the gradient's change before
  // that, and g its value after.
  __device__ void accept(Span span, const StepControl<T>& c) const {
    struct Values {
      T x1, g1, x, g, x0, g_loss;
    };
    const Norm norm = p_.norm;
    const bool keep = c.keep_pair, again = c.new_weight;
    const T weight = c.weight, pair_scale = c.pair_scale;
    const PenaltyFactors<T> factors = penalty_factors(norm, scalar(column::c), c.r_sum, c.g_sum, weight);
    const T *point = c.best ? vector(column::best) : trial(), *point_g = vector(c.best ? column::best_g : column::trial_g);
    const T *x0 = this->x0(), *g_loss = this->g_loss();
    T *x = vector(column::x), *g = vector(column::g);
    H* s = p_.history + (int64_t{slot_} * p_.m + c.place) * 2 * p_.ld;
    H* y = s + p_.ld;
    sweep<T, 0>(
        span,
        [&](int64_t i) {
          return Values{
              point[i], point_g[i], keep ? x[i] : T(0), keep ? g[i] : T(0), again ? x0[i] : T(0), again ? g_loss[i] : T(0)};
        },
        [&](int64_t i, const Values& v, auto&) {
          if (keep) {
            s[i] = Narrow<H>::from(pair_scale * (v.x1 - v.x));
            y[i] = Narrow<H>::from(pair_scale * (v.g1 - v.g));
          }
          x[i] = v.x1;
          g[i] = again ? penalty_gradient(norm, factors, v.x1, v.x0, weight * v.g_loss) : v.g1;
        });
  }

  // Reads the accepted point.
  class Points {
   public:
    __device__ explicit Points(const StepImage& image)
        : x_(image.vector(column::x)), g_(image.vector(column::g)), x0_(image.x0()), box_(image.box()), norm_(image.p_.norm) {}
    template <class Index>  // a short one saves registers
    __device__ Point operator[](Index i) const {
      const T x = x_[i];
      return {x, norm_ == Norm::l1 ? x0_[i] : x, g_[i], box_.at(i)};
    }

   private:
    const T *x_, *g_, *x0_;
    RowBox<T> box_;
    Norm norm_;
  };
  __device__ Bounds<T> part(const Point& v) const { return smooth_part(p_.norm, v.box, v.x, v.x0, v.g); }
  __device__ bool is_free(const Point& v, T margin) const { return advkit::is_free(part(v), v.x, v.g, margin); }

  // For the scale of the steepest descent: |g_F|_1, and the box's greatest width.
  template <class Acc>
  __device__ void measure(const Point& v, bool free, Acc& acc) const {
    const Bounds<T> b = part(v);
    acc.sum[0] += free ? absolute(v.g) : T(0);
    acc.max = larger(acc.max, b.upper - b.lower);
  }

  // Sets out along d: the trial is the end of the segment. g_F'd_F and g'(trial - x).
  class Aim {
   public:
    __device__ explicit Aim(const StepImage& image)
        : image_(image), direction_(image.vector(column::direction)), trial_(image.trial()) {}
    template <class Acc>
    __device__ void operator()(int64_t i, const Point& v, T d, bool free, Acc& acc) const {
      const Bounds<T> b = image_.part(v);
      const T end = clamp(v.x + d, b.lower, b.upper);
      direction_[i] = d;
      trial_[i] = end;
      acc.sum[0] += free ? v.g * d : T(0);
      acc.sum[1] += v.g * (end - v.x);
    }

   private:
    const StepImage& image_;
    T *direction_, *trial_;
  };

 private:
  __device__ double scalar(int which) const { return p_.scalars[int64_t{slot_} * column::scalars + which]; }
  __device__ RowBox<T> box() const { return RowBox<T>(p_.box, slot_); }

  const StepParams<T, H>& p_;
  const int64_t row_;
  const int slot_;
};

// What follows from the totals of `evaluate`, by one thread.
template <class T, class H>
__device__ inline void decide(Decision<T, H>& decision, StepControl<T>& control, const Totals<T, 6>& t, double g_sum, Norm norm) {
  decision.mend_ring();
  decision.evaluated({0, t.sum[0], t.sum[1], t.sum[2], t.sum[3], t.sum[4], static_cast<double>(t.max)}, length(norm, t.sum[5]));
  control.r_sum = t.sum[5];
  control.g_sum = g_sum;
}

}  // namespace
}  // namespace advkit
