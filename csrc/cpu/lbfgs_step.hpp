// One evaluation of one image, from the loss and its gradient to the next trial point: the whole solver.
//
//   start    the first point was evaluated
//   search   on the segment x + a p, p = P(x + d) - x, from a = 1: Armijo (or approximate Wolfe where f no longer resolves
//            the difference), else the minimiser of the cubic through both values and slopes
//   expand   the first trial was good and still steep: P(x + 4^k d) for k = 1, 2, ... while f falls and stays steep
// With rho > 0 the loss is a constraint, loss <= 0, and its place in the objective is taken by
//   (max(0, mu + rho loss)^2 - mu^2) / (2 rho),
// the augmented Lagrangian (Nocedal & Wright 2006, section 17.4, for an inequality). The multiplier mu moves at every
// accepted point. The steps' lengths are then known from rho, and none is expanded.
// An accepted point brings: the pair (s, y), the tests to stop, the free set, the two-loop direction, the next trial.
// advkit/ops/lbfgs_step/reference.py is the same in plain torch, composed of the other ops.
#pragma once

#include <cmath>
#include <limits>

#include "penalty.hpp"
#include "two_loop.hpp"

namespace advkit {
namespace {

template <Norm norm, class T>
class Step {
 public:
  Step(const StepParams<T>& p, int64_t row, const Crew<>& crew, const Scratch<T>& scratch)
      : p_(p),
        crew_(crew),
        w_(scratch),
        n_(p.n),
        slot_(p.slot[row]),
        box_(p.box, slot_),
        sc_(p.scalars + slot_ * column::scalars),
        ct_(p.counters + slot_ * column::counters),
        trial_(p.trial + slot_ * p.trial_row),
        x0_(norm == Norm::none ? trial_ : p.x0 + slot_ * p.x0_row),
        g_loss_(p.g_loss + row * p.g_loss_row),
        loss_(static_cast<double>(p.loss[row])),
        weight_(static_cast<T>(weight(sc_[column::mu]))) {}

  void advance() {
    if (ct_[column::status] != static_cast<int>(Status::running)) return;
    const Evaluation e = evaluate();
    ct_[column::evaluations] += 1;
    const bool finite = std::isfinite(e.f) && std::isfinite(e.gs_trial) && std::isfinite(e.yy);
    switch (static_cast<Phase>(ct_[column::phase])) {
      case Phase::start:
        if (!finite) {
          sc_[column::f] = e.f;
          sc_[column::projected_gradient] = not_a_number<double>;
          move(vector(column::trial_g), trial_, false);
          return stop(Status::non_finite);
        }
        sc_[column::f_window] = e.f;
        return accept(vector(column::trial_g), trial_, e);
      case Phase::search:
        return search(e, finite);
      case Phase::expand:
        if (finite && e.f < sc_[column::f_best]) return expand(e);
        return accept_best();
    }
  }

 private:
  T* vector(int which) const { return p_.vectors + (slot_ * column::vectors + which) * p_.ld; }
  T* pair(int64_t j, int which) const { return p_.history + ((slot_ * p_.m + j) * 2 + which) * p_.ld; }
  void stop(Status status) { ct_[column::status] = static_cast<int>(status); }
  bool out_of_evaluations() const { return ct_[column::evaluations] >= p_.max_evaluations; }

  bool constrained() const { return sc_[column::rho] > 0; }
  double weight(double mu) const { return loss_weight(mu, sc_[column::rho], loss_); }
  double value(double mu) const { return loss_value(mu, sc_[column::rho], loss_); }

  // f and g at the trial point, and what the decisions need of them.
  Evaluation evaluate() {
    const double c = sc_[column::c];
    factors_ = penalty_factors<norm>(crew_, n_, trial_, x0_, g_loss_, c, weight_);
    const auto factors = factors_;
    sc_[column::norm] = factors.value;
    const T *x = vector(column::x), *g = vector(column::g);
    T* trial_g = vector(column::trial_g);
    const bool start = ct_[column::phase] == static_cast<int>(Phase::start);
    const auto t = sweep<T, 5, 1>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> xt = load(trial_ + i, lanes), x0 = load(x0_ + i, lanes);
      const Vec<T> gt = penalty_gradient<norm, T>(factors, xt, x0, weight_ * load(g_loss_ + i, lanes));
      store(trial_g + i, gt, lanes);
      acc.max[0] = larger<T>(acc.max[0], projected<T>(smooth_part<norm, T>(box_.at(i, lanes), xt, x0, gt), xt, gt));
      if (start) {
        acc.sum[4] += gt * gt;
        return;
      }
      const Vec<T> gx = load(g + i, lanes), s = xt - load(x + i, lanes), y = gt - gx;
      acc.sum[0] += gt * s;
      acc.sum[1] += gx * s;
      acc.sum[2] += y * s;
      acc.sum[3] += s * s;
      acc.sum[4] += y * y;
    });
    return {penalised(sc_[column::mu]), t.sum[0], t.sum[1], t.sum[2], t.sum[3], t.sum[4], t.max[0]};
  }

