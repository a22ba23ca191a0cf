// The kernels of one instruction set, as a table of functions; and the choice among the sets compiled in.
#pragma once

#include <string>
#include <vector>

#include "advkit/params.hpp"

namespace advkit {

template <class Params>
using Kernel = void (*)(const Params&, int threads);

struct Kernels {
  const char* isa;
  Kernel<PenaltyParams<float>> penalty_f32;
  Kernel<PenaltyParams<double>> penalty_f64;
  Kernel<ClassLossParams<float>> class_loss_f32;
  Kernel<ClassLossParams<double>> class_loss_f64;
  Kernel<MarginParams<float>> margin_f32;
  Kernel<MarginParams<double>> margin_f64;
  Kernel<RowNormParams<float>> row_norm_f32;
  Kernel<RowNormParams<double>> row_norm_f64;
  Kernel<TwoLoopParams<float>> two_loop_f32;
  Kernel<TwoLoopParams<double>> two_loop_f64;
  Kernel<TwoLoopParams<float, Float16>> two_loop_f32_f16;
  Kernel<TwoLoopParams<float, BFloat16>> two_loop_f32_bf16;
  Kernel<StepParams<float>> lbfgs_step_f32;
  Kernel<StepParams<double>> lbfgs_step_f64;
  Kernel<StepParams<float, Float16>> lbfgs_step_f32_f16;
  Kernel<StepParams<float, BFloat16>> lbfgs_step_f32_bf16;
  Kernel<LegParams<float>> leg_round_f32;
  Kernel<LegParams<double>> leg_round_f64;
  Kernel<LegParams<float, Float16>> leg_round_f32_f16;
  Kernel<LegParams<float, BFloat16>> leg_round_f32_bf16;
};

// Those that were compiled in and that this processor can run, the best one last.
const std::vector<const Kernels*>& available_kernels();

// The table in use: the best one until select_isa names another. Throws std::invalid_argument for one that cannot run.
const Kernels& kernels();
void select_isa(const std::string& isa);

}  // namespace advkit
