// The two-loop recursion on an image that is cut into tiles. Steps by dot products would cost a grid-wide barrier each, so
// every dot product that the recursion can ask for is computed first, on F, for g and all pairs at once; the recursion then
// runs on numbers (Chen, Wang & Zhou 2014, section 3.2), and one more sweep combines the vectors:
//
//   gram_tile     the tile's part of the Gram matrix of [g, s_1, s_2, ..., y_1, y_2, ...], newest first, lower triangle
//   gram_solve    the sum over the tiles; the recursion; per pair the factors of y and s
//   Combination   ((g - sum a_k y_k) gamma + sum b_k s_k)_i
//
// The op is three launches.
#pragma once

#include "two_loop.cuh"

namespace advkit {
namespace {

constexpr int gram_run = 8;  // products that a lane adds up in T before it goes on in double

// Where entry (row, column) of the lower triangle lies.
__device__ inline int64_t gram_entry(int64_t row, int64_t column) {
  const int64_t r = row / gram_side, c = column / gram_side;
  return (r * (r + 1) / 2 + c) * gram_block + row % gram_side * gram_side + column % gram_side;
}

// Four neighbouring vectors of the list. Behind its end comes the newest s again: entries that nobody reads.
template <class T, class H>
struct GramSide {
  static constexpr bool alike = sizeof(T) == sizeof(H);
  const T* g;  // in place of the first, or null
  const H* v[gram_side];

  __device__ GramSide(const T* gradient, const Pairs<H>& pairs, int side) : g(side == 0 ? gradient : nullptr) {
#pragma unroll
    for (int k = 0; k < gram_side; ++k) {
      const int at = side * gram_side + k - 1;  // among the s, then the y
      const bool s = at < pairs.count || at >= 2 * pairs.count;
      const int64_t j = pairs.from_newest(at < 0 || at >= 2 * pairs.count ? 0 : s ? at : at - pairs.count);
      v[k] = s ? pairs.S + j * pairs.S_pair : pairs.Y + j * pairs.Y_pair;
    }
    if constexpr (alike) v[0] = g != nullptr ? g : v[0];
  }
  __device__ void read(int64_t i, bool free, T (&out)[gram_side]) const {
#pragma unroll
    for (int k = 0; k < gram_side; ++k) out[k] = free ? T(widen(v[k][i])) : T(0);
    if (!alike && g != nullptr && free) out[0] = g[i];
  }
};

// Each warp computes blocks of 4 x 4 entries: 8 loads, of which most are found in the first cache, for 16 products.
template <class T, class H>
__device__ inline void gram_tile(Span span, const T* g, const Pairs<H>& pairs, const bool* free, double* out) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int blocks = pairs.count == 0 ? 0 : static_cast<int>(gram_blocks(2 * pairs.count + 1));
  for (int b = threadIdx.x / 32; b < blocks; b += warps) {
    int row = 0;
    while ((row + 1) * (row + 2) / 2 <= b) ++row;
    const GramSide<T, H> down(g, pairs, row), across(g, pairs, b - row * (row + 1) / 2);
    double total[gram_block] = {};
    for (int64_t i0 = span.begin + lane; i0 < span.end; i0 += gram_run * 32) {
      T sum[gram_block] = {};
#pragma unroll 2
      for (int l = 0; l < gram_run; ++l) {
        const int64_t i = i0 + l * 32;
        const bool is_free = i < span.end && free[i];
        T a[gram_side], c[gram_side];
        down.read(i, is_free, a);
        across.read(i, is_free, c);
#pragma unroll
        for (int k = 0; k < gram_block; ++k) sum[k] += a[k / gram_side] * c[k % gram_side];
      }
#pragma unroll
      for (int k = 0; k < gram_block; ++k) total[k] += static_cast<double>(sum[k]);
    }
    const double entry = warp_totals<gram_block>(total);
    if (lane % 2 == 0) out[b * gram_block + lane / 2] = entry;
  }
}

// One image's parts of the workspace.
struct GramSpace {
  double *parts, *total;  // of the Gram matrix: of each tile, and their sum
  int64_t entries;        // of one
  double* factors;        // gamma, or 0 if no pair can be used; a_k (m); b_k (m)

