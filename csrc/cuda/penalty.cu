#include "kernels.cuh"
#include "penalty.cuh"

using P = advkit::Call<advkit::PenaltyParams<ADVKIT_VALUE>>;

ADVKIT_KERNEL(penalty, , P, advkit::most_threads, 1) { advkit::penalty_block(call); }
ADVKIT_KERNEL(penalty, _norms, P, advkit::tile_threads, 1) { advkit::penalty_norms(call); }
ADVKIT_KERNEL(penalty, _gradient, P, advkit::tile_threads, 1) { advkit::penalty_gradients(call); }
ADVKIT_KERNEL(penalty, _finish, P, advkit::tile_threads, 1) { advkit::penalty_finish(call); }
