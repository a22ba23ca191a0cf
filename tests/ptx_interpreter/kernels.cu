// Kernels that the tests of the PTX interpreter compile and run. Those of test_faults.py are wrong on purpose.
#include <cuda_pipeline.h>

#include <cstdint>

#define KERNEL extern "C" __global__ void

// test_cuda.py

KERNEL saxpy(int n, float a, const float* x, float* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}

KERNEL block_sum(int n, const float* x, double* out) {
  __shared__ double part[32];
  double sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(~0u, sum, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < blockDim.x / 32; ++w) sum += part[w];
    out[blockIdx.x] = sum;
  }
}

KERNEL reverse(const double* x, double* y) {
  extern __shared__ double dynamic[];
  int t = threadIdx.x, first = blockIdx.x * blockDim.x;
  dynamic[t] = x[first + t];
  __syncthreads();
  y[first + t] = dynamic[blockDim.x - 1 - t];
}

KERNEL collatz(int n, int* steps) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int value = i + 1, count = 0;
  while (value != 1) {
    value = value & 1 ? 3 * value + 1 : value / 2;
    ++count;
  }
  steps[i] = count;
}

template <class T>
__device__ void functions(int n, const T* x, T* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  T v = x[i];
  y[i] = exp(-v);
  y[n + i] = log1p(v);
  y[2 * n + i] = log(v);
  y[3 * n + i] = sqrt(v);
  y[4 * n + i] = T(3) / v;
}
KERNEL functions_float(int n, const float* x, float* y) { functions(n, x, y); }
KERNEL functions_double(int n, const double* x, double* y) { functions(n, x, y); }

struct Params {
  int64_t rows, n;
  const double* x;
  float scale;
  double* y[2];
};
KERNEL by_value(Params p, int which) {
  for (int64_t i = threadIdx.x; i < p.rows * p.n; i += blockDim.x) p.y[which][i] = p.scale * p.x[i];
}

KERNEL atomics(int* out, int* bins, double* total, int* order) {
  __shared__ int own[8];
  int t = threadIdx.x;
  if (t < 8) own[t] = 0;
  __syncthreads();
  atomicAdd(own + t % 8, t);
  atomicAdd(total, 0.5);
  atomicMax(out, t);
  atomicCAS(out + 1, 0, t + 1);
  atomicExch(out + 2, 9);
  order[atomicAdd(out + 3, 1)] = 1;
  __syncthreads();
  if (t < 8) atomicAdd(bins + t, own[t]);
}

template <bool wait>
__device__ void copy_async(const float4* x, float4* y) {
  __shared__ float4 s[64];
  int t = threadIdx.x;
  __pipeline_memcpy_async(s + t, x + t, 16);
  __pipeline_commit();
  if (wait) __pipeline_wait_prior(0);
  __syncthreads();
  y[t] = s[63 - t];
}
KERNEL copy_waited_for(const float4* x, float4* y) { copy_async<true>(x, y); }
KERNEL copy_not_waited_for(const float4* x, float4* y) { copy_async<false>(x, y); }

KERNEL copy_in_groups(const double* x, double* y) {
  __shared__ double s[2][64];
  int t = threadIdx.x;
  __pipeline_memcpy_async(s[0] + t, x + t, 8, t % 2 ? 8 : 0);  // odd ones become zeros
  __pipeline_commit();
  __pipeline_memcpy_async(s[1] + t, x + 64 + t, 8);
  __pipeline_commit();
  __pipeline_wait_prior(1);
  y[t] = s[0][t];
  __pipeline_wait_prior(0);
  y[64 + t] = s[1][t];
}

__constant__ double weight[4] = {1, 2, 3, 4};
__device__ double shift = 0.25;
__device__ __noinline__ double ratio(double a, double b) { return a / (b + shift); }
KERNEL calls(int n, const double* x, double* y) {
  int t = threadIdx.x;
  double own[9];
  for (int i = 0; i < 9; ++i) own[i] = i * x[t];
  double v = own[(t * n) % 9];
  switch (t % 7) {
    case 0:
      v += 1;
      break;
    case 1:
      v *= 2;
      break;
    case 2:
      v -= x[0];
      break;
    case 3:
      v = -v;
      break;
    case 4:
      v /= 3;
      break;
    case 5:
      v = v * v;
      break;
    default:
      v = 7;
  }
  if (t % 2) v = ratio(v, x[t]);
  y[2 * t] = v;
  y[2 * t + 1] = weight[t % 4];
}

