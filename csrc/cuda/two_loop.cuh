// The two-loop recursion (Nocedal 1980; Nocedal & Wright 2006, algorithm 7.4) on the free variables F of one image, in one
// block: every dot product, rho = 1 / s_F'y_F and gamma = s_F'y_F / y_F'y_F run over F only. A pair takes part if
// s_F'y_F > 1e-8 |s_F| |y_F|. The newest pair sits just before `head` in the ring, the oldest `count` places before it.
//
// q stays in registers or in shared memory, F in registers. Of each pair the first loop needs four dot products, which share
// one reduction; the second loop finds the pair in shared memory where all pairs fit there, else once more in global memory.
// Beside a q in registers these hold the pair, too, and the values of the next are asked for before a reduction waits for its
// warps.
#pragma once

#include "own.cuh"
#include "tiles.cuh"

namespace advkit {
namespace {

template <class H>
struct Pairs {
  const H *S, *Y;  // pair j at S + j * S_pair
  int64_t S_pair, Y_pair;
  int m, head, count;

  // A ring that points outside of itself holds no pairs.
  __device__ Pairs(const H* S_, const H* Y_, int64_t S_pair_, int64_t Y_pair_, int64_t m_, int64_t head_, int64_t count_)
      : S(S_), Y(Y_), S_pair(S_pair_), Y_pair(Y_pair_), m(static_cast<int>(m_)), head(0), count(0) {
    if (0 <= head_ && head_ < m_ && 0 <= count_ && count_ <= m_) {
      head = static_cast<int>(head_);
      count = static_cast<int>(count_);
    }
  }
  __device__ int64_t from_newest(int k) const { return (head - 1 - k + m) % m; }
};

// The block's shared memory (plan.hpp).
template <class T, class H, int X>
struct Room {
  double* const scalars;  // two of each pair
  T* const own;
  H* const pairs;  // all of them, if they are resident

  __device__ Room(double* shared, int64_t m, int n)
      : scalars(shared),
        own(reinterpret_cast<T*>(shared + 2 * m)),
        pairs(reinterpret_cast<H*>(own + (X > 0 ? 0 : own_values<X>(n) * most_threads))) {}
};

template <class T, class H, int X>
class TwoLoop {
 public:
  __device__ TwoLoop(const Pairs<H>& pairs, int n, unsigned free, bool resident, const Room<T, H, X>& room)
      : pairs_(pairs),
        n_(n),
        free_(free),
        resident_(resident),
        alpha_(room.scalars),
        sy_(room.scalars + pairs.m),
        rows_(room.pairs) {}

  // On entry q = g on F and 0 elsewhere, on exit H g on F. False if no pair could be used: then q is as it was.
  template <int Most>
  __device__ bool apply(Block<T, Most>& block, Own<T, X>& q) const {
    double gamma = 0;
    Pair now, next;
    read(0, now);
    for (int k = 0; k < pairs_.count; ++k) {
      Totals<T, 4> t;
      each_run(source(k), now, [&](int x0, const H(&s)[run_values], const H(&y)[run_values]) {
        if (resident_) keep(k, x0, s, y);
        Run<T, 4> acc;
#pragma unroll
        for (int l = 0; l < run_values; ++l) {
          const T sl = widen(s[l]), yl = widen(y[l]);
          acc.sum[0] += sl * q[x0 + l];
          acc.sum[1] += sl * yl;
          acc.sum[2] += sl * sl;
          acc.sum[3] += yl * yl;
        }
        add(t, acc);
      });
      if (k + 1 < pairs_.count) read(k + 1, next);
      t = block.template reduce<false>(t);
      const bool used = curved(t.sum[1], t.sum[2], t.sum[3]);
      const double alpha = t.sum[0] / t.sum[1];
      if (threadIdx.x == 0) {
        alpha_[k] = alpha;
        sy_[k] = used ? t.sum[1] : 0.0;
      }
      if (used) {
        if (gamma == 0) gamma = t.sum[1] / t.sum[3];
        const T a = static_cast<T>(alpha);
        each_run(kept(k), now, [&](int x0, const H(&)[run_values], const H(&y)[run_values]) {
#pragma unroll
          for (int l = 0; l < run_values; ++l) q[x0 + l] -= a * widen(y[l]);
        });
      }
      now = next;
    }
    if (gamma == 0) return false;

    __syncthreads();  // alpha and sy are there
    const T scale = static_cast<T>(gamma);
#pragma unroll
    for (int x = 0; x < own_values<X>(n_); ++x) q[x] *= scale;
    read_kept(pairs_.count - 1, now);
    for (int k = pairs_.count - 1; k >= 0; --k) {
      if (k > 0) read_kept(k - 1, next);
      if (sy_[k] != 0) {
        Totals<T, 1> t;
        each_run(kept(k), now, [&](int x0, const H(&)[run_values], const H(&y)[run_values]) {
          Run<T, 1> acc;
#pragma unroll
          for (int l = 0; l < run_values; ++l) acc.sum[0] += widen(y[l]) * q[x0 + l];
          add(t, acc);
        });
        t = block.template reduce<false>(t);
        const T coefficient = static_cast<T>(alpha_[k] - t.sum[0] / sy_[k]);
        each_run(kept(k), now, [&](int x0, const H(&s)[run_values], const H(&)[run_values]) {
#pragma unroll
          for (int l = 0; l < run_values; ++l) q[x0 + l] += coefficient * widen(s[l]);
        });
      }
      now = next;
    }
    return true;
  }

