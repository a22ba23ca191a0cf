// A sweep: one pass over the values of one image, with the sums and maxima that the pass yields.
//
// The order of every addition is fixed by n alone, never by the number of threads: lanes of T within a run, lanes of double
// within a tile, tiles in order. So one image gives the same bits alone, in a batch, and on any number of threads.
#pragma once

#include <algorithm>

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

// Sums; sums of squares, in which nothing cancels, so that lanes of T add them up over a whole tile; maxima of values that
// are not negative.
template <int Sums, int Squares = 0, int Maxima = 0>
struct Totals {
  double sum[Sums > 0 ? Sums : 1] = {};
  double squares[Squares > 0 ? Squares : 1] = {};
  double max[Maxima > 0 ? Maxima : 1] = {};

  // Those that both have.
  template <int S, int Q, int M>
  void add(const Totals<S, Q, M>& tile) {
    for (int k = 0; k < std::min(S, Sums); ++k) sum[k] += tile.sum[k];
    for (int k = 0; k < std::min(Q, Squares); ++k) squares[k] += tile.squares[k];
    for (int k = 0; k < std::min(M, Maxima); ++k) max[k] = std::max(max[k], tile.max[k]);
  }
};

template <class T, int Sums, int Squares, int Maxima>
struct Lanewise {
  Vec<T> sum[Sums > 0 ? Sums : 1] = {};
  Vec<T> squares[Squares > 0 ? Squares : 1] = {};
  Vec<T> max[Maxima > 0 ? Maxima : 1] = {};
};

// How one image is worked on: by this thread, or by a team that shares its tiles.
struct Crew {
  using Partial = Totals<4, 2, 2>;  // the most that a sweep asks for
  int threads;
  Partial* partial;  // one per tile
};

// body(i, lanes, acc): work on the values from i on, as many as lanes says. The body is copied in, and holds copies of what
// it works on: no store into an image can then change them, so that they stay in registers.
template <class T, int Sums, int Squares, int Maxima, class Body>
inline Totals<Sums, Squares, Maxima> sweep_tile(int64_t begin, int64_t end, const Body body) {
  // Two sets of lanes: an addition need not wait for the one before it.
  constexpr int64_t run_values = 2 * run_registers<T> * width<T>;
  Wide wide[Sums > 0 ? Sums : 1] = {};
  Lanewise<T, Sums, Squares, Maxima> a, b;
  for (int64_t start = begin; start < end; start += run_values) {
    const int64_t stop = start + run_values < end ? start + run_values : end;
    for (int k = 0; k < Sums; ++k) a.sum[k] = b.sum[k] = Vec<T>{};
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
  }
  Totals<Sums, Squares, Maxima> total;
  for (int k = 0; k < Sums; ++k) total.sum[k] = wide[k].total();
  for (int k = 0; k < Squares; ++k) {
    Wide both;
    both.add(a.squares[k], b.squares[k]);
    total.squares[k] = both.total();
  }
  for (int k = 0; k < Maxima; ++k) total.max[k] = max_lanes<T>(larger<T>(a.max[k], b.max[k]));
  return total;
}

template <class T, int Sums, int Squares = 0, int Maxima = 0, class Body>
inline Totals<Sums, Squares, Maxima> sweep(const Crew& crew, int64_t n, const Body& body) {
  static_assert(Sums <= 4 && Squares <= 2 && Maxima <= 2, "Crew::Partial holds them");
  if (n <= tile_values) return sweep_tile<T, Sums, Squares, Maxima>(0, n, body);
  const int64_t tiles = tiles_of(n);
  parallel_for(tiles, crew.threads, [&](int64_t t, int64_t, int) {
    const int64_t begin = t * tile_values;
    const int64_t end = begin + tile_values < n ? begin + tile_values : n;
    crew.partial[t] = {};
    crew.partial[t].add(sweep_tile<T, Sums, Squares, Maxima>(begin, end, body));
  });
  Totals<Sums, Squares, Maxima> total;
  for (int64_t t = 0; t < tiles; ++t) total.add(crew.partial[t]);
  return total;
}

}  // namespace
}  // namespace advkit
