// Legs of augmented Lagrangians, for L2 and L1; advkit/attack/augmented.py is the same in plain torch, and says what is what.
#pragma once

#include "leg.hpp"

namespace advkit {
namespace {

// norm: the solver's penalty, l1 or half of l2sq.
template <Norm norm, class T, class H>
class AugmentedLeg : Leg<T, H> {
 public:
  using Leg<T, H>::Leg;

  void advance() const {
    const double size = this->steepness(norm == Norm::l1 ? Order::largest : Order::euclidean);
    if (this->young()) set_out(size);
    this->template step<norm>();
    const double value = this->scalar(column::norm);
    const bool ended = this->note(size, norm == Norm::l1 ? value : std::sqrt(value), 1 / this->scalar(column::mu));
    if (!ended) return;
    this->choose_next();
    this->start_next();
  }

 private:
  // Multiplier, penalty and first step, which are right if h is linear and no bound is met.
  void set_out(double size) const {
    const double gap = this->gap(), strength = this->present(leg_column::strength);
    double mu, rho, first_step;
    if (norm == Norm::l1) {
      const double euclidean = this->steepness(Order::euclidean);
      mu = 1 / size;
      rho = strength * mu / gap;
      first_step = 1 / (rho * euclidean * euclidean);
    } else {
      mu = gap / (size * size);
      rho = strength / (size * size);
      first_step = 1 / (1 + strength);
    }
    const double bold = this->boldness();
    this->scalar(column::mu) = finite_or_one(bold * mu);
    this->scalar(column::rho) = finite_or_one(bold * rho);
    this->scalar(column::first_step) = finite_or_one(first_step / bold);
  }
};

}  // namespace
}  // namespace advkit
