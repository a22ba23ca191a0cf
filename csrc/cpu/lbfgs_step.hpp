// One evaluation of one image, from the loss and its gradient to the next trial point: the whole solver.
// advkit/decision.hpp describes the method and decides; here is what its decisions do to the vectors.
// An accepted point brings: the pair (s, y), the tests to stop, the free set, the two-loop direction, the next trial.
// advkit/ops/lbfgs_step/reference.py is the same in plain torch, composed of the other ops.
#pragma once

#include <cmath>
#include <limits>

#include "advkit/decision.hpp"
#include "penalty.hpp"
#include "two_loop.hpp"

namespace advkit {
namespace {

template <Norm norm, class T, class H>
class Step {
 public:
  Step(const StepParams<T, H>& p, int64_t row, int64_t then, const Crew& crew, const Scratch<T>& scratch)
      : p_(p),
        crew_(crew),
        w_(scratch),
        n_(p.n),
        row_(row),
        slot_(p.slot[row]),
        then_slot_(p.slot[then]),
        box_(p.box, slot_),
        trial_(p.trial + slot_ * p.trial_row),
        x0_(norm == Norm::none ? trial_ : p.x0 + slot_ * p.x0_row),
        g_loss_(p.g_loss + row * p.g_loss_row),
        decision_(p, row, control_) {}

  void advance() {
    if (p_.counters[slot_ * column::counters + column::status] != static_cast<int>(Status::running)) return;
    const Evaluation e = evaluate();
    decision_.evaluated(e, distance_);
    if (control_.act == Act::shrink) return shrink();
    if (control_.act == Act::expand) decision_.expanded(expand());
    Split variables{};
    if (control_.act == Act::accept) variables = accept();
    if (control_.act == Act::restart) variables = split_variables();
    if (!control_.aim) return;
    if (control_.quasi) {
      const H* history = p_.history + slot_ * p_.m * 2 * p_.ld;
      const int64_t ahead = fit_twice<H>(n_, p_.m) ? (then_slot_ - slot_) * p_.m * 2 * p_.ld : 0;
      const Pairs<H> pairs{history, history + p_.ld, 2 * p_.ld, 2 * p_.ld, p_.m, control_.head, control_.count, ahead, ahead};
      const auto last = two_loop_core(crew_, n_, pairs, w_, variables.all_free);
      if (last.any && quasi_newton(last)) return decision_.aimed(true);
      decision_.fall_back(last.any);
    }
    decision_.aimed(steepest(variables));
  }

 private:
  double scalar(int which) const { return p_.scalars[slot_ * column::scalars + which]; }
  T* vector(int which) const { return p_.vectors + (slot_ * column::vectors + which) * p_.ld; }
  H* pair(int64_t j, int which) const { return p_.history + ((slot_ * p_.m + j) * 2 + which) * p_.ld; }

  // The gradient at the trial point, and what the decisions need of it.
  Evaluation evaluate() {
    const T weight = static_cast<T>(loss_weight(scalar(column::mu), scalar(column::rho), static_cast<double>(p_.loss[row_])));
    factors_ = penalty_factors<norm>(crew_, n_, trial_, x0_, g_loss_, scalar(column::c), weight);
    const auto factors = factors_;
    const T *x = vector(column::x), *g = vector(column::g);
    T* trial_g = vector(column::trial_g);
    const bool start = p_.counters[slot_ * column::counters + column::phase] == static_cast<int>(Phase::start);
    const auto t = sweep<T, 4, 2, 1>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> xt = load(trial_ + i, lanes), x0 = load(x0_ + i, lanes);
      const Vec<T> gt = penalty_gradient<norm, T>(factors, xt, x0, weight * load(g_loss_ + i, lanes));
      store(trial_g + i, gt, lanes);
      if constexpr (norm != Norm::none && !gradient_needs_value(norm)) acc.sum[3] += penalty_term<norm, T>(xt - x0);
      acc.max[0] = larger<T>(acc.max[0], projected<T>(smooth_part<norm, T>(box_.at(i, lanes), xt, x0, gt), xt, gt));
      if (start) {
        acc.squares[1] += gt * gt;
        return;
      }
      const Vec<T> gx = load(g + i, lanes), s = xt - load(x + i, lanes), y = gt - gx;
      acc.sum[0] += gt * s;
      acc.sum[1] += gx * s;
      acc.sum[2] += y * s;
      acc.squares[0] += s * s;
      acc.squares[1] += y * y;
    });
    distance_ = gradient_needs_value(norm) ? factors.value : t.sum[3];
    return {0, t.sum[0], t.sum[1], t.sum[2], t.squares[0], t.squares[1], t.max[0]};
  }