KERNEL votes(unsigned* out) {
  int t = threadIdx.x;
  out[t] = __ballot_sync(~0u, t % 3 == 0);
  out[64 + t] = __all_sync(~0u, t < 32) * 2 + __any_sync(~0u, t == 40);
  out[128 + t] = __match_any_sync(~0u, t & 3);
  out[192 + t] = __reduce_add_sync(~0u, t);
  out[256 + t] = __syncthreads_count(t > 10);
  if (t % 2) out[320 + t] = __activemask();
}

KERNEL widths(int* out) {
  int t = threadIdx.x;
  out[t] = __shfl_up_sync(~0u, t, 3, 8);
  out[32 + t] = __shfl_down_sync(~0u, t, 3, 8);
  out[64 + t] = __shfl_xor_sync(~0u, t, 9);
  out[96 + t] = __shfl_sync(~0u, t, 5, 16);
}

KERNEL generic(int* x, int* y) {
  __shared__ int s[64];
  int t = threadIdx.x;
  s[t] = 100 + t;
  __syncthreads();
  int* volatile from = t % 3 ? x : s;
  y[t] = from[t] + (int)__isShared(from);
}

KERNEL axes(int* out) {
  int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[b * blockDim.x * blockDim.y * blockDim.z + t] = b * 1000 + t;
}

// test_faults.py

KERNEL fill(float* x, int n) {
  if (threadIdx.x < n) x[threadIdx.x] = 1;
}

KERNEL fill_misaligned(char* x) { *(float*)(x + 4 * threadIdx.x + 2) = 1; }

KERNEL read_beyond_shared(float* x, int k) {
  extern __shared__ float words[];
  words[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = words[threadIdx.x + k];
}

KERNEL read_unwritten_shared(float* x) {
  __shared__ float s[64];
  int t = threadIdx.x;
  if (t != 40) s[t] = t;
  __syncthreads();
  x[t] = s[t];
}

KERNEL divergent_barrier(int* x) {
  if (threadIdx.x < 40) {
    x[0] = 1;
    __syncthreads();
  }
  x[threadIdx.x] = 2;
}

KERNEL two_barriers(int* x) {
  if (threadIdx.x < 32) {
    asm volatile("bar.sync 1, 64;");
  } else {
    asm volatile("bar.sync 2, 64;");
  }
  x[threadIdx.x] = 2;
}

KERNEL shuffle_after_exit(int* x) {
  int t = threadIdx.x;
  if (t >= 20) return;
  x[t] = __shfl_xor_sync(~0u, t, 1);
}

KERNEL shuffle_in_a_branch(int* x) {
  int t = threadIdx.x;
  if (t < 16) x[t] = __shfl_xor_sync(~0u, t, 1);
  __syncthreads();
}

KERNEL shuffle_outside_of_the_mask(int* x) { x[threadIdx.x] = __shfl_xor_sync(0xFFFF, threadIdx.x, 1); }

KERNEL missing_barrier(int* x) {
  __shared__ int s[64];
  int t = threadIdx.x;
  s[t] = t;
  x[t] = s[(t + 32) % 64];
}

KERNEL missing_second_barrier(int* x) {
  __shared__ int s[64];
  int t = threadIdx.x;
  s[t] = t;
  __syncthreads();
  int v = s[63 - t];
  s[t] = v;
  x[t] = v;
}

KERNEL copies_write(int* x, int differ) {
  __shared__ int s[16];
  int t = threadIdx.x;
  for (int k = 0; k < 2; ++k) s[t % 16] = t % 16 + (t == 63) * differ;
  __syncthreads();
  x[t] = s[(t + 1) % 16];
}

KERNEL spin(volatile int* x) {
  while (x[0] == 0) {
  }
}

KERNEL trap(int* x) {
  if (x[threadIdx.x] > 5) __trap();
}

// test_counts.py

KERNEL copy(const float* x, float* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i];
}

KERNEL copy_four(const float4* x, float4* y) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = x[i];
}

KERNEL copy_strided(const float* x, float* y, int stride) { y[threadIdx.x] = x[threadIdx.x * stride]; }

KERNEL read_twice(const volatile float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + x[threadIdx.x]; }

template <class T>
__device__ void transfer(T* out, int stride) {
  __shared__ T s[32 * 33];
  s[threadIdx.x * stride] = out[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = s[(31 - threadIdx.x) * stride];
}
KERNEL shared_words(float* out, int stride) { transfer(out, stride); }
KERNEL shared_pairs(double* out, int stride) { transfer(out, stride); }
KERNEL shared_fours(float4* out, int stride) { transfer(out, stride); }