 private:
  static constexpr bool held = X > 0;  // registers hold the values of two pairs; else every sweep reads what it needs

  struct Source {
    const H *s, *y;
  };
  struct Pair {
    H s[held ? X : 1], y[held ? X : 1];
  };

  __device__ Source source(int k) const {
    const int64_t j = pairs_.from_newest(k);
    return {pairs_.S + j * pairs_.S_pair, pairs_.Y + j * pairs_.Y_pair};
  }
  // Where the values of pair k are once the first loop has met it.
  __device__ Source kept(int k) const {
    if (!resident_) return source(k);
    const H* s = rows_ + static_cast<int64_t>(2 * k) * n_;
    return {s, s + n_};
  }

  __device__ int at(int x) const { return static_cast<int>(threadIdx.x) + x * own_step<X>(); }
  __device__ bool is_free(int x) const { return (free_ >> x & 1u) != 0; }

  // Values that are not free read as 0: whatever they hold, they are not looked at.
  __device__ H value(const H* v, int x) const { return is_free(x) ? v[at(x)] : Narrow<H>::from(T(0)); }

  __device__ void read(int k, Pair& out) const { read(source(k), out); }
  __device__ void read_kept(int k, Pair& out) const { read(kept(k), out); }
  __device__ void read(const Source& from, Pair& out) const {
    if constexpr (held) {
#pragma unroll
      for (int x = 0; x < X; ++x) {
        out.s[x] = value(from.s, x);
        out.y[x] = value(from.y, x);
      }
    }
  }
  __device__ void keep(int k, int x0, const H (&s)[run_values], const H (&y)[run_values]) const {
    H* to = rows_ + static_cast<int64_t>(2 * k) * n_;
#pragma unroll
    for (int l = 0; l < run_values; ++l) {
      if (!is_free(x0 + l)) continue;
      to[at(x0 + l)] = s[l];
      to[n_ + at(x0 + l)] = y[l];
    }
  }

  // body(x0, s, y): the thread's values x0, x0 + 1, ... of a pair, a run of them.
  template <class Body>
  __device__ void each_run(const Source& from, const Pair& pair, const Body& body) const {
#pragma unroll
    for (int x0 = 0; x0 < own_values<X>(n_); x0 += run_values) {
      H s[run_values], y[run_values];
#pragma unroll
      for (int l = 0; l < run_values; ++l) {
        s[l] = held ? pair.s[held ? x0 + l : 0] : value(from.s, x0 + l);
        y[l] = held ? pair.y[held ? x0 + l : 0] : value(from.y, x0 + l);
      }
      body(x0, s, y);
    }
  }

  const Pairs<H> pairs_;
  const int n_;
  const unsigned free_;  // bit x: the thread's value x
  const bool resident_;
  double *const alpha_, *const sy_;  // (m); sy = 0 for a pair that is not used
  H* const rows_;
};

// The op of its own: direction = -H g on F, -g elsewhere; -g everywhere if no pair can be used.
template <class T, class H, int X>
__device__ inline void two_loop_block(const Call<TwoLoopParams<T, H>>& call) {
  extern __shared__ double shared[];
  __shared__ Meeting<T, 4> meeting;
  Block<T, 4> block(meeting);
  const TwoLoopParams<T, H>& p = call.p;
  const int64_t row = blockIdx.x;
  const int n = static_cast<int>(p.n);
  const T* g = p.g + row * p.g_row;
  const bool* free = p.free + row * p.free_row;
  T* direction = p.direction + row * p.n;

  const Room<T, H, X> room(shared, p.m, n);
  Own<T, X> q(n, room.own);
  unsigned bits = 0;
  struct Values {
    T g;
    bool free;
  };
  sweep_own<T, X, 0>(
      n,
      [&](int, int i) { return Values{g[i], free[i]}; },
      [&](int x, int, const Values& v, auto&) {
        bits |= static_cast<unsigned>(v.free) << x;
        q[x] = v.free ? v.g : T(0);
      });
  const Pairs<H> pairs(p.S + row * p.S_row, p.Y + row * p.Y_row, p.S_pair, p.Y_pair, p.m, p.head[row], p.count[row]);
  bool any = false;
  if (pairs.count > 0) any = TwoLoop<T, H, X>(pairs, n, bits, call.resident != 0, room).apply(block, q);
  sweep_own<T, X, 0>(
      n,
      [&](int, int i) { return g[i]; },
      [&](int x, int i, T gi, auto&) { direction[i] = -(any && (bits >> x & 1u) ? q[x] : gi); });
}

}  // namespace
}  // namespace advkit