  void shrink() {
    const T a = control_.step;
    const T *x = vector(column::x), *g = vector(column::g), *d = vector(column::direction);
    sweep<T, 0>(crew_, n_, [=, *this](int64_t i, auto lanes, auto&) {
      const Vec<T> xi = load(x + i, lanes);
      const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), xi, load(x0_ + i, lanes), load(g + i, lanes));
      const Vec<T> end = clamp<T>(xi + load(d + i, lanes), b.lower, b.upper);
      store(trial_ + i, clamp<T>(xi + a * (end - xi), b.lower, b.upper), lanes);
    });
  }

  // Keeps the trial as the best point so far and looks further along the arc. How far that is.
  T expand() {
    const T k = control_.step;
    const T *x = vector(column::x), *g = vector(column::g), *d = vector(column::direction), *trial_g = vector(column::trial_g);
    T *best = vector(column::best), *best_g = vector(column::best_g);
    const auto moved = sweep<T, 0, 0, 1>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> here = load(trial_ + i, lanes), xi = load(x + i, lanes);
      store(best + i, here, lanes);
      store(best_g + i, load(trial_g + i, lanes), lanes);
      const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), xi, load(x0_ + i, lanes), load(g + i, lanes));
      const Vec<T> next = clamp<T>(xi + k * load(d + i, lanes), b.lower, b.upper);
      store(trial_ + i, next, lanes);
      acc.max[0] = larger<T>(acc.max[0], absolute<T>(next - here));
    });
    return static_cast<T>(moved.max[0]);
  }

  struct Split {
    double g_free;  // |g_F|_1
    bool all_free;
    bool boxed;     // every bound is finite
  };

  // Free or active, and q = g on the free variables.
  template <class Lanes, class Acc>
  void split(int64_t i, Lanes lanes, Vec<T> x, Vec<T> g, T margin, Acc& acc) const {
    const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), x, load(x0_ + i, lanes), g);
    const Mask<T> m = is_free<T>(b, x, g, margin);
    w_.free[register_of<T>(i)] = PackedMask<T>(m);
    const Vec<T> q = keep<T>(m, g);
    store(w_.q + i, q, lanes);
    acc.sum[0] += absolute<T>(q);
    acc.max[0] = larger<T>(acc.max[0], choose<T>(m, Vec<T>{}, fill<T>(T(1))));
    acc.max[1] = larger<T>(acc.max[1], b.upper - b.lower);
  }

  Split split_variables() const {
    const T *x = vector(column::x), *g = vector(column::g);
    const T margin = control_.margin;
    const auto t = sweep<T, 1, 0, 2>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      this->split(i, lanes, load(x + i, lanes), load(g + i, lanes), margin, acc);
    });
    return {t.sum[0], t.max[0] == 0, std::isfinite(t.max[1])};
  }

  // x moves to the new point, the pair enters the ring, and the variables are split, in one pass. If the multiplier has
  // moved, y is the gradient's change before that, and g its value after.
  Split accept() {
    const T *point = control_.best ? vector(column::best) : trial_,
            *point_g = vector(control_.best ? column::best_g : column::trial_g);
    const bool keep_pair = control_.keep_pair, new_weight = control_.new_weight;
    const T weight = control_.weight, margin = control_.margin;
    const auto factors = new_weight ? penalty_factors<norm>(crew_, n_, point, x0_, g_loss_, scalar(column::c), weight) : factors_;
    T *x = vector(column::x), *g = vector(column::g);
    H *s_new = pair(control_.place, 0), *y_new = pair(control_.place, 1);
    const T pair_scale = control_.pair_scale;
    const auto t = sweep<T, 1, 0, 2>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> x1 = load(point + i, lanes);
      Vec<T> g1 = load(point_g + i, lanes);
      if (keep_pair) {
        store(s_new + i, pair_scale * (x1 - load(x + i, lanes)), lanes);
        store(y_new + i, pair_scale * (g1 - load(g + i, lanes)), lanes);
      }
      if (new_weight) g1 = penalty_gradient<norm, T>(factors, x1, load(x0_ + i, lanes), weight * load(g_loss_ + i, lanes));
      store(x + i, x1, lanes);
      store(g + i, g1, lanes);
      this->split(i, lanes, x1, g1, margin, acc);
    });
    return {t.sum[0], t.max[0] == 0, std::isfinite(t.max[1])};
  }

  // d = -H g on the free variables, -g on the active ones. False if d or its projection does not descend.
  bool quasi_newton(const Unfinished<T, H>& last) {
    // A step that the box cuts to little of its descent runs into a corner.
    return try_direction(least_share, [=, *this](int64_t i, auto lanes, Vec<T> g) {
      const Vec<T> Hg = load(w_.q + i, lanes) + last.coefficient * load(last.s + i, lanes);
      return w_.free[register_of<T>(i)].choose(-Hg, -g);
    });
  }

  bool steepest(const Split& variables) {
    const T scale = decision_.scale(variables.boxed, variables.g_free);
    return try_direction(0.0, [=](int64_t, auto, Vec<T> g) { return -g * scale; });
  }

  template <class Direction>
  bool try_direction(double share, Direction direction) {
    const T *x = vector(column::x), *g = vector(column::g);
    T* d = vector(column::direction);
    const auto t = sweep<T, 2>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> xi = load(x + i, lanes), gi = load(g + i, lanes), di = direction(i, lanes, gi);
      const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), xi, load(x0_ + i, lanes), gi);
      const Vec<T> end = clamp<T>(xi + di, b.lower, b.upper);
      store(d + i, di, lanes);
      store(trial_ + i, end, lanes);
      acc.sum[0] += w_.masked(i, gi * di);
      acc.sum[1] += gi * (end - xi);
    });
    return descends(t.sum[0], t.sum[1], share);
  }

  const StepParams<T, H>& p_;
  const Crew& crew_;
  const Scratch<T> w_;
  const int64_t n_, row_, slot_, then_slot_;  // then: of the image that this thread takes next
  const RowBox<T> box_;
  T* const trial_;
  const T* const x0_;
  const T* const g_loss_;
  PenaltyFactors<T> factors_{};  // at the trial point
  double distance_ = 0;          // |trial - x0|, or its square
  Control<T> control_{};
  Decision<T, H> decision_;
};

}  // namespace
}  // namespace advkit
