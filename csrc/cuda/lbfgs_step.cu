#include "kernels.cuh"
#include "lbfgs_step.cuh"

using T = ADVKIT_VALUE;
using H = ADVKIT_PAIR;
using P = advkit::Call<advkit::StepParams<T, H>>;

ADVKIT_KERNEL(lbfgs_step, _x4, P, 256, 2) { advkit::lbfgs_step_block<T, H, 4>(call); }
#if ADVKIT_MOST_VALUES >= 16
// Of 512 threads each has 128 registers: too few where the block's size is not fixed (block.cuh).
ADVKIT_KERNEL(lbfgs_step, _x8, P, 384, 1) { advkit::lbfgs_step_block<T, H, 8>(call); }
ADVKIT_KERNEL(lbfgs_step, _x16, P, 512, 1) { advkit::lbfgs_step_block<T, H, 16>(call); }
#else
ADVKIT_KERNEL(lbfgs_step, _x8, P, 512, 1) { advkit::lbfgs_step_block<T, H, 8>(call); }
#endif
