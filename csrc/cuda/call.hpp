// What every kernel takes, by value, and how its workspace is laid out. Plain C++: the host plans with it (plan.hpp).
#pragma once

#include <cstdint>

#include "advkit/rules.hpp"

namespace advkit {

// `p` are the parameters of the op. In the split form an image is cut into gridDim.y tiles of `tile` values.
template <class P>
struct Call {
  P p;
  void* workspace;
  int64_t tile;
  int32_t tiles;
  int32_t resident;  // whether the two-loop recursion keeps the pairs in shared memory
};

namespace {

constexpr int run_values = 4;      // values of a thread that are in flight at once, and added up in its type
constexpr int most_threads = 512;  // of a block: more leave a thread too few registers

// Values that a thread of the largest block has of an image of n, in whole runs.
ADVKIT_HD constexpr int values_of_thread(int64_t n) {
  return static_cast<int>((n + run_values * most_threads - 1) / (run_values * most_threads)) * run_values;
}

constexpr int partial_values = 8;  // sums of one tile; the last one is a maximum
constexpr int partial_sets = 2;
constexpr int gram_side = 4;  // the Gram matrix of g and all pairs is computed in blocks of 4 x 4
constexpr int gram_block = gram_side * gram_side;
constexpr int64_t control_bytes = 96;

ADVKIT_HD inline int64_t gram_blocks(int64_t vectors) {
  const int64_t sides = (vectors + gram_side - 1) / gram_side;
  return sides * (sides + 1) / 2;
}
// Entries of the lower triangle for g and m pairs.
ADVKIT_HD inline int64_t gram_entries(int64_t m) { return gram_blocks(2 * m + 1) * gram_block; }

// Where things begin in the workspace of a split op, in bytes; all begins are multiples of 16. `penalty` has the partial sums
// alone, `two_loop` all up to the coefficients.
struct Layout {
  int64_t gram, gram_total, coefficients, control, free, end;
};
ADVKIT_HD inline Layout layout(int64_t rows, int64_t n, int64_t m, int64_t tiles) {
  Layout at{};
  at.gram = partial_sets * rows * tiles * partial_values * 8;
  at.gram_total = at.gram + rows * tiles * gram_entries(m) * 8;
  at.coefficients = at.gram_total + rows * gram_entries(m) * 8;
  at.control = at.coefficients + rows * (2 * m + 2) * 8;
  at.free = at.control + rows * control_bytes;
  at.end = at.free + (rows * n + 15) / 16 * 16;
  return at;
}

}  // namespace
}  // namespace advkit
