#include "kernels.cuh"
#include "lbfgs_step_split.cuh"

using T = ADVKIT_VALUE;
using H = ADVKIT_PAIR;
using P = advkit::Call<advkit::StepParams<T, H>>;

// What the class StepTiles does in each kernel; its blocks meet in shared memory.
#define ADVKIT_STEP(PART, THREADS, MEMBER)                 \
  ADVKIT_KERNEL(lbfgs_step, PART, P, advkit::THREADS, 1) { \
    __shared__ advkit::StepMeeting<T> meeting;             \
    advkit::StepTiles<T, H>(call, meeting).MEMBER;         \
  }

ADVKIT_STEP(_norms, tile_threads, norms())
ADVKIT_STEP(_evaluate, tile_threads, evaluate())
ADVKIT_STEP(_decide, tile_threads, decide())
ADVKIT_STEP(_extend, tile_threads, extend())
ADVKIT_STEP(_extended, tile_threads, extended())
ADVKIT_STEP(_accept, tile_threads, accept())
ADVKIT_STEP(_solve, solve_threads, solve())
ADVKIT_STEP(_aim, tile_threads, aim())
ADVKIT_STEP(_judge, tile_threads, judge())
