#include "../cpu/kernels.hpp"
#include "params_from.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

// What kernels index with.
template <class T>
void check_data(const PenaltyParams<T>&) {}

template <class T>
void check_data(const RowNormParams<T>&) {}

template <class T>
void check_data(const ClassLossParams<T>& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.labels[i] && p.labels[i] < p.classes, [&] {
      return "labels must lie in 0 ... K - 1 = " + std::to_string(p.classes - 1) + ", got " + std::to_string(p.labels[i]) +
             " in row " + std::to_string(i);
    });
  }
}

template <class T>
void check_data(const MarginParams<T>& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t rival = p.constraint == nullptr ? -1 : p.rivals[i];
    check(0 <= p.labels[i] && p.labels[i] < p.classes && rival < p.classes,
          [&] { return "labels and rivals must lie in 0 ... K - 1 = " + std::to_string(p.classes - 1); });
  }
}

template <class T, class H>
void check_data(const TwoLoopParams<T, H>& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.head[i] && p.head[i] < p.m, [&] { return "head must lie in 0 ... m - 1 = " + std::to_string(p.m - 1); });
    check(0 <= p.count[i] && p.count[i] <= p.m, [&] { return "count must lie in 0 ... m = " + std::to_string(p.m); });
  }
}

template <class T, class H>
void check_data(const StepParams<T, H>& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.slot[i] && p.slot[i] < p.slots, [&] { return "slots must lie in 0 ... " + std::to_string(p.slots - 1); });
    const int32_t* ct = p.counters + p.slot[i] * column::counters;
    check(0 <= ct[column::head] && ct[column::head] < p.m && 0 <= ct[column::count] && ct[column::count] <= p.m,
          [] { return "the state's counters are damaged: its ring of pairs points outside the history"; });
  }
}

template <class T, class H>
void check_data(const LegParams<T, H>& p) {
  check_data(p.step);
  check(p.rules.progress_age > 0 && 0 < p.repeated && p.repeated <= p.legs, [] { return "there must be legs to repeat"; });
  for (int64_t i = 0; i < p.step.rows; ++i) {
    check(0 <= p.index[i] && p.index[i] < p.images, [&] { return "index must lie in 0 ... " + std::to_string(p.images - 1); });
  }
}

template <class Params, class... Arguments>
void bind(py::module_& m, const char* name, Params (*make)(Arguments...), Kernel<Params> Kernels::* kernel) {
  m.def(name, taking<int>(make, [=](const Params& p, int threads) {
          check_data(p);
          const py::gil_scoped_release release;
          (kernels().*kernel)(p, threads);
        }));
}

}  // namespace

void bind_ops(py::module_& m) {
  bind(m, "penalty_f32", &penalty_params<float>, &Kernels::penalty_f32);
  bind(m, "penalty_f64", &penalty_params<double>, &Kernels::penalty_f64);
  bind(m, "class_loss_f32", &class_loss_params<float>, &Kernels::class_loss_f32);
  bind(m, "class_loss_f64", &class_loss_params<double>, &Kernels::class_loss_f64);
  bind(m, "margin_f32", &margin_params<float>, &Kernels::margin_f32);
  bind(m, "margin_f64", &margin_params<double>, &Kernels::margin_f64);
  bind(m, "row_norm_f32", &row_norm_params<float>, &Kernels::row_norm_f32);
  bind(m, "row_norm_f64", &row_norm_params<double>, &Kernels::row_norm_f64);
  bind(m, "two_loop_f32", &two_loop_params<float>, &Kernels::two_loop_f32);
  bind(m, "two_loop_f64", &two_loop_params<double>, &Kernels::two_loop_f64);
  bind(m, "two_loop_f32_f16", &two_loop_params<float, Float16>, &Kernels::two_loop_f32_f16);
  bind(m, "two_loop_f32_bf16", &two_loop_params<float, BFloat16>, &Kernels::two_loop_f32_bf16);
  bind(m, "lbfgs_step_f32", &step_params<float>, &Kernels::lbfgs_step_f32);
  bind(m, "lbfgs_step_f64", &step_params<double>, &Kernels::lbfgs_step_f64);
  bind(m, "lbfgs_step_f32_f16", &step_params<float, Float16>, &Kernels::lbfgs_step_f32_f16);
  bind(m, "lbfgs_step_f32_bf16", &step_params<float, BFloat16>, &Kernels::lbfgs_step_f32_bf16);
  bind(m, "leg_round_f32", &leg_params<float>, &Kernels::leg_round_f32);
  bind(m, "leg_round_f64", &leg_params<double>, &Kernels::leg_round_f64);
  bind(m, "leg_round_f32_f16", &leg_params<float, Float16>, &Kernels::leg_round_f32_f16);
  bind(m, "leg_round_f32_bf16", &leg_params<float, BFloat16>, &Kernels::leg_round_f32_bf16);
}

}  // namespace advkit
