// The split form: an image is cut into tiles, one for each block of a row of the grid, and the tiles' sums meet in the
// workspace. Whoever needs the totals adds them up again, in the same order: no atomics, the same bits every time.
#pragma once

#include "block.cuh"
#include "call.hpp"

namespace advkit {
namespace {

template <class P>
__device__ inline Span tile_of(const Call<P>& call) {
  const int64_t begin = blockIdx.y * call.tile, end = begin + call.tile;
  return {begin, end < call.p.n ? end : call.p.n};
}

template <class P>
__device__ inline double* partial(const Call<P>& call, int set, int64_t tile) {
  const int64_t row = set * call.p.rows + blockIdx.x;
  return static_cast<double*>(call.workspace) + (row * call.tiles + tile) * partial_values;
}

// The block's totals become the tile's.
template <class T, int Sums, class P>
__device__ inline void put_partial(const Call<P>& call, int set, const Totals<T, Sums>& t) {
  static_assert(Sums < partial_values, "the last place is the maximum's");
  if (threadIdx.x != 0) return;
  double* out = partial(call, set, blockIdx.y);
#pragma unroll
  for (int k = 0; k < Sums; ++k) out[k] = t.sum[k];
  out[partial_values - 1] = static_cast<double>(t.max);
}

// This thread's share of the tiles, for the block to reduce.
template <class T, int Sums, class P>
__device__ inline Totals<T, Sums> get_partials(const Call<P>& call, int set) {
  Totals<T, Sums> t;
  for (int64_t tile = threadIdx.x; tile < call.tiles; tile += blockDim.x) {
    const double* in = partial(call, set, tile);
#pragma unroll
    for (int k = 0; k < Sums; ++k) t.sum[k] += in[k];
    t.max = larger(t.max, static_cast<T>(in[partial_values - 1]));
  }
  return t;
}

}  // namespace
}  // namespace advkit
