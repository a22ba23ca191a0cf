#include "kernels.cuh"
#include "lbfgs_step.cuh"

using T = ADVKIT_VALUE;
using H = ADVKIT_PAIR;
using P = advkit::Call<advkit::StepParams<T, H>>;

ADVKIT_KERNEL(lbfgs_step, _x4, P, 256, 2) { advkit::lbfgs_step_block<T, H, 4>(call); }
#if ADVKIT_MOST_VALUES >= 8
ADVKIT_KERNEL(lbfgs_step, _x8, P, 384, 1) { advkit::lbfgs_step_block<T, H, 8>(call); }
#endif
ADVKIT_KERNEL(lbfgs_step, _shared, P, advkit::most_threads, 1) { advkit::lbfgs_step_block<T, H, 0>(call); }
