// A sweep: one pass over the values of one image, with the sums and maxima that the pass yields.
//
// The order of every addition is fixed by n alone, never by the number of threads: lanes of T within a run, lanes of double
// within a tile, tiles in order. So one image gives the same bits alone, in a batch, and on any number of threads.
#pragma once

#include "parallel.hpp"
#include "vec.hpp"

namespace advkit {
namespace {

// How many values a lane of T adds up before they move to lanes of double. Four in float: with eight, or with both sets of
// lanes added up before, ill-conditioned pairs lose more than twice the digits that plain torch loses (test_two_loop.py); in
// double, where moving gains no digits, the chains are kept even.
template <class T>
constexpr int run_registers = sizeof(T) == 4 ? 4 : 8;
constexpr int64_t tile_values = 16384;  // the unit that threads share; smaller images stay on one thread

inline int64_t tiles_of(int64_t n) { return (n + tile_values - 1) / tile_values; }

// Sums in the first places, maxima (of values that are not negative) after them.
template <int Sums, int Maxima = 0>
struct Totals {
  double sum[Sums > 0 ? Sums : 1] = {};
  double max[Maxima > 0 ? Maxima : 1] = {};
};

template <class T, int Sums, int Maxima = 0>
struct Lanewise {
  Vec<T> sum[Sums > 0 ? Sums : 1] = {};
  Vec<T> max[Maxima > 0 ? Maxima : 1] = {};
};

// How one image is worked on: by this thread, or by a team that shares its tiles.
template <int Most = 5>
struct Crew {
  int threads;
  Totals<Most, 2>* partial;  // one per tile
};

// body(i, lanes, acc): work on the values from i on, as many as lanes says. Not inlined: one copy of each body is enough.
// The body is copied in, and holds copies of what it works on: no store into an image can then change them, so that they
// stay in registers.
template <class T, int Sums, int Maxima, class Body>
[[gnu::noinline]] void sweep_tile(int64_t begin, int64_t end, double* sum, double* max, const Body body) {
  // Two sets of lanes: an addition need not wait for the one before it.
  constexpr int64_t run_values = 2 * run_registers<T> * width<T>;
  Wide wide[Sums > 0 ? Sums : 1] = {};
  Vec<T> most[Maxima > 0 ? Maxima : 1] = {};
  for (int64_t start = begin; start < end; start += run_values) {
    const int64_t stop = start + run_values < end ? start + run_values : end;
    Lanewise<T, Sums, Maxima> a, b;
    int64_t i = start;
    for (; i + 2 * width<T> <= stop; i += 2 * width<T>) {
      body(i, Whole<T>{}, a);
      body(i + width<T>, Whole<T>{}, b);
    }
    if (i + width<T> <= stop) {
      body(i, Whole<T>{}, a);
      i += width<T>;
    }
    if (i < stop) body(i, Part{static_cast<int>(stop - i)}, b);
    for (int k = 0; k < Sums; ++k) wide[k].add(a.sum[k], b.sum[k]);
    for (int k = 0; k < Maxima; ++k) most[k] = larger<T>(most[k], larger<T>(a.max[k], b.max[k]));
  }
  for (int k = 0; k < Sums; ++k) sum[k] += wide[k].total();
  for (int k = 0; k < Maxima; ++k) {
    const double value = max_lanes<T>(most[k]);
    max[k] = value > max[k] ? value : max[k];
  }
}

template <class T, int Sums, int Maxima = 0, class Body>
inline Totals<Sums, Maxima> sweep(const Crew<>& crew, int64_t n, const Body& body) {
  Totals<Sums, Maxima> total;
  if (n <= tile_values) {
    sweep_tile<T, Sums, Maxima>(0, n, total.sum, total.max, body);
    return total;
  }
  const int64_t tiles = tiles_of(n);
  parallel_for(tiles, crew.threads, [&](int64_t t, int) {
    crew.partial[t] = {};
    const int64_t begin = t * tile_values;
    const int64_t end = begin + tile_values < n ? begin + tile_values : n;
    sweep_tile<T, Sums, Maxima>(begin, end, crew.partial[t].sum, crew.partial[t].max, body);
  });
  for (int64_t t = 0; t < tiles; ++t) {
    for (int k = 0; k < Sums; ++k) total.sum[k] += crew.partial[t].sum[k];
    for (int k = 0; k < Maxima; ++k) total.max[k] = crew.partial[t].max[k] > total.max[k] ? crew.partial[t].max[k] : total.max[k];
  }
  return total;
}

}  // namespace
}  // namespace advkit
