#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "advkit/params.hpp"

namespace advkit {

void bind_runtime(pybind11::module_& m);
void bind_ops(pybind11::module_& m);
void bind_legs(pybind11::module_& m);

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// For values that Python's checks cannot see without reading the data. `message` is made only where it is needed; becomes a
// ValueError.
template <class Message>
void check(bool good, const Message& message) {
  if (!good) throw pybind11::value_error(message());
}

// The images of an attack, for all its rounds: addresses of what `LegParams` names, 0 for what is not there.
struct LegsAt {
  int64_t images;
  std::uintptr_t x0;
  int64_t x0_row;
  std::uintptr_t starts;
  int64_t starts_row;
  int order;
  std::uintptr_t slack, gap, stop_distance, leg, age, rival, forwards, backwards, sharpness, nearest, mark, distance, c_best,
      radius, best, ranked, key;
  int64_t ranks;
  std::uintptr_t noise, table;
  int64_t legs, repeated, passes;
  LegRules rules;
};

// Where a bound lies: address, stride of its rows, and whether there is one for each element.
struct BoundAt {
  std::uintptr_t address;
  int64_t row;
  bool element;
};

template <class T>
Box<T> box(const BoundAt& lower, const BoundAt& upper) {
  return {at<const T>(lower.address), at<const T>(upper.address), lower.row, upper.row, lower.element, upper.element};
}

}  // namespace advkit
