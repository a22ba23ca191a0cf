// The box of one image, and for the L1 penalty the part of it where |x - x0| keeps its signs. As csrc/cpu/box.hpp, value by
// value.
#pragma once

#include "block.cuh"

namespace advkit {
namespace {

template <class T>
struct Bounds {
  T lower, upper;
};

template <class T>
struct RowBox {
  const T *lower, *upper;
  bool lower_each, upper_each;

  __device__ RowBox(const Box<T>& box, int64_t row)
      : lower(box.lower + row * box.lower_row),
        upper(box.upper + row * box.upper_row),
        lower_each(box.lower_element != 0),
        upper_each(box.upper_element != 0) {}

  template <class Index>
  __device__ Bounds<T> at(Index i) const {
    return {lower[lower_each ? i : 0], upper[upper_each ? i : 0]};
  }
};

// From x with (sub)gradient g, a step may not carry a value across x0, where |x - x0|_1 has its kink: the values stop there
// and leave on the side to which -g points (the orthant rule of OWL-QN, Andrew & Gao 2007, section 3.2, as a smaller box).
template <class T>
__device__ inline Bounds<T> smooth_part(Norm norm, Bounds<T> box, T x, T x0, T g) {
  if (norm != Norm::l1) return box;
  const bool up = x > x0 || (x == x0 && g < 0), down = x < x0 || (x == x0 && g > 0);
  const T low = x0 > box.lower ? x0 : box.lower, high = x0 < box.upper ? x0 : box.upper;
  return {down ? box.lower : low, up ? box.upper : high};
}

// Free: away from every bound that the gradient pushes to (Bertsekas 1982).
template <class T>
__device__ inline bool is_free(Bounds<T> box, T x, T g, T margin) {
  const T half = (box.upper - box.lower) * T(0.5), near = half < margin ? half : margin;
  return !((x <= box.lower + near && g > 0) || (x >= box.upper - near && g < 0));
}

// |P(x - g) - x| of one value.
template <class T>
__device__ inline T projected(Bounds<T> box, T x, T g) {
  return absolute(clamp(x - g, box.lower, box.upper) - x);
}

}  // namespace
}  // namespace advkit
