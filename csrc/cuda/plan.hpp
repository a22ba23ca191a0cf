// How an op is launched: which kernels, how many blocks and threads, how much shared memory. No CUDA here: tests run the same
// plan elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "call.hpp"

namespace advkit {

struct Launch {
  std::string kernel;
  unsigned rows, tiles;  // the grid
  unsigned threads;
  unsigned shared;  // bytes, beside what the kernel declares
};

struct Plan {
  std::vector<Launch> launches;  // in order
  int64_t tile = 0;              // the rest of a `Call`
  int32_t tiles = 1;
  bool resident = false;
};

// The types of an op: the suffix of its kernels' names, and the bytes of a value and of a value of a stored pair.
struct Types {
  const char* name;
  int64_t value, pair;
};

namespace {

constexpr int64_t most_pairs = 2048;        // whose scalars fit into 64 KiB of shared memory
constexpr int64_t most_resident = 4096;     // bytes that kernels declare for themselves, at most
constexpr int64_t penalty_in_block = 16384;
constexpr int64_t most_in_block = 16384;    // 32 values of a thread, a bit of its free set for each
constexpr unsigned tile_threads = 256, solve_threads = 128, class_loss_rows_of_block = 4;

inline int64_t round_up(int64_t v, int64_t unit) { return (v + unit - 1) / unit * unit; }

// The form of the two-loop recursion in which one block has the whole image: its kernel, its threads, and its bytes of shared
// memory without the pairs. No kernel where the image is too large.
struct InBlock {
  const char* kernel;
  unsigned threads;
  int64_t shared;
};
inline InBlock in_block(int64_t n, int64_t m, int64_t value_bytes, int64_t limit) {
  const auto threads = [n](int64_t values) {
    return static_cast<unsigned>(std::max<int64_t>(64, round_up((n + values - 1) / values, 32)));
  };
  const int64_t scalars = 2 * m * 8;
  if (n <= 1024) return {"_x4", threads(4), scalars};
  if (n <= 3072 && value_bytes == 4) return {"_x8", threads(8), scalars};
  const int64_t shared = scalars + values_of_thread(n) * most_threads * value_bytes;
  if (n <= most_in_block && shared + most_resident <= limit) return {"_shared", most_threads, shared};
  return {nullptr, 0, 0};
}

// At most 256 tiles, so that every block can add up the sums of all.
inline void cut(Plan& plan, int64_t n) {
  plan.tile = std::max<int64_t>(2048, round_up((n + 255) / 256, 1024));
  plan.tiles = static_cast<int32_t>((n + plan.tile - 1) / plan.tile);
}

inline void check_pairs(int64_t m) {
  if (m > most_pairs) {
    throw std::invalid_argument("at most " + std::to_string(most_pairs) + " pairs fit on a GPU, got room for " +
                                std::to_string(m));
  }
}

class Sequence {
 public:
  Sequence(Plan& plan, std::string op, int64_t rows) : plan_(plan), op_(std::move(op)), rows_(static_cast<unsigned>(rows)) {}
  void each_tile(const char* kernel) { add(kernel, static_cast<unsigned>(plan_.tiles), tile_threads, 0); }
  void each_row(const char* kernel, unsigned threads, unsigned shared = 0) { add(kernel, 1, threads, shared); }

  // The two-loop recursion in one block, which keeps the pairs where `limit` bytes are enough.
  void in_one(const InBlock& block, int64_t n, int64_t m, const Types& types, int64_t limit) {
    const int64_t pairs = 2 * m * n * types.pair;
    plan_.resident = block.shared + pairs + most_resident <= limit;
    each_row(block.kernel, block.threads, static_cast<unsigned>(block.shared + (plan_.resident ? pairs : 0)));
  }

