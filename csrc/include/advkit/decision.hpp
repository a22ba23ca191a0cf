// What is decided for an image from the sums over its values: the part of lbfgs_step that is about numbers, the same for all
// compiled kernels. It reads and writes the slot's scalars and counters, and leaves what the vectors have to do in a `Control`.
//
//   start    the first point was evaluated
//   search   on the segment x + a p, p = P(x + d) - x, from a = 1: Armijo (or approximate Wolfe where f no longer resolves
//            the difference), else the minimiser of the cubic through both values and slopes
//   expand   the first trial was good and still steep: P(x + 4^k d) for k = 1, 2, ... while f falls and stays steep
// With rho > 0 the loss is a constraint, loss <= 0, and its place in the objective is taken by
//   (max(0, mu + rho loss)^2 - mu^2) / (2 rho),
// the augmented Lagrangian (Nocedal & Wright 2006, section 17.4, for an inequality). The multiplier mu moves at every
// accepted point. The steps' lengths are then known from rho, and none is expanded.
#pragma once

#include "advkit/rules.hpp"

namespace advkit {
namespace {

enum class Act : int {
  nothing,
  shrink,   // the next trial, on the segment x + step (P(x + d) - x)
  expand,   // the trial is the best point so far; the next one, on the arc P(x + step d)
  accept,   // the trial, or the best point, becomes x
  restart,  // x stays, and a new direction starts from the steepest descent
};

template <class T>
struct Control {
  Act act;
  bool best;        // accept: the best point, not the trial
  bool keep_pair;   // accept: the pair (s, y) enters the ring at `place`
  bool new_weight;  // accept: the loss's weight has moved, to `weight`, and g with it
  bool last;        // expand: no further than this
  bool aim;         // a direction is wanted after this
  bool quasi;       // ... by the pairs; else steepest descent
  int place, head, count;
  T pair_scale;         // that s and y are stored with
  T weight;             // of the loss's gradient
  T step;
  T margin;  // what counts as at a bound
  T scale;   // steepest descent: the factor of -g
};

template <class T, class H>
class Decision {
 public:
  ADVKIT_HD Decision(const StepParams<T, H>& p, int64_t row, Control<T>& next)
      : p_(p),
        sc_(p.scalars + p.slot[row] * column::scalars),
        ct_(p.counters + p.slot[row] * column::counters),
        loss_(static_cast<double>(p.loss[row])),
        next_(next) {}

  // A ring that points outside of itself holds no pairs.
  ADVKIT_HD void mend_ring() {
    if (0 <= ct_[column::head] && ct_[column::head] < p_.m && 0 <= ct_[column::count] && ct_[column::count] <= p_.m) return;
    ct_[column::head] = ct_[column::count] = 0;
  }

  // The trial was evaluated; e.f is still to be put together from the loss and the norm.
  ADVKIT_HD void evaluated(Evaluation e, double norm) {
    next_ = {};
    sc_[column::norm] = norm;
    e.f = penalised(sc_[column::mu]);
    ct_[column::evaluations] += 1;
    const bool finite = std::isfinite(e.f) && std::isfinite(e.gs_trial) && std::isfinite(e.yy);
    switch (static_cast<Phase>(ct_[column::phase])) {
      case Phase::start:
        if (!finite) {
          sc_[column::f] = e.f;
          sc_[column::projected_gradient] = not_a_number<double>;
          next_.act = Act::accept;
          return stop(Status::non_finite);
        }
        sc_[column::f_window] = e.f;
        return accept(e, false);
      case Phase::search:
        return search(e, finite);
      case Phase::expand:
        if (finite && e.f < sc_[column::f_best]) return expand(e);
        return accept_best();
    }
  }

  // The arc's next point is set, `moved` away from the last one.
  ADVKIT_HD void expanded(T moved) {
    if (!next_.last && moved > 0) {
      next_.act = Act::nothing;
    } else {
      accept_best();
    }
  }

  // No quasi-Newton direction: by the pairs none descends, or none of them could be used.
  ADVKIT_HD void fall_back(bool used_pairs) {
    if (used_pairs) ct_[column::count] = 0;
    next_.quasi = false;
  }

  // Of the steepest descent. Whether every bound is finite, and |g_F|_1.
  ADVKIT_HD T scale(bool boxed, double g_free) const {
    return static_cast<T>(steepest_scale(sc_[column::first_step], boxed, g_free));
  }

  // A trial point was set along a new direction.
  ADVKIT_HD void aimed(bool good) {
    sc_[column::step] = 1;
    ct_[column::trials] = 0;
    if (!good) stop(Status::stagnation);
  }

