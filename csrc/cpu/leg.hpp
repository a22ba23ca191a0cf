// One round of one leg of an attack, after the network was evaluated at its trial point: the solver's step, what is noted of
// the evaluation, and, where the leg has ended, the start of the next. How a leg sets out and steps is the business of
// augmented.hpp and radius.hpp. advkit/attack/legs.py is the same in plain torch, and says what is what.
#pragma once

#include <cmath>
#include <cstring>

#include "lbfgs_step.hpp"
#include "row_norm.hpp"

namespace advkit {
namespace {

enum class Start : int { original = 0, given = 1, best = 2, near_best = 3, near_original = 4 };
// Of the table of legs.
namespace leg_column {
enum : int { start, rival, evaluations, sharpness, strength, columns };
}

inline double finite_or_one(double v) { return std::isfinite(v) ? v : 1.0; }
// The larger one; NaN if either is.
inline double largest_of(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

template <class T, class H>
class Leg {
 public:
  Leg(const LegParams<T, H>& p, int64_t row, int64_t then, const Crew& crew, const Scratch<T>& scratch)
      : p_(p),
        crew_(crew),
        scratch_(scratch),
        n_(p.step.n),
        row_(row),
        then_(then),
        image_(p.index[row]),
        slot_(p.step.slot[row]),
        x_(p.x + row * p.x_row),
        x0_(p.x0 + image_ * p.x0_row),
        g_(p.step.g_loss + row * p.step.g_loss_row),
        h_(static_cast<double>(p.constraint[row]) + p.slack[image_]) {
    p.loss[row] = static_cast<T>(h_);
  }

 protected:
  double& scalar(int which) const { return p_.step.scalars[slot_ * column::scalars + which]; }
  int32_t& counter(int which) const { return p_.step.counters[slot_ * column::counters + which]; }
  T* vector(int which) const { return p_.step.vectors + (slot_ * column::vectors + which) * p_.step.ld; }
  T* trial() const { return p_.step.trial + slot_ * p_.step.trial_row; }
  bool young() const { return p_.age[image_] == 0; }
  bool known() const { return std::isfinite(p_.distance[image_]); }
  bool finite() const { return counter(column::status) != static_cast<int>(Status::non_finite); }

  template <Norm norm>
  void step() const {
    Step<norm, T, H>(p_.step, row_, then_, crew_, scratch_).advance();
  }

  // Of the constraint's gradient: h falls by that per distance, at most.
  double steepness(Order dual) const {
    const T* g = g_;
    return norm_of(crew_, n_, dual, [=](int64_t i, auto lanes) { return load_double(g + i, lanes); });
  }

  // Of x - x0, in double.
  double length(const T* x, Order order) const {
    const T* x0 = x0_;
    return norm_of(crew_, n_, order, [=](int64_t i, auto lanes) { return load_difference(x + i, x0 + i, lanes); });
  }

  // h at the original, were it linear; at least a small part of what it is here.
  double gap() const {
    const T *g = g_, *x = x_, *x0 = x0_;
    const auto t = sweep<double, 1>(crew_, n_, [=](int64_t i, auto lanes, auto& acc) {
      acc.sum[0] += load_double(g + i, lanes) * load_difference(x + i, x0 + i, lanes);
    });
    return largest_of(h_ - t.sum[0], p_.rules.slack * std::abs(h_));
  }

  // Keeps the point if it is the nearest that fools the network; whether the leg is at its end.
  bool note(double size, double distance, double c) const {
    // The originals are not points found.
    const bool found = p_.surely[row_] && p_.age[image_] + p_.leg[image_] > 0 && !p_.finished[row_];
    if (found && distance < p_.distance[image_]) {
      distance = length(x_, p_.order);
      if (distance < p_.distance[image_]) {
        std::memcpy(p_.best + image_ * n_, x_, sizeof(T) * static_cast<size_t>(n_));
        p_.distance[image_] = distance;
        p_.c_best[image_] = c;
      }
    }
    p_.length[row_] = distance;
    p_.c[row_] = c;
    const LegRules& rules = p_.rules;
    const int64_t age = ++p_.age[image_];
    const double best = p_.distance[image_];
    // NaN stays NaN.
    if (found && (std::isnan(distance) || distance < p_.nearest[image_])) p_.nearest[image_] = distance;
    const double nearest = p_.nearest[image_];
    // Where the margin would end along its gradient.
    const double expected = distance + h_ / size;
    const bool lost = expected > rules.prune * best &&
                      (distance > rules.prune * best || (h_ > 0 && expected > rules.prune * rules.prune * best));
    bool still = false;
    if (age % rules.progress_age == 0) {
      still = std::isfinite(nearest) && nearest > (1 - rules.progress) * p_.mark[image_];
      p_.mark[image_] = nearest;
    }
    const int64_t passes = ++p_.forwards[image_] + ++p_.backwards[image_];
    if (passes + 2 > p_.passes || (p_.stop_distance != nullptr && best <= p_.stop_distance[image_])) p_.finished[row_] = true;
    const bool stopped = counter(column::status) != static_cast<int>(Status::running);
    return stopped || static_cast<double>(age) >= present(leg_column::evaluations) || (age >= rules.prune_age && lost) || still;
  }

  // The next leg's number, and what it aims at.
  void choose_next() const {
    p_.leg[image_] += 1;
    p_.age[image_] = 0;
    p_.nearest[image_] = p_.mark[image_] = std::numeric_limits<double>::infinity();
    const auto rank = static_cast<int64_t>(present(leg_column::rival));
    p_.rival[image_] = rank < 0 ? -1 : p_.ranked[image_ * p_.ranks + rank];
    p_.sharpness[image_] = present(leg_column::sharpness) / p_.gap[image_];
  }

  // The slot starts there, in its box.
  void start_next() const {
    const auto kind = static_cast<Start>(static_cast<int>(present(leg_column::start)));
    const bool at_best = known() && (kind == Start::best || kind == Start::near_best);
    const T* from = !known() && finite() ? vector(column::x) : x0_;
    if (kind == Start::given) from = p_.starts + image_ * p_.starts_row;
    if (at_best) from = p_.best + image_ * n_;
    const RowBox<T> box(p_.step.box, slot_);
    T* to = trial();
    if (kind >= Start::near_best && finite()) {
      const double unit = known() ? length(p_.best + image_ * n_, Order::euclidean) : 1.0;
      const T far = static_cast<T>((kind == Start::near_best ? p_.rules.noise_at_best : p_.rules.noise_at_original) * unit);
      const T* noise = p_.noise + window();
      const T size = static_cast<T>(
          norm_of(crew_, n_, Order::euclidean, [=](int64_t i, auto lanes) { return load_double(noise + i, lanes); }));
      sweep<T, 0>(crew_, n_, [=](int64_t i, auto lanes, auto&) {
        const Bounds<T> b = box.at(i, lanes);
        store(to + i, clamp<T>(load(from + i, lanes) + far * (load(noise + i, lanes) / size), b.lower, b.upper), lanes);
      });
    } else {
      sweep<T, 0>(crew_, n_, [=](int64_t i, auto lanes, auto&) {
        const Bounds<T> b = box.at(i, lanes);
        store(to + i, clamp<T>(load(from + i, lanes), b.lower, b.upper), lanes);
      });
    }
    for (int k = 0; k < column::scalars; ++k) {
      if (k != column::c) scalar(k) = 0;
    }
    for (int k = 0; k < column::counters; ++k) counter(k) = 0;
  }

  // How much less than the others a leg weighs the norm, as long as nothing is found.
  double boldness() const {
    const auto legs = static_cast<double>(p_.leg[image_] < p_.rules.boldest ? p_.leg[image_] : p_.rules.boldest);
    return known() ? 1.0 : std::pow(p_.rules.bolder, legs);
  }

  // A column of the present leg.
  double present(int which) const {
    const int64_t begin = p_.legs - p_.repeated, leg = p_.leg[image_];
    const int64_t line = leg < begin ? leg : begin + (leg - begin) % p_.repeated;
    return p_.table[line * leg_column::columns + which];
  }

  const LegParams<T, H>& p_;
  const Crew& crew_;
  const Scratch<T>& scratch_;
  const int64_t n_, row_, then_, image_, slot_;
  const T *const x_, *const x0_, *const g_;
  const double h_;

 private:
  // Where its noise begins: the upper bits of a multiple of 2^64 over the golden ratio, see advkit/attack/noise.py.
  int64_t window() const {
    const uint64_t spread = 11400714819323198487u;
    return static_cast<int64_t>((static_cast<uint64_t>(p_.key[image_]) + static_cast<uint64_t>(p_.leg[image_]) * spread) >> 48);
  }
};

}  // namespace
}  // namespace advkit
