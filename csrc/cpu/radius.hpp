// Legs of least radius, for L-infinity; advkit/attack/radius.py is the same in plain torch, and says what is what.
#pragma once

#include "leg.hpp"

namespace advkit {
namespace {

template <class T, class H>
class RadiusLeg : Leg<T, H> {
  using Leg<T, H>::p_;
  using Leg<T, H>::n_;
  using Leg<T, H>::h_;
  using Leg<T, H>::image_;
  using Leg<T, H>::x_;
  using Leg<T, H>::x0_;

 public:
  using Leg<T, H>::Leg;

  void advance() const {
    const double size = this->steepness(Order::sum);
    if (this->young()) set_out(size);
    const int32_t before = this->counter(column::iterations);
    this->template step<Norm::none>();
    // At the least margin of its box a slot stops; its faces may still have to move.
    const bool stopped = this->counter(column::status) != static_cast<int>(Status::running) && this->finite();
    if (stopped || this->counter(column::iterations) != before) move_faces();
    const double distance = this->length(x_, Order::largest);
    if (!this->note(size, distance, std::numeric_limits<double>::quiet_NaN())) return;
    this->choose_next();
    p_.radius[image_] = std::numeric_limits<double>::infinity();
    set_faces();
    this->start_next();
  }

 private:
  void set_out(double size) const {
    const double radius = largest_of(this->gap() / size, this->length(x_, Order::largest));
    p_.radius[image_] = finite_or_one(radius);
    set_faces();
    const double steep = p_.radius[image_] * static_cast<double>(n_) / (p_.rules.least_gradient * size);
    this->scalar(column::first_step) = finite_or_one(steep);
  }

  T* face(const T* values, int64_t row) const { return const_cast<T*>(values) + this->slot_ * row; }

  // The box within the radius.
  void set_faces() const {
    const RowBox<T> own(p_.box, image_);
    const T radius = static_cast<T>(p_.radius[image_]);
    const T* x0 = x0_;
    T *lower = face(p_.step.box.lower, p_.step.box.lower_row), *upper = face(p_.step.box.upper, p_.step.box.upper_row);
    sweep<T, 0>(this->crew_, n_, [=](int64_t i, auto lanes, auto&) {
      const Vec<T> centre = load(x0 + i, lanes), below = centre - radius, above = centre + radius;
      const Bounds<T> b = own.at(i, lanes);
      store(lower + i, choose<T>(below > b.lower, below, b.lower), lanes);
      store(upper + i, choose<T>(above < b.upper, above, b.upper), lanes);
    });
  }

  // The radius's Newton step, and the point's with it, to be evaluated next.
  void move_faces() const {
    const double radius = p_.radius[image_], h = this->scalar(column::f);
    const T *x = this->vector(column::x), *g = this->vector(column::g), *x0 = x0_;
    const T at = static_cast<T>((1 - p_.rules.at_face) * radius);
    const auto slope = sweep<double, 1>(this->crew_, n_, [=](int64_t i, auto lanes, auto& acc) {
      const Vec<double> r = absolute<double>(load_difference(x + i, x0 + i, lanes));
      const Vec<double> size = absolute<double>(load_double(g + i, lanes));
      acc.sum[0] += choose<double>(r >= static_cast<double>(at), size, Vec<double>{});
    });
    double wanted = radius + h / slope.sum[0];
    if (!(std::isfinite(wanted) && wanted > 0)) wanted = radius / 2;
    if (wanted > p_.rules.most_growth * radius) wanted = p_.rules.most_growth * radius;
    // A slot that has stopped and would move its faces by nothing worth an evaluation stays so.
    const bool running = this->counter(column::status) == static_cast<int>(Status::running);
    if (!running && std::abs(wanted / radius - 1) < p_.rules.slack) return;
    p_.radius[image_] = wanted;
    set_faces();
    const RowBox<T> box(p_.step.box, this->slot_);
    const T far = static_cast<T>(wanted);
    T* trial = this->trial();
    sweep<T, 0>(this->crew_, n_, [=](int64_t i, auto lanes, auto&) {
      const Vec<T> here = load(x + i, lanes), centre = load(x0 + i, lanes), r = here - centre;
      const Vec<T> sign = choose<T>(r > T(0), fill<T>(T(1)), choose<T>(r < T(0), fill<T>(T(-1)), Vec<T>{}));
      const Bounds<T> b = box.at(i, lanes);
      const Vec<T> moved = choose<T>(absolute<T>(r) >= at, centre + sign * far, here);
      store(trial + i, clamp<T>(moved, b.lower, b.upper), lanes);
    });
    this->counter(column::phase) = static_cast<int>(Phase::start);
    this->counter(column::status) = static_cast<int>(Status::running);
  }
};

}  // namespace
}  // namespace advkit
