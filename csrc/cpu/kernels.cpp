// Compiled once for each instruction set (CMakeLists.txt): ADVKIT_ISA_NAME is its name, ADVKIT_ISA_TABLE the table's.
#include "kernels.hpp"

#include <cstdlib>
#include <memory>
#include <new>

#include "augmented.hpp"
#include "class_loss.hpp"
#include "lbfgs_step.hpp"
#include "margin.hpp"
#include "penalty.hpp"
#include "radius.hpp"
#include "row_norm.hpp"
#include "two_loop.hpp"

namespace advkit {
namespace {

// Aligned memory for one call.
class Arena {
 public:
  explicit Arena(size_t bytes) : begin_(static_cast<char*>(std::aligned_alloc(alignment, round_up(bytes)))) {
    if (begin_ == nullptr) throw std::bad_alloc();
  }
  ~Arena() { std::free(begin_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  static constexpr size_t alignment = 64;
  static size_t round_up(size_t bytes) { return (bytes / alignment + 1) * alignment; }  // never 0

  template <class U>
  U* take(size_t count) {
    U* p = reinterpret_cast<U*>(begin_ + used_);
    used_ += round_up(count * sizeof(U));
    return p;
  }

 private:
  char* begin_;
  size_t used_ = 0;
};

// row(i, crew, scratch) for every image: each on one thread, or, when images are few and large, one after the other with
// all threads on each. Both give the same bits.
template <class T, class Row>
void for_images(int64_t rows, int64_t n, int64_t m, int threads, const Row& row) {
  if (rows == 0) return;
  const bool share = n > tile_values && rows < 4 * threads;
  const size_t workers = share || threads < 1 ? 1 : static_cast<size_t>(threads);
  const size_t tiles = static_cast<size_t>(tiles_of(n)), registers = static_cast<size_t>((n + width<T> - 1) / width<T>);
  const size_t bytes = Arena::round_up(tiles * sizeof(Crew::Partial)) + Arena::round_up(registers * sizeof(Vec<T>)) +
                       Arena::round_up(registers * sizeof(PackedMask<T>)) +
                       2 * Arena::round_up(static_cast<size_t>(m) * sizeof(double));
  Arena arena(workers * bytes);
  struct Worker {
    Crew crew;
    Scratch<T> scratch;
  };
  const auto make = [&](int team) {
    Worker w{};
    w.crew = {team, arena.take<Crew::Partial>(tiles)};
    w.scratch = {arena.take<T>(registers * width<T>),
                 arena.take<PackedMask<T>>(registers),
                 arena.take<double>(static_cast<size_t>(m)),
                 arena.take<double>(static_cast<size_t>(m))};
    return w;
  };
  if (share) {
    const Worker w = make(threads);
    for (int64_t i = 0; i < rows; ++i) row(i, i + 1 < rows ? i + 1 : i, w.crew, w.scratch);
    return;
  }
  std::unique_ptr<Worker[]> all(new Worker[workers]);
  for (size_t k = 0; k < workers; ++k) all[k] = make(1);
  parallel_for(rows, threads, [&](int64_t i, int64_t then, int worker) {
    row(i, then, all[static_cast<size_t>(worker)].crew, all[static_cast<size_t>(worker)].scratch);
  });
}

template <class Kind>
struct Type {
  using type = Kind;
};

template <class Run>
void with_norm(Norm norm, const Run& run) {
  switch (norm) {
    case Norm::none:
      return run(std::integral_constant<Norm, Norm::none>{});
    case Norm::l2sq:
      return run(std::integral_constant<Norm, Norm::l2sq>{});
    case Norm::l2:
      return run(std::integral_constant<Norm, Norm::l2>{});
    case Norm::l1:
      return run(std::integral_constant<Norm, Norm::l1>{});
  }
}

template <class T>
void penalty(const PenaltyParams<T>& p, int threads) {
  with_norm(p.norm, [&](auto norm) {
    for_images<T>(p.rows, p.n, 0, threads, [&](int64_t i, int64_t, const Crew& crew, const Scratch<T>&) {
      penalty_row<norm.value>(p, i, crew);
    });
  });
}

template <class T>
void class_loss(const ClassLossParams<T>& p, int threads) {
  parallel_for(p.rows, threads, [&](int64_t i, int64_t, int) { class_loss_row(p, i); });
}

template <class T>
void margin(const MarginParams<T>& p, int threads) {
  // Rows are short: only many are worth waking a thread. An exponential is worth some.
  const int64_t worth = 1 + p.rows * p.classes / (p.sharpness == nullptr ? tile_values : tile_values / 8);
  const int most = worth < threads ? static_cast<int>(worth) : threads;
  parallel_for(p.rows, most, [&](int64_t i, int64_t, int) { margin_row(p, i); });
}

template <class T>
void row_norm(const RowNormParams<T>& p, int threads) {
  // A few short rows are not worth waking a thread.
  const int64_t worth = 1 + p.rows * p.n / tile_values;
  const int most = worth < threads ? static_cast<int>(worth) : threads;
  for_images<T>(p.rows, p.n, 0, most, [&](int64_t i, int64_t, const Crew& crew, const Scratch<T>&) { row_norm_row(p, i, crew); });
}

template <class T, class H = T>
void two_loop(const TwoLoopParams<T, H>& p, int threads) {
  for_images<T>(p.rows, p.n, p.m, threads, [&](int64_t i, int64_t then, const Crew& crew, const Scratch<T>& scratch) {
    two_loop_row(p, i, then, crew, scratch);
  });
}

template <class T, class H = T>
void lbfgs_step(const StepParams<T, H>& p, int threads) {
  with_norm(p.norm, [&](auto norm) {
    for_images<T>(p.rows, p.n, p.m, threads, [&](int64_t i, int64_t then, const Crew& crew, const Scratch<T>& scratch) {
      Step<norm.value, T, H>(p, i, then, crew, scratch).advance();
    });
  });
}

template <class T, class H = T>
void leg_round(const LegParams<T, H>& p, int threads) {
  const auto run = [&](auto leg) {
    using Kind = typename decltype(leg)::type;
    for_images<T>(
        p.step.rows, p.step.n, p.step.m, threads, [&](int64_t i, int64_t then, const Crew& crew, const Scratch<T>& scratch) {
          Kind(p, i, then, crew, scratch).advance();
        });
  };
  switch (p.order) {
    case Order::largest:
      return run(Type<RadiusLeg<T, H>>{});
    case Order::sum:
      return run(Type<AugmentedLeg<Norm::l1, T, H>>{});
    case Order::euclidean:
      return run(Type<AugmentedLeg<Norm::l2sq, T, H>>{});
  }
}

}  // namespace

extern const Kernels ADVKIT_ISA_TABLE;
const Kernels ADVKIT_ISA_TABLE = {ADVKIT_ISA_NAME,
                                  penalty<float>,
                                  penalty<double>,
                                  class_loss<float>,
                                  class_loss<double>,
                                  margin<float>,
                                  margin<double>,
                                  row_norm<float>,
                                  row_norm<double>,
                                  two_loop<float>,
                                  two_loop<double>,
                                  two_loop<float, Float16>,
                                  two_loop<float, BFloat16>,
                                  lbfgs_step<float>,
                                  lbfgs_step<double>,
                                  lbfgs_step<float, Float16>,
                                  lbfgs_step<float, BFloat16>,
                                  leg_round<float>,
                                  leg_round<double>,
                                  leg_round<float, Float16>,
                                  leg_round<float, BFloat16>};

}  // namespace advkit
