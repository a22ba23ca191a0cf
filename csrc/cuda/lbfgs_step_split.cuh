// lbfgs_step on images that are cut into tiles: a fixed sequence of kernels, each of which does for every image what the last
// decision asks for, and nothing for the others. What a block does between two barriers of lbfgs_step.cuh is a kernel here.
//
//   norms (L2)   sums that the gradient of L2 has to know before
//   evaluate     the gradient at the trial, what the decisions need of it
//   decide       accept, shrink, expand, stop; every image
//   extend       the next trial of a line search
//   extended     whether the expansion ends; every image
//   accept       x moves, the pair enters the ring, free or active, the Gram matrix
//   solve        the factors of the pairs, the scale of the steepest descent; every image
//   aim          the direction and the trial point
//   judge        whether they descend; every image
//   aim, judge   again, by the steepest descent, where they did not
//
// That is ten launches, eleven for L2; the host reads nothing between them.
#pragma once

#include "gram.cuh"
#include "step_image.cuh"

namespace advkit {
namespace {

template <class T>
using StepMeeting = Meeting<T, 6>;

template <class T, class H>
class StepTiles {
 public:
  __device__ StepTiles(const Call<StepParams<T, H>>& call, StepMeeting<T>& meeting)
      : call_(call), block_(meeting), at_(layout(call.p.rows, call.p.n, call.p.m, call.tiles)) {
    static_assert(sizeof(StepControl<T>) <= control_bytes, "the workspace has no room for it");
  }

  __device__ void norms() {
    if (running()) put_partial(call_, 0, block_.template reduce<false>(image().norms(tile_of(call_))));
  }

  __device__ void evaluate() {
    if (!running()) return;
    const auto l2 = l2_sums();
    put_partial(call_, 1, block_.template reduce<true>(image().evaluate(tile_of(call_), l2.sum[0], l2.sum[1])));
  }

  __device__ void decide() {
    if (!running()) {
      if (threadIdx.x == 0) control() = {};
      return;
    }
    const auto l2 = l2_sums();
    const auto t = block_.template reduce<true>(get_partials<T, 6>(call_, 1));
    if (threadIdx.x != 0) return;
    Decision<T, H> decision = this->decision();
    advkit::decide(decision, control(), t, l2.sum[1], call_.p.norm);
  }

  __device__ void extend() {
    if (control().act == Act::shrink) image().shrink(tile_of(call_), control().step);
    if (control().act != Act::expand) return;
    put_partial(call_, 0, block_.template reduce<true>(image().expand(tile_of(call_), control().step)));
  }

  __device__ void extended() {
    if (control().act != Act::expand) return;
    const auto moved = block_.template reduce<true>(get_partials<T, 0>(call_, 0));
    if (threadIdx.x == 0) decision().expanded(moved.max);
  }

  __device__ void accept() {
    const StepControl<T>& c = control();
    if (c.act == Act::accept) image().accept(tile_of(call_), c);
    if (!c.aim) return;
    const auto image = this->image();
    const typename StepImage<T, H>::Points points(image);
    bool* free = this->free();
    const T margin = c.margin;
    const auto t = sweep<T, 1>(
        tile_of(call_),
        [&](int64_t i) { return points[i]; },
        [&](int64_t i, const auto& v, auto& acc) {
          const bool is_free = image.is_free(v, margin);
          free[i] = is_free;
          image.measure(v, is_free, acc);
        });
    put_partial(call_, 0, block_.template reduce<true>(t));  // whose barrier lets the block see its pair and its free set
    if (!c.quasi) return;
    const GramSpace space(call_);
    gram_tile(tile_of(call_), image.vector(column::g), image.pairs(c), free, space.parts + blockIdx.y * space.entries);
  }

  __device__ void solve() {
    extern __shared__ double shared[];
    if (!control().aim) return;
    const auto t = block_.template reduce<true>(get_partials<T, 1>(call_, 0));
    bool any = false;
    if (control().quasi) {
      any = gram_solve<T>(GramSpace(call_), control().count, static_cast<int>(call_.p.m), call_.tiles, shared);
    }
    if (threadIdx.x != 0) return;
    control().scale = decision().scale(std::isfinite(t.max), t.sum[0]);
    if (!any) decision().fall_back(false);
  }

  // -H g on the free variables and -g on the active ones, or the steepest descent.
  __device__ void aim() {
    if (!control().aim) return;
    const auto image = this->image();
    const typename StepImage<T, H>::Points points(image);
    const typename StepImage<T, H>::Aim set_out(image);
    const Combination<T, H> Hg(image.pairs(control()), GramSpace(call_));
    const bool quasi = control().quasi, *free = this->free();
    const T scale = control().scale;
    const auto t = sweep<T, 2>(
        tile_of(call_),
        [&](int64_t i) { return points[i]; },
        [&](int64_t i, const auto& v, auto& acc) {
          const bool is_free = free[i];
          const T d = !quasi ? -v.g * scale : is_free ? -Hg.at(i, v.g) : -v.g;
          set_out(i, v, d, is_free, acc);
        });
    put_partial(call_, 1, block_.template reduce<false>(t));
  }

  // Where a direction by the pairs does not descend, the steepest descent is tried in its place.
  __device__ void judge() {
    if (!control().aim) return;
    const auto t = block_.template reduce<false>(get_partials<T, 2>(call_, 1));
    if (threadIdx.x != 0) return;
    const bool quasi = control().quasi, good = descends(t.sum[0], t.sum[1], quasi ? least_share : 0.0);
    if (quasi && !good) return decision().fall_back(true);
    decision().aimed(good);
    control().aim = false;
  }

 private:
  __device__ bool running() const { return StepImage<T, H>::running(call_.p, blockIdx.x); }
  __device__ StepImage<T, H> image() const { return StepImage<T, H>(call_.p, blockIdx.x); }
  __device__ Decision<T, H> decision() const { return Decision<T, H>(call_.p, blockIdx.x, control()); }
  __device__ char* workspace(int64_t begin) const { return static_cast<char*>(call_.workspace) + begin; }
  __device__ StepControl<T>& control() const {
    return *reinterpret_cast<StepControl<T>*>(workspace(at_.control + blockIdx.x * control_bytes));
  }
  __device__ bool* free() const { return reinterpret_cast<bool*>(workspace(at_.free + blockIdx.x * call_.p.n)); }
  __device__ Totals<T, 2> l2_sums() {
    if (call_.p.norm != Norm::l2) return {};
    return block_.template reduce<false>(get_partials<T, 2>(call_, 0));
  }

  const Call<StepParams<T, H>>& call_;
  Block<T, 6> block_;
  const Layout at_;
};

}  // namespace
}  // namespace advkit