  template <class P>
  __device__ explicit GramSpace(const Call<P>& call) : entries(gram_entries(call.p.m)) {
    const Layout at = layout(call.p.rows, call.p.n, call.p.m, call.tiles);
    char* begin = static_cast<char*>(call.workspace);
    const int64_t row = blockIdx.x;
    parts = reinterpret_cast<double*>(begin + at.gram) + row * call.tiles * entries;
    total = reinterpret_cast<double*>(begin + at.gram_total) + row * entries;
    factors = reinterpret_cast<double*>(begin + at.coefficients) + row * (2 * call.p.m + 2);
  }
};

// Loop by loop as in two_loop.cuh, where s'q and y'q follow q's changes. `shared`: 4 m doubles. False if no pair could be used.
template <class T>
__device__ inline bool gram_solve(const GramSpace& space, int count, int m, int tiles, double* shared) {
  double *sq = shared, *yq = sq + m, *alpha = yq + m, *used_sy = alpha + m;
  double *a = space.factors + 1, *b = a + m;
  const auto at = [&](int row, int column) {
    return space.total[row >= column ? gram_entry(row, column) : gram_entry(column, row)];
  };
  const auto s = [](int k) { return 1 + k; };
  const auto y = [count](int k) { return 1 + count + k; };

  for (int64_t e = threadIdx.x; count > 0 && e < gram_blocks(2 * count + 1) * gram_block; e += blockDim.x) {
    double sum = 0;
    for (int tile = 0; tile < tiles; ++tile) sum += space.parts[tile * space.entries + e];
    space.total[e] = sum;
  }
  __syncthreads();
  for (int j = threadIdx.x; j < count; j += blockDim.x) {
    sq[j] = at(s(j), 0);
    yq[j] = at(y(j), 0);
  }
  __syncthreads();

  double gamma = 0;
  for (int k = 0; k < count; ++k) {
    const double sy = at(y(k), s(k)), ss = at(s(k), s(k)), yy = at(y(k), y(k)), alpha_k = sq[k] / sy;
    const bool used = curved(sy, ss, yy);
    const double a_k = used ? static_cast<double>(static_cast<T>(alpha_k)) : 0.0;
    if (used && gamma == 0) gamma = sy / yy;
    __syncthreads();  // s'q was read
    if (threadIdx.x == 0) {
      alpha[k] = alpha_k;
      used_sy[k] = used ? sy : 0.0;
      a[k] = a_k;
      b[k] = 0;
    }
    for (int j = threadIdx.x; used && j < count; j += blockDim.x) {
      sq[j] -= a_k * at(y(k), s(j));
      yq[j] -= a_k * at(y(k), y(j));
    }
    __syncthreads();
  }
  const double scale = static_cast<double>(static_cast<T>(gamma));
  if (threadIdx.x == 0) space.factors[0] = gamma == 0 ? 0.0 : scale;
  if (gamma == 0) return false;

  for (int j = threadIdx.x; j < count; j += blockDim.x) yq[j] *= scale;
  __syncthreads();
  for (int k = count - 1; k >= 0; --k) {
    if (used_sy[k] == 0) continue;
    const double b_k = static_cast<double>(static_cast<T>(alpha[k] - yq[k] / used_sy[k]));
    __syncthreads();  // y'q was read
    if (threadIdx.x == 0) b[k] = b_k;
    for (int j = threadIdx.x; j < count; j += blockDim.x) yq[j] += b_k * at(y(j), s(k));
    __syncthreads();
  }
  return true;
}

// H g, value by value.
template <class T, class H>
struct Combination {
  const Pairs<H> pairs;
  const T scale;
  const double *a, *b;

  __device__ Combination(const Pairs<H>& pairs_, const GramSpace& space)
      : pairs(pairs_), scale(static_cast<T>(space.factors[0])), a(space.factors + 1), b(a + pairs.m) {}
  __device__ bool any() const { return scale != 0; }
  // A pair that was not used may hold anything, and is not looked at.
  __device__ T at(int64_t i, T g) const {
    T q = g;
    int j = pairs.head;
    for (int k = 0; k < pairs.count; ++k) {
      j = j == 0 ? pairs.m - 1 : j - 1;
      if (a[k] != 0) q -= static_cast<T>(a[k]) * widen(pairs.Y[j * pairs.Y_pair + i]);
    }
    q *= scale;
    for (int k = pairs.count - 1; k >= 0; --k) {
      if (b[k] != 0) q += static_cast<T>(b[k]) * widen(pairs.S[j * pairs.S_pair + i]);
      j = j == pairs.m - 1 ? 0 : j + 1;
    }
    return q;
  }
};

// The op of its own, in three kernels.
template <class T, class H>
__device__ inline Pairs<H> pairs_of(const TwoLoopParams<T, H>& p) {
  const int64_t row = blockIdx.x;
  return {p.S + row * p.S_row, p.Y + row * p.Y_row, p.S_pair, p.Y_pair, p.m, p.head[row], p.count[row]};
}

template <class T, class H>
__device__ inline void two_loop_gram(const Call<TwoLoopParams<T, H>>& call) {
  const TwoLoopParams<T, H>& p = call.p;
  const int64_t row = blockIdx.x;
  const GramSpace space(call);
  double* out = space.parts + blockIdx.y * space.entries;
  gram_tile(tile_of(call), p.g + row * p.g_row, pairs_of(p), p.free + row * p.free_row, out);
}

template <class T, class H>
__device__ inline void two_loop_solve(const Call<TwoLoopParams<T, H>>& call) {
  extern __shared__ double shared[];
  gram_solve<T>(GramSpace(call), pairs_of(call.p).count, static_cast<int>(call.p.m), call.tiles, shared);
}

template <class T, class H>
__device__ inline void two_loop_combine(const Call<TwoLoopParams<T, H>>& call) {
  const TwoLoopParams<T, H>& p = call.p;
  const int64_t row = blockIdx.x;
  const T* g = p.g + row * p.g_row;
  const bool* free = p.free + row * p.free_row;
  T* direction = p.direction + row * p.n;
  const Combination<T, H> Hg(pairs_of(p), GramSpace(call));
  struct Values {
    T g;
    bool free;
  };
  sweep<T, 0>(
      tile_of(call),
      [&](int64_t i) { return Values{g[i], free[i]}; },
      [&](int64_t i, const Values& v, auto&) { direction[i] = -(v.free && Hg.any() ? Hg.at(i, v.g) : v.g); });
}

}  // namespace
}  // namespace advkit
