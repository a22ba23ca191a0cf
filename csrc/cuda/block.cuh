// Sweeps over the values of one image by one block, and the sums and maxima that they yield.
//
// Value i belongs to thread (i - begin) mod blockDim: neighbouring threads read neighbouring values, so that a warp's loads
// touch as few sectors as there are, whatever the strides and the alignment of the rows; and a thread finds in memory what
// itself wrote there in an earlier sweep, without a barrier.
//
// A thread adds up four products in T, then goes on in double; warps and blocks add in double. The order of every addition
// is fixed by n and the plan (plan.hpp): one image gives the same bits in any batch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "call.hpp"

namespace advkit {
namespace {

constexpr unsigned every_lane = 0xffffffffu;
constexpr int most_warps = most_threads / 32;

template <class T>
struct Wider {  // what values in memory are computed in
  using type = T;
};
template <>
struct Wider<__half> {
  using type = float;
};
template <>
struct Wider<__nv_bfloat16> {
  using type = float;
};

__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline float widen(__half v) { return __half2float(v); }
__device__ inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class H>
struct Narrow {
  template <class T>
  __device__ static H from(T v) {
    return static_cast<H>(v);
  }
};
template <>
struct Narrow<__half> {
  __device__ static __half from(float v) { return __float2half_rn(v); }
  __device__ static __half from(double v) { return __double2half(v); }
};
template <>
struct Narrow<__nv_bfloat16> {
  __device__ static __nv_bfloat16 from(float v) { return __float2bfloat16_rn(v); }
  __device__ static __nv_bfloat16 from(double v) { return __double2bfloat16(v); }
};

template <class T>
__device__ inline T larger(T a, T b) {
  return b > a ? b : a;
}
// NaN stays NaN: it must not turn into a bound unseen.
template <class T>
__device__ inline T clamp(T v, T lo, T hi) {
  v = v < lo ? lo : v;
  return v > hi ? hi : v;
}
__device__ inline float absolute(float v) { return fabsf(v); }
__device__ inline double absolute(double v) { return fabs(v); }

// Sums, and one maximum of values that are not negative. A thread's own at first, the block's after `reduce`.
template <class T, int Sums>
struct Totals {
  double sum[Sums > 0 ? Sums : 1] = {};
  T max = 0;
};
template <class T, int Sums>
struct Run {
  T sum[Sums > 0 ? Sums : 1] = {};
  T max = 0;
};

template <class T, int Sums>
__device__ inline void add(Totals<T, Sums>& total, const Run<T, Sums>& r) {
#pragma unroll
  for (int k = 0; k < Sums; ++k) total.sum[k] += static_cast<double>(r.sum[k]);
  total.max = larger(total.max, r.max);
}

// A part of an image: all of it, or the tile of one block.
struct Span {
  int64_t begin, end;
};

// read(i) -> values; work(i, values, acc). All reads of a run are under way before its first value is needed.
template <class T, int Sums, class Read, class Work>
__device__ inline Totals<T, Sums> sweep(Span span, const Read& read, const Work& work) {
  Totals<T, Sums> total;
  const int64_t step = blockDim.x;
  for (int64_t i0 = span.begin + threadIdx.x; i0 < span.end; i0 += run_values * step) {
    decltype(read(i0)) in[run_values];
    Run<T, Sums> acc;
#pragma unroll
    for (int k = 0; k < run_values; ++k) {
      if (i0 + k * step < span.end) in[k] = read(i0 + k * step);
    }
#pragma unroll
    for (int k = 0; k < run_values; ++k) {
      if (i0 + k * step < span.end) work(i0 + k * step, in[k], acc);
    }
    add(total, acc);
  }
  return total;
}

ADVKIT_HD constexpr int power_of_two(int sums) { return sums <= 1 ? 1 : 2 * power_of_two((sums + 1) / 2); }

// The totals over a warp of P sums, a power of two: lane l returns that of v[l / (32 / P)]. In each of the first steps a lane
// gives away half of its sums and takes the other half of its partner's: P - 1 + log2(32 / P) shuffles in place of 5 P.
template <int P, int Offset = 16>
__device__ inline double warp_totals(const double (&v)[P]) {
  if constexpr (P > 1) {
    const bool upper = (threadIdx.x & Offset) != 0;
    double half[P / 2];
#pragma unroll
    for (int k = 0; k < P / 2; ++k) {
      const double keep = upper ? v[k + P / 2] : v[k], give = upper ? v[k] : v[k + P / 2];
      half[k] = keep + __shfl_xor_sync(every_lane, give, Offset);
    }
    return warp_totals<P / 2, Offset / 2>(half);
  } else {
    double total = v[0];
#pragma unroll
    for (int offset = Offset; offset > 0; offset /= 2) total += __shfl_xor_sync(every_lane, total, offset);
    return total;
  }
}

template <class T>
__device__ inline T warp_max(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = larger(v, __shfl_xor_sync(every_lane, v, offset));
  return v;
}

// Where the warps of a block meet. Two sets, used in turn, so that one barrier is enough for a reduction: a warp that writes
// a set again has passed the barrier of the reduction between, where every warp arrived after reading it.
template <class T, int Most>
struct Meeting {
  double sum[2][power_of_two(Most)][most_warps];
  T max[2][most_warps];
};

template <class T, int Most>
class Block {
 public:
  __device__ explicit Block(Meeting<T, Most>& meeting) : meeting_(meeting) {}

  // Every thread of the block must call; every one gets the totals.
  template <bool Max, int Sums>
  __device__ Totals<T, Sums> reduce(const Totals<T, Sums>& mine) {
    constexpr int P = power_of_two(Sums), lanes = 32 / P;
    static_assert(Sums <= Most, "the meeting place is too small");
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    double v[P] = {};
#pragma unroll
    for (int k = 0; k < Sums; ++k) v[k] = mine.sum[k];
    if constexpr (Sums > 0) {
      const double total = warp_totals<P>(v);
      if (lane % lanes == 0) meeting_.sum[set_][lane / lanes][warp] = total;
    }
    if constexpr (Max) {
      const T most = warp_max(mine.max);
      if (lane == 0) meeting_.max[set_][warp] = most;
    }
    __syncthreads();
    Totals<T, Sums> out;
    if constexpr (Sums > 0) {
#pragma unroll
      for (int k = 0; k < P; ++k) v[k] = lane < warps ? meeting_.sum[set_][k][lane] : 0.0;
      const double total = warp_totals<P>(v);
#pragma unroll
      for (int k = 0; k < Sums; ++k) out.sum[k] = __shfl_sync(every_lane, total, k * lanes);
    }
    if constexpr (Max) out.max = warp_max(lane < warps ? meeting_.max[set_][lane] : T(0));
    set_ ^= 1;
    return out;
  }

 private:
  Meeting<T, Most>& meeting_;
  int set_ = 0;
};

}  // namespace
}  // namespace advkit
