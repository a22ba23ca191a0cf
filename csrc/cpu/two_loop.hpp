// The two-loop recursion (Nocedal 1980; Nocedal & Wright 2006, algorithm 7.4) on the free variables F of one image:
// every dot product, rho = 1 / s_F'y_F and gamma = s_F'y_F / y_F'y_F run over F only. A pair takes part if
// s_F'y_F > 1e-8 |s_F| |y_F|. The newest pair sits just before `head` in the ring, the oldest `count` places before it.
#pragma once

#include "advkit/rules.hpp"
#include "half.hpp"
#include "sweep.hpp"

namespace advkit {
namespace {

template <class H>
struct Pairs {
  const H *S, *Y;  // pair j at S + j * S_pair
  int64_t S_pair, Y_pair;
  int64_t m, head, count;
  int64_t S_ahead, Y_ahead;  // from a value here to that of the image that this thread takes next; 0: none, or too far

  int64_t from_newest(int64_t k) const { return (head - 1 - k + m) % m; }
};

// While one image is worked on, memory can bring the next one's pairs, if the cache of a core holds both.
template <class H>
bool fit_twice(int64_t n, int64_t m) {
  return 2 * m * n * static_cast<int64_t>(sizeof(H)) <= int64_t{1} << 19;
}

// Scratch space of one thread.
template <class T>
struct Scratch {
  T* q;          // (n)
  PackedMask<T>* free;  // ceil(n / width) registers
  double *alpha, *sy;  // (m)

  Vec<T> masked(int64_t i, Vec<T> v) const { return free[register_of<T>(i)].keep(v); }
};

// The last axpy is left to the caller, who has a pass over q of its own: H g = q + coefficient s on F.
template <class T, class H>
struct Unfinished {
  bool any;  // false: no pair could be used, and q is as it was
  T coefficient;
  const H* s;
};

// On entry q = g on F and 0 elsewhere. The axpy of one pair and the dot products of the next share a pass.
template <class T, bool AllFree, class H>
Unfinished<T, H> two_loop_core(const Crew& crew, int64_t n, const Pairs<H>& pairs, const Scratch<T>& w) {
  const auto on_free = [=](int64_t i, Vec<T> v) {
    if constexpr (AllFree) return v;
    return w.masked(i, v);
  };
  // S on the way to the oldest pair, Y on the way back: so memory is asked at an even rate.
  const int64_t S_ahead = pairs.S_ahead, Y_ahead = pairs.Y_ahead;
  T a = 0;  // of the axpy that is still to do
  const H* pending = nullptr;
  double gamma = 0;
  for (int64_t k = 0; k < pairs.count; ++k) {
    const int64_t j = pairs.from_newest(k);
    const H *S = pairs.S + j * pairs.S_pair, *Y = pairs.Y + j * pairs.Y_pair;
    const auto dots = [=](int64_t i, Vec<T> q, auto lanes, auto& acc) {
      fetch(S + S_ahead + i);
      const Vec<T> s = on_free(i, load(S + i, lanes)), y = on_free(i, load(Y + i, lanes));
      acc.sum[0] += s * q;
      acc.sum[1] += s * y;
      acc.squares[0] += s * s;
      acc.squares[1] += y * y;
    };
    Totals<2, 2> t;
    if (pending == nullptr) {
      t = sweep<T, 2, 2>(crew, n, [=](int64_t i, auto lanes, auto& acc) { dots(i, load(w.q + i, lanes), lanes, acc); });
    } else {
      t = sweep<T, 2, 2>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
        const Vec<T> q = load(w.q + i, lanes) - a * on_free(i, load(pending + i, lanes));
        store(w.q + i, q, lanes);
        dots(i, q, lanes, acc);
      });
      pending = nullptr;
    }
    w.sy[j] = 0;
    if (!curved(t.sum[1], t.squares[0], t.squares[1])) continue;
    w.sy[j] = t.sum[1];
    w.alpha[j] = t.sum[0] / t.sum[1];
    if (gamma == 0) gamma = t.sum[1] / t.squares[1];
    a = static_cast<T>(w.alpha[j]);
    pending = Y;
  }
  if (gamma == 0) return {false, T(0), nullptr};

