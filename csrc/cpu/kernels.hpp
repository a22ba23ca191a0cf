// The kernels of one instruction set, as a table of functions; and the choice among the sets compiled in.
#pragma once

#include <string>
#include <vector>

#include "advkit/params.hpp"

namespace advkit {

struct Kernels {
  const char* isa;
  void (*penalty_f32)(const PenaltyParams<float>&, int threads);
  void (*penalty_f64)(const PenaltyParams<double>&, int threads);
  void (*class_loss_f32)(const ClassLossParams<float>&, int threads);
  void (*class_loss_f64)(const ClassLossParams<double>&, int threads);
  void (*two_loop_f32)(const TwoLoopParams<float>&, int threads);
  void (*two_loop_f64)(const TwoLoopParams<double>&, int threads);
  void (*lbfgs_step_f32)(const StepParams<float>&, int threads);
  void (*lbfgs_step_f64)(const StepParams<double>&, int threads);
};

// Those that were compiled in and that this processor can run, the best one last.
const std::vector<const Kernels*>& available_kernels();

// The table in use: the best one until select_isa names another. Throws std::invalid_argument for one that cannot run.
const Kernels& kernels();
void select_isa(const std::string& isa);

}  // namespace advkit
