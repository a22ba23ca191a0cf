// What a thread keeps of one vector from sweep to sweep: X values in registers, or, X = 0, as many as it takes in shared
// memory. There a thread's values come in runs, the last one filled up with zeros, and the block's size is fixed: distances
// between them are constants.
#pragma once

#include "block.cuh"

namespace advkit {
namespace {

template <int X>
__device__ inline int own_values(int n) {
  return X > 0 ? X : values_of_thread(n);
}
template <int X>
__device__ inline int own_step() {
  return X > 0 ? static_cast<int>(blockDim.x) : most_threads;
}

template <class T, int X>
class Own {
 public:
  __device__ Own(int, T*) {}
  __device__ T& operator[](int x) { return values_[x]; }

 private:
  T values_[X] = {};
};

template <class T>
class Own<T, 0> {
 public:
  __device__ Own(int n, T* shared) : values_(shared + threadIdx.x) {
    for (int x = own_values<0>(n) - run_values; x < own_values<0>(n); ++x) values_[x * most_threads] = 0;
  }
  __device__ T& operator[](int x) { return values_[x * most_threads]; }

 private:
  T* const values_;
};

// The same as `sweep`, where work(x, i, values, acc) is on the thread's value x. In flight are 16 bytes at once, since doubles
// take two registers each.
template <class T, int X, int Sums, class Read, class Work>
__device__ inline Totals<T, Sums> sweep_own(int n, const Read& read, const Work& work) {
  constexpr int length = 16 / static_cast<int>(sizeof(T));
  Totals<T, Sums> total;
  const int i0 = static_cast<int>(threadIdx.x), values = own_values<X>(n), step = own_step<X>();
#pragma unroll
  for (int x0 = 0; x0 < values; x0 += length) {
    decltype(read(0, i0)) in[length];
    Run<T, Sums> acc;
#pragma unroll
    for (int k = 0; k < length; ++k) {
      if (i0 + (x0 + k) * step < n) in[k] = read(x0 + k, i0 + (x0 + k) * step);
    }
#pragma unroll
    for (int k = 0; k < length; ++k) {
      if (i0 + (x0 + k) * step < n) work(x0 + k, i0 + (x0 + k) * step, in[k], acc);
    }
    add(total, acc);
  }
  return total;
}

}  // namespace
}  // namespace advkit