 private:
  void add(const char* kernel, unsigned tiles, unsigned threads, unsigned shared) {
    plan_.launches.push_back({op_ + kernel, rows_, tiles, threads, shared});
  }
  Plan& plan_;
  const std::string op_;
  const unsigned rows_;
};

}  // namespace

inline Plan plan_penalty(int64_t rows, int64_t n, Norm norm, const Types& types) {
  Plan plan;
  if (rows == 0) return plan;
  Sequence run(plan, std::string("advkit_penalty_") + types.name, rows);
  if (n <= penalty_in_block) {
    const int64_t threads = std::max<int64_t>(64, round_up((n + 3) / 4, 32));
    run.each_row("", static_cast<unsigned>(std::min<int64_t>(threads, most_threads)));
    return plan;
  }
  cut(plan, n);
  if (norm == Norm::l2) run.each_tile("_norms");
  run.each_tile("_gradient");
  run.each_tile("_finish");
  return plan;
}

inline Plan plan_class_loss(int64_t rows, const Types& types) {
  Plan plan;
  if (rows == 0) return plan;
  Sequence run(
      plan, std::string("advkit_class_loss_") + types.name, (rows + class_loss_rows_of_block - 1) / class_loss_rows_of_block);
  run.each_row("", 32 * class_loss_rows_of_block);
  return plan;
}

inline Plan plan_two_loop(int64_t rows, int64_t n, int64_t m, const Types& types, int64_t shared_limit) {
  check_pairs(m);
  Plan plan;
  if (rows == 0 || n == 0) return plan;
  Sequence run(plan, std::string("advkit_two_loop_") + types.name, rows);
  if (const InBlock block = in_block(n, m, types.value, shared_limit); block.kernel) {
    run.in_one(block, n, m, types, shared_limit);
    return plan;
  }
  cut(plan, n);
  run.each_tile("_gram");
  run.each_row("_solve", solve_threads, static_cast<unsigned>(4 * m * 8));
  run.each_tile("_combine");
  return plan;
}

inline Plan plan_lbfgs_step(int64_t rows, int64_t n, int64_t m, Norm norm, const Types& types, int64_t shared_limit) {
  check_pairs(m);
  Plan plan;
  if (rows == 0) return plan;
  Sequence run(plan, std::string("advkit_lbfgs_step_") + types.name, rows);
  if (const InBlock block = in_block(n, m, types.value, shared_limit); block.kernel) {
    run.in_one(block, n, m, types, shared_limit);
    return plan;
  }
  cut(plan, n);
  if (norm == Norm::l2) run.each_tile("_norms");
  run.each_tile("_evaluate");
  run.each_row("_decide", tile_threads);
  run.each_tile("_extend");
  run.each_row("_extended", tile_threads);
  run.each_tile("_accept");
  run.each_row("_solve", solve_threads, static_cast<unsigned>(4 * m * 8));
  for (int attempt = 0; attempt < 2; ++attempt) {
    run.each_tile("_aim");
    run.each_row("_judge", tile_threads);
  }
  return plan;
}

// Bytes of workspace that a plan's kernels share; 0 where one block does it all.
inline int64_t workspace_penalty(int64_t rows, int64_t n) {
  if (n <= penalty_in_block) return 0;
  Plan plan;
  cut(plan, n);
  return layout(rows, n, 0, plan.tiles).gram;
}
inline int64_t workspace_two_loop(int64_t rows, int64_t n, int64_t m, int64_t value_bytes, int64_t shared_limit) {
  if (in_block(n, m, value_bytes, shared_limit).kernel) return 0;
  Plan plan;
  cut(plan, n);
  return layout(rows, n, m, plan.tiles).control;
}
inline int64_t workspace_lbfgs_step(int64_t rows, int64_t n, int64_t m, int64_t value_bytes, int64_t shared_limit) {
  if (in_block(n, m, value_bytes, shared_limit).kernel) return 0;
  Plan plan;
  cut(plan, n);
  return layout(rows, n, m, plan.tiles).end;
}

}  // namespace advkit