 private:
  ADVKIT_HD void stop(Status status) { ct_[column::status] = static_cast<int>(status); }
  ADVKIT_HD bool out_of_evaluations() const { return ct_[column::evaluations] >= p_.max_evaluations; }
  ADVKIT_HD bool constrained() const { return sc_[column::rho] > 0; }
  ADVKIT_HD double penalised(double mu) const {
    const double value = loss_value(mu, sc_[column::rho], loss_);
    return p_.norm == Norm::none ? value : value + sc_[column::c] * sc_[column::norm];
  }

  ADVKIT_HD void search(const Evaluation& e, bool finite) {
    const double f = sc_[column::f];
    const bool moved = e.ss > 0;  // or the step was lost to rounding
    if (finite && moved && acceptable<T>(f, e)) {
      if (ct_[column::trials] == 0 && still_steep(e) && !constrained()) {
        sc_[column::step] = 1;
        return expand(e);
      }
      return accept(e, false);
    }
    ct_[column::trials] += 1;
    if (out_of_evaluations()) return stop(Status::evaluations);
    if (stagnates(f)) return stop(Status::stagnation);
    if (!moved || ct_[column::trials] >= most_trials) {
      if (ct_[column::count] == 0) return stop(finite ? Status::stagnation : Status::non_finite);
      ct_[column::count] = 0;
      next_.act = Act::restart;
      next_.aim = true;
      next_.margin = active_margin<T>(sc_[column::projected_gradient]);
      return;
    }
    sc_[column::step] *= finite ? cubic(f, e) : 0.1;
    next_.act = Act::shrink;
    next_.step = static_cast<T>(sc_[column::step]);
  }

  // Keeps the trial as the best point so far and looks further along the arc.
  ADVKIT_HD void expand(const Evaluation& e) {
    sc_[column::f_best] = e.f;
    sc_[column::sy_best] = e.sy;
    sc_[column::ss_best] = e.ss;
    sc_[column::yy_best] = e.yy;
    sc_[column::pg_best] = e.pg;
    ct_[column::phase] = static_cast<int>(Phase::expand);
    ct_[column::trials] += 1;
    sc_[column::step] *= expansion;
    next_.act = Act::expand;
    next_.step = static_cast<T>(sc_[column::step]);
    next_.last = !still_steep(e) || out_of_evaluations() || ct_[column::trials] > most_expansions;
  }

  ADVKIT_HD void accept_best() {
    Evaluation e{};
    e.f = sc_[column::f_best];
    e.sy = sc_[column::sy_best];
    e.ss = sc_[column::ss_best];
    e.yy = sc_[column::yy_best];
    e.pg = sc_[column::pg_best];
    accept(e, true);
  }

  ADVKIT_HD void accept(const Evaluation& e, bool best) {
    const bool start = ct_[column::phase] == static_cast<int>(Phase::start);
    const double f_old = sc_[column::f];
    const bool good = !start && curved(e.sy, e.ss, e.yy);
    next_.act = Act::accept;
    next_.best = best;
    next_.keep_pair = good;
    next_.pair_scale = sizeof(H) < sizeof(T) ? static_cast<T>(pair_scale(e.ss, e.yy)) : T(1);
    next_.new_weight = constrained() && !start;
    if (next_.new_weight) {
      sc_[column::mu] = loss_weight(sc_[column::mu], sc_[column::rho], loss_);
      next_.weight = static_cast<T>(loss_weight(sc_[column::mu], sc_[column::rho], loss_));
    }
    sc_[column::f] = next_.new_weight ? penalised(sc_[column::mu]) : e.f;
    sc_[column::projected_gradient] = e.pg;
    next_.margin = active_margin<T>(e.pg);
    next_.place = ct_[column::head];
    if (good) {
      ct_[column::head] = static_cast<int32_t>((ct_[column::head] + 1) % p_.m);
      ct_[column::count] += ct_[column::count] < p_.m ? 1 : 0;
    }
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
    next_.aim = true;
    next_.head = ct_[column::head];
    next_.count = ct_[column::count];
    next_.quasi = next_.count > 0;
  }

  ADVKIT_HD bool stagnates(double f) {
    if (ct_[column::evaluations] % p_.stagnation_window != 0) return false;
    const double fell = sc_[column::f_window] - f;
    sc_[column::f_window] = f;
    return fell <= p_.stagnation_tolerance * std::fmax(1.0, std::fabs(f));
  }

  const StepParams<T, H>& p_;
  double* const sc_;
  int32_t* const ct_;
  const double loss_;
  Control<T>& next_;
};

}  // namespace
}  // namespace advkit
