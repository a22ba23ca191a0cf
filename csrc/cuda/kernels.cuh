// How the sources of kernels (*.cu) define them. Each source is compiled once for each set of types (CMakeLists.txt):
// ADVKIT_TYPES is their name, ADVKIT_VALUE the type of values, ADVKIT_PAIR that of stored pairs,
// and ADVKIT_MOST_VALUES how many values a thread can keep in registers.
#pragma once

#include "launch.hpp"

namespace advkit {
namespace {

struct Entered {
  Entered(const char* name, const void* kernel) { kernel_table()[name] = kernel; }
};

}  // namespace
}  // namespace advkit

#define ADVKIT_JOIN_(a, b, c) advkit_##a##_##b##c
#define ADVKIT_JOIN(a, b, c) ADVKIT_JOIN_(a, b, c)
#define ADVKIT_QUOTE_(a) #a
#define ADVKIT_QUOTE(a) ADVKIT_QUOTE_(a)

// Begins the kernel advkit_OP_TYPESPART, on the parameters P by value as `call`, of at most THREADS threads, of which BLOCKS
// blocks share a multiprocessor's registers. A plain name: plans and PTX can use it.
#define ADVKIT_KERNEL(OP, PART, P, THREADS, BLOCKS)                                                        \
  extern "C" __global__ void ADVKIT_JOIN(OP, ADVKIT_TYPES, PART)(const __grid_constant__ P call);          \
  namespace {                                                                                              \
  const advkit::Entered entered##PART(ADVKIT_QUOTE(ADVKIT_JOIN(OP, ADVKIT_TYPES, PART)),                   \
                                      reinterpret_cast<const void*>(ADVKIT_JOIN(OP, ADVKIT_TYPES, PART))); \
  }                                                                                                        \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                            \
      ADVKIT_JOIN(OP, ADVKIT_TYPES, PART)(const __grid_constant__ P call)
