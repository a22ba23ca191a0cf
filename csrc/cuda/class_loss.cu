#include "class_loss.cuh"
#include "kernels.cuh"

using P = advkit::Call<advkit::ClassLossParams<ADVKIT_VALUE>>;

ADVKIT_KERNEL(class_loss, , P, 32 * advkit::class_loss_warps, 1) { advkit::class_loss_rows(call); }