  const T scale = static_cast<T>(gamma);
  T coefficient = 0;
  const H* s_before = nullptr;
  for (int64_t k = pairs.count - 1; k >= 0; --k) {
    const int64_t j = pairs.from_newest(k);
    if (w.sy[j] == 0) continue;
    const H* Y = pairs.Y + j * pairs.Y_pair;
    const auto dot = [=](int64_t i, Vec<T> q, auto lanes, auto& acc) {
      fetch(Y + Y_ahead + i);
      acc.sum[0] += on_free(i, load(Y + i, lanes)) * q;
    };
    Totals<1> t;
    if (s_before == nullptr) {
      t = sweep<T, 1>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
        Vec<T> q = load(w.q + i, lanes);
        // Skipped pairs may have come after the last axpy was left over, so it can still be open, or be done.
        if (pending != nullptr) q -= a * on_free(i, load(pending + i, lanes));
        q *= scale;
        store(w.q + i, q, lanes);
        dot(i, q, lanes, acc);
      });
    } else {
      t = sweep<T, 1>(crew, n, [=](int64_t i, auto lanes, auto& acc) {
        const Vec<T> q = load(w.q + i, lanes) + coefficient * on_free(i, load(s_before + i, lanes));
        store(w.q + i, q, lanes);
        dot(i, q, lanes, acc);
      });
    }
    coefficient = static_cast<T>(w.alpha[j] - t.sum[0] / w.sy[j]);
    s_before = pairs.S + j * pairs.S_pair;
  }
  return {true, coefficient, s_before};
}

template <class T, class H>
Unfinished<T, H> two_loop_core(const Crew& crew, int64_t n, const Pairs<H>& pairs, const Scratch<T>& w, bool all_free) {
  return all_free ? two_loop_core<T, true>(crew, n, pairs, w) : two_loop_core<T, false>(crew, n, pairs, w);
}

// The op of its own: direction = -H g on F, -g elsewhere; -g everywhere if no pair can be used.
template <class T, class H>
void two_loop_row(const TwoLoopParams<T, H>& p, int64_t row, int64_t then, const Crew& crew, const Scratch<T>& w) {
  const T* g = p.g + row * p.g_row;
  const bool* free = p.free + row * p.free_row;
  T* direction = p.direction + row * p.n;
  const auto bound = sweep<T, 0, 0, 1>(crew, p.n, [=](int64_t i, auto lanes, auto& acc) {
    const Mask<T> m = load_mask<T>(free + i, lanes);
    w.free[register_of<T>(i)] = PackedMask<T>(m);
    store(w.q + i, keep<T>(m, load(g + i, lanes)), lanes);
    acc.max[0] = larger<T>(acc.max[0], keep<T>(~m, first(lanes, fill<T>(T(1)))));
  });
  const int64_t ahead = fit_twice<H>(p.n, p.m) ? then - row : 0;
  const Pairs<H> pairs{p.S + row * p.S_row,
                       p.Y + row * p.Y_row,
                       p.S_pair,
                       p.Y_pair,
                       p.m,
                       p.head[row],
                       p.count[row],
                       ahead * p.S_row,
                       ahead * p.Y_row};
  const auto last = two_loop_core(crew, p.n, pairs, w, bound.max[0] == 0);
  sweep<T, 0>(crew, p.n, [=](int64_t i, auto lanes, auto&) {
    Vec<T> d = load(g + i, lanes);
    if (last.any) {
      const Vec<T> Hg = load(w.q + i, lanes) + last.coefficient * load(last.s + i, lanes);
      d = w.free[register_of<T>(i)].choose(Hg, d);
    }
    store(direction + i, -d, lanes);
  });
}

}  // namespace
}  // namespace advkit