  double penalised(double mu) const { return norm == Norm::none ? value(mu) : value(mu) + sc_[column::c] * factors_.value; }

  void search(const Evaluation& e, bool finite) {
    const double f = sc_[column::f];
    const bool moved = e.ss > 0;  // or the step was lost to rounding
    if (finite && moved && acceptable<T>(f, e)) {
      if (ct_[column::trials] == 0 && still_steep(e) && !constrained()) {
        sc_[column::step] = 1;
        return expand(e);
      }
      return accept(vector(column::trial_g), trial_, e);
    }
    ct_[column::trials] += 1;
    if (out_of_evaluations()) return stop(Status::evaluations);
    if (stagnates(f)) return stop(Status::stagnation);
    if (!moved || ct_[column::trials] >= most_trials) {
      if (ct_[column::count] == 0) return stop(finite ? Status::stagnation : Status::non_finite);
      ct_[column::count] = 0;
      const Split split = split_variables();
      return steepest(split);
    }
    sc_[column::step] *= finite ? cubic(f, e) : 0.1;
    const T a = static_cast<T>(sc_[column::step]);
    const T *x = vector(column::x), *g = vector(column::g), *d = vector(column::direction);
    sweep<T, 0>(crew_, n_, [=, *this](int64_t i, auto lanes, auto&) {
      const Vec<T> xi = load(x + i, lanes);
      const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), xi, load(x0_ + i, lanes), load(g + i, lanes));
      const Vec<T> end = clamp<T>(xi + load(d + i, lanes), b.lower, b.upper);
      store(trial_ + i, clamp<T>(xi + a * (end - xi), b.lower, b.upper), lanes);
    });
  }

  // Keeps the trial as the best point so far and looks further along the arc.
  void expand(const Evaluation& e) {
    sc_[column::f_best] = e.f;
    sc_[column::sy_best] = e.sy;
    sc_[column::ss_best] = e.ss;
    sc_[column::yy_best] = e.yy;
    sc_[column::pg_best] = e.pg;
    ct_[column::phase] = static_cast<int>(Phase::expand);
    ct_[column::trials] += 1;
    sc_[column::step] *= expansion;
    const bool last = !still_steep(e) || out_of_evaluations() || ct_[column::trials] > most_expansions;
    const T k = static_cast<T>(sc_[column::step]);
    const T *x = vector(column::x), *g = vector(column::g), *d = vector(column::direction), *trial_g = vector(column::trial_g);
    T *best = vector(column::best), *best_g = vector(column::best_g);
    const auto moved = sweep<T, 0, 1>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> here = load(trial_ + i, lanes), xi = load(x + i, lanes);
      store(best + i, here, lanes);
      store(best_g + i, load(trial_g + i, lanes), lanes);
      const Bounds<T> b = smooth_part<norm, T>(box_.at(i, lanes), xi, load(x0_ + i, lanes), load(g + i, lanes));
      const Vec<T> next = clamp<T>(xi + k * load(d + i, lanes), b.lower, b.upper);
      store(trial_ + i, next, lanes);
      acc.max[0] = larger<T>(acc.max[0], absolute<T>(next - here));
    });
    if (last || !(moved.max[0] > 0)) accept_best();
  }

  void accept_best() {
    Evaluation e{};
    e.f = sc_[column::f_best];
    e.sy = sc_[column::sy_best];
    e.ss = sc_[column::ss_best];
    e.yy = sc_[column::yy_best];
    e.pg = sc_[column::pg_best];
    accept(vector(column::best_g), vector(column::best), e);
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
    w_.free[i / width<T>] = m;
    const Vec<T> q = keep<T>(m, g);
    store(w_.q + i, q, lanes);
    acc.sum[0] += absolute<T>(q);
    acc.max[0] = larger<T>(acc.max[0], choose<T>(m, Vec<T>{}, fill<T>(T(1))));
    acc.max[1] = larger<T>(acc.max[1], b.upper - b.lower);
  }

  Split split_variables() const {
    const T *x = vector(column::x), *g = vector(column::g);
    const T margin = active_margin<T>(sc_[column::projected_gradient]);
    const auto t = sweep<T, 1, 2>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      this->split(i, lanes, load(x + i, lanes), load(g + i, lanes), margin, acc);
    });
    return {t.sum[0], t.max[0] == 0, std::isfinite(t.max[1])};
  }

  // x moves to the new point, the pair enters the ring, and the variables are split, in one pass. If the multiplier has
  // moved, y is the gradient's change before that, and g its value after.
  Split move(const T* point_g, const T* point, bool keep_pair, bool new_weight = false) {
    const auto factors = new_weight ? penalty_factors<norm>(crew_, n_, point, x0_, g_loss_, sc_[column::c], weight_) : factors_;
    T *x = vector(column::x), *g = vector(column::g);
    T *s_new = pair(ct_[column::head], 0), *y_new = pair(ct_[column::head], 1);
    const T margin = active_margin<T>(sc_[column::projected_gradient]);
    const auto t = sweep<T, 1, 2>(crew_, n_, [=, *this](int64_t i, auto lanes, auto& acc) {
      const Vec<T> x1 = load(point + i, lanes);
      Vec<T> g1 = load(point_g + i, lanes);
      if (keep_pair) {
        store(s_new + i, x1 - load(x + i, lanes), lanes);
        store(y_new + i, g1 - load(g + i, lanes), lanes);
      }
      if (new_weight) g1 = penalty_gradient<norm, T>(factors, x1, load(x0_ + i, lanes), weight_ * load(g_loss_ + i, lanes));
      store(x + i, x1, lanes);
      store(g + i, g1, lanes);
      this->split(i, lanes, x1, g1, margin, acc);
    });
    if (keep_pair) {
      ct_[column::head] = static_cast<int32_t>((ct_[column::head] + 1) % p_.m);
      ct_[column::count] += ct_[column::count] < p_.m ? 1 : 0;
    }
    return {t.sum[0], t.max[0] == 0, std::isfinite(t.max[1])};
  }

  void accept(const T* point_g, const T* point, const Evaluation& e) {
    const bool start = ct_[column::phase] == static_cast<int>(Phase::start);
    const double f_old = sc_[column::f];
    const bool good = !start && curved(e.sy, e.ss, e.yy);
    const bool new_weight = constrained() && !start;
    if (new_weight) {
      sc_[column::mu] = weight(sc_[column::mu]);
      weight_ = static_cast<T>(weight(sc_[column::mu]));
    }
    sc_[column::f] = new_weight ? penalised(sc_[column::mu]) : e.f;
    sc_[column::projected_gradient] = e.pg;
    const Split variables = move(point_g, point, good, new_weight);
    ct_[column::phase] = static_cast<int>(Phase::search);
    if (!start) {
      ct_[column::iterations] += 1;
      ct_[column::skips] = good ? 0 : ct_[column::skips] + 1;
      if (ct_[column::skips] >= most_skips) ct_[column::count] = ct_[column::skips] = 0;
    }
    if (e.pg <= p_.gradient_tolerance) return stop(Status::gradient);
    const double scale = std::fmax(1.0, std::fmax(std::fabs(f_old), std::fabs(e.f)));
    if (!start && f_old - e.f <= p_.relative_tolerance * scale) return stop(Status::relative_f);
    if (!start && stagnates(sc_[column::f])) return stop(Status::stagnation);
    if (out_of_evaluations()) return stop(Status::evaluations);
    if (ct_[column::count] > 0) {
      const T* history = p_.history + slot_ * p_.m * 2 * p_.ld;
      const Pairs<T> pairs{history, history + p_.ld, 2 * p_.ld, 2 * p_.ld, p_.m, ct_[column::head], ct_[column::count]};
      const auto last = two_loop_core(crew_, n_, pairs, w_, variables.all_free);
      if (last.any && quasi_newton(last)) return;
      if (last.any) ct_[column::count] = 0;
    }
    steepest(variables);
  }

  bool stagnates(double f) {
    if (ct_[column::evaluations] % p_.stagnation_window != 0) return false;
    const double fell = sc_[column::f_window] - f;
    sc_[column::f_window] = f;
    return fell <= p_.stagnation_tolerance * std::fmax(1.0, std::fabs(f));
  }

  // d = -H g on the free variables, -g on the active ones. False if d or its projection does not descend.
  bool quasi_newton(const Unfinished<T>& last) {
    // A step that the box cuts to little of its descent runs into a corner.
    return try_direction(least_share, [=, *this](int64_t i, auto lanes, Vec<T> g) {
      const Vec<T> Hg = load(w_.q + i, lanes) + last.coefficient * load(last.s + i, lanes);
      return choose<T>(w_.free[i / width<T>], -Hg, -g);
    });
  }

  void steepest(const Split& variables) {
    const T scale = static_cast<T>(steepest_scale(sc_[column::first_step], variables.boxed, variables.g_free));
    if (!try_direction(0.0, [=](int64_t, auto, Vec<T> g) { return -g * scale; })) stop(Status::stagnation);
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
    sc_[column::step] = 1;
    ct_[column::trials] = 0;
    return descends(t.sum[0], t.sum[1], share);
  }

  const StepParams<T>& p_;
  const Crew<>& crew_;
  const Scratch<T> w_;
  const int64_t n_, slot_;
  const RowBox<T> box_;
  double* const sc_;
  int32_t* const ct_;
  T* const trial_;
  const T* const x0_;
  const T* const g_loss_;
  const double loss_;
  T weight_;                  // of the loss's gradient
  PenaltyFactors<T> factors_{};  // at the trial point
};

}  // namespace
}  // namespace advkit
