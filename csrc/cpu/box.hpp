// The box of one image, and for the L1 penalty the part of it where |x - x0| keeps its signs.
#pragma once

#include "advkit/rules.hpp"
#include "vec.hpp"

namespace advkit {
namespace {

template <class T>
struct Bounds {
  Vec<T> lower, upper;
};

template <class T>
class RowBox {
 public:
  RowBox(const Box<T>& box, int64_t row)
      : lower_(box.lower + row * box.lower_row, box.lower_element != 0),
        upper_(box.upper + row * box.upper_row, box.upper_element != 0) {}

  template <class Lanes>
  Bounds<T> at(int64_t i, Lanes lanes) const {
    return {lower_.at(i, lanes), upper_.at(i, lanes)};
  }

 private:
  struct Bound {
    const T* each;  // null: one for all values, loaded once
    Vec<T> all;

    Bound(const T* values, bool many) : each(many ? values : nullptr), all(many ? Vec<T>{} : fill(*values)) {}
    Vec<T> at(int64_t i, Whole<T> lanes) const { return each != nullptr ? load(each + i, lanes) : all; }
    Vec<T> at(int64_t i, Part part) const { return each != nullptr ? load(each + i, part) : first(part, all); }
  };
  const Bound lower_, upper_;
};

// From x with (sub)gradient g, a step may not carry a value across x0, where |x - x0|_1 has its kink: the values stop there
// and leave on the side to which -g points (the orthant rule of OWL-QN, Andrew & Gao 2007, section 3.2, as a smaller box).
template <Norm norm, class T>
inline Bounds<T> smooth_part(Bounds<T> box, Vec<T> x, Vec<T> x0, Vec<T> g) {
  if constexpr (norm != Norm::l1) return box;
  const auto at_zero = x == x0;
  const auto up = (x > x0) | (at_zero & (g < T(0)));
  const auto down = (x < x0) | (at_zero & (g > T(0)));
  const auto low = choose<T>(x0 > box.lower, x0, box.lower), high = choose<T>(x0 < box.upper, x0, box.upper);
  return {choose<T>(~down, low, box.lower), choose<T>(~up, high, box.upper)};
}

// Free: away from every bound that the gradient pushes to (Bertsekas 1982).
template <class T>
inline Mask<T> is_free(Bounds<T> box, Vec<T> x, Vec<T> g, T margin) {
  const Vec<T> half = (box.upper - box.lower) * T(0.5);
  const Vec<T> near = choose<T>(half < margin, half, fill<T>(margin));
  return ~(((x <= box.lower + near) & (g > T(0))) | ((x >= box.upper - near) & (g < T(0))));
}

}  // namespace
}  // namespace advkit
