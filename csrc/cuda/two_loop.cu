#include "gram.cuh"
#include "kernels.cuh"

using T = ADVKIT_VALUE;
using H = ADVKIT_PAIR;
using P = advkit::Call<advkit::TwoLoopParams<T, H>>;

ADVKIT_KERNEL(two_loop, _x4, P, 256, 2) { advkit::two_loop_block<T, H, 4>(call); }
#if ADVKIT_MOST_VALUES >= 8
ADVKIT_KERNEL(two_loop, _x8, P, 384, 1) { advkit::two_loop_block<T, H, 8>(call); }
#endif
ADVKIT_KERNEL(two_loop, _shared, P, advkit::most_threads, 1) { advkit::two_loop_block<T, H, 0>(call); }
ADVKIT_KERNEL(two_loop, _gram, P, advkit::tile_threads, 1) { advkit::two_loop_gram(call); }
ADVKIT_KERNEL(two_loop, _solve, P, advkit::solve_threads, 1) { advkit::two_loop_solve(call); }
ADVKIT_KERNEL(two_loop, _combine, P, advkit::tile_threads, 1) { advkit::two_loop_combine(call); }
