// One evaluation of one image, from the loss and its gradient to the next trial point, in one block: see
// csrc/cpu/lbfgs_step.hpp, where the method is described. lbfgs_step_split.cuh is the same in several kernels.
#pragma once

#include "step_image.cuh"

namespace advkit {
namespace {

template <class T, class H, int X>
class StepBlock {
 public:
  __device__ StepBlock(const Call<StepParams<T, H>>& call, Meeting<T, 6>& meeting, StepControl<T>& control, double* shared)
      : call_(call),
        block_(meeting),
        control_(control),
        image_(call.p, blockIdx.x),
        decision_(call.p, blockIdx.x, control),
        n_(static_cast<int>(call.p.n)),
        room_(shared, call.p.m, n_),
        q_(n_, room_.own) {}

  __device__ void advance() {
    const Span all{0, n_};
    evaluate(all);
    if (control_.act == Act::shrink) return image_.shrink(all, control_.step);
    if (control_.act == Act::expand) {
      const auto moved = block_.template reduce<true>(image_.expand(all, control_.step));
      if (threadIdx.x == 0) decision_.expanded(moved.max);
      __syncthreads();
    }
    if (control_.act == Act::accept) image_.accept(all, control_);
    if (!control_.aim) return;
    split();
    if (control_.quasi && quasi_newton()) return;
    steepest();
  }

 private:
  __device__ void evaluate(Span all) {
    double r_sum = 0, g_sum = 0;
    if (call_.p.norm == Norm::l2) {
      const auto t = block_.template reduce<false>(image_.norms(all));
      r_sum = t.sum[0];
      g_sum = t.sum[1];
    }
    const auto t = block_.template reduce<true>(image_.evaluate(all, r_sum, g_sum));
    if (threadIdx.x == 0) decide(decision_, control_, t, g_sum, call_.p.norm);
    __syncthreads();
  }

  // Free or active, and q = g on the free variables.
  __device__ void split() {
    const typename StepImage<T, H>::Points points(image_);
    sweep_own<T, X, 0>(
        n_,
        [&](int, int i) { return points[i]; },
        [&](int x, int, const auto& v, auto&) {
          const bool free = image_.is_free(v, control_.margin);
          free_ |= static_cast<unsigned>(free) << x;
          q_[x] = free ? v.g : T(0);
        });
  }
  __device__ bool is_free(int x) const { return (free_ >> x & 1u) != 0; }

  // d = -H g on the free variables, -g on the active ones. False if d or its projection does not descend. A step that the
  // box cuts to little of its descent runs into a corner.
  __device__ bool quasi_newton() {
    const TwoLoop<T, H, X> two_loop(image_.pairs(control_), n_, free_, call_.resident != 0, room_);
    const bool any = two_loop.apply(block_, q_);
    if (any && aim(least_share, [this](int x, T g) { return is_free(x) ? -q_[x] : -g; })) {
      if (threadIdx.x == 0) decision_.aimed(true);
      return true;
    }
    if (threadIdx.x == 0) decision_.fall_back(any);
    return false;
  }

  __device__ void steepest() {
    const typename StepImage<T, H>::Points points(image_);
    const auto t = block_.template reduce<true>(sweep_own<T, X, 1>(
        n_,
        [&](int, int i) { return points[i]; },
        [&](int x, int, const auto& v, auto& acc) { image_.measure(v, is_free(x), acc); }));
    const T scale = decision_.scale(std::isfinite(t.max), t.sum[0]);
    const bool good = aim(0.0, [=](int, T g) { return -g * scale; });
    if (threadIdx.x == 0) decision_.aimed(good);
  }

  template <class Direction>
  __device__ bool aim(double share, const Direction& direction) {
    const typename StepImage<T, H>::Points points(image_);
    const typename StepImage<T, H>::Aim set_out(image_);
    const auto t = block_.template reduce<false>(sweep_own<T, X, 2>(
        n_,
        [&](int, int i) { return points[i]; },
        [&](int x, int i, const auto& v, auto& acc) { set_out(i, v, direction(x, v.g), is_free(x), acc); }));
    return descends(t.sum[0], t.sum[1], share);
  }

  const Call<StepParams<T, H>>& call_;
  Block<T, 6> block_;
  StepControl<T>& control_;  // in shared memory
  const StepImage<T, H> image_;
  Decision<T, H> decision_;
  const int n_;
  const Room<T, H, X> room_;
  Own<T, X> q_;
  unsigned free_ = 0;
};

template <class T, class H, int X>
__device__ inline void lbfgs_step_block(const Call<StepParams<T, H>>& call) {
  extern __shared__ double shared[];
  __shared__ Meeting<T, 6> meeting;
  __shared__ StepControl<T> control;
  if (!StepImage<T, H>::running(call.p, blockIdx.x)) return;
  StepBlock<T, H, X>(call, meeting, control, shared).advance();
}

}  // namespace
}  // namespace advkit
