#include "../cpu/kernels.hpp"
#include "params_from.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

template <class T>
void penalty(const PenaltyParams<T>& p, int threads) {
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().penalty_f32(p, threads);
  } else {
    kernels().penalty_f64(p, threads);
  }
}

template <class T>
void class_loss(const ClassLossParams<T>& p, int threads) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.labels[i] && p.labels[i] < p.classes, [&] {
      return "labels must lie in 0 ... K - 1 = " + std::to_string(p.classes - 1) + ", got " + std::to_string(p.labels[i]) +
             " in row " + std::to_string(i);
    });
  }
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().class_loss_f32(p, threads);
  } else {
    kernels().class_loss_f64(p, threads);
  }
}

template <class T>
void two_loop(const TwoLoopParams<T>& p, int threads) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.head[i] && p.head[i] < p.m, [&] { return "head must lie in 0 ... m - 1 = " + std::to_string(p.m - 1); });
    check(0 <= p.count[i] && p.count[i] <= p.m, [&] { return "count must lie in 0 ... m = " + std::to_string(p.m); });
  }
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().two_loop_f32(p, threads);
  } else {
    kernels().two_loop_f64(p, threads);
  }
}

template <class T>
void lbfgs_step(const StepParams<T>& p, int threads) {
  for (int64_t i = 0; i < p.rows; ++i) {
    check(0 <= p.slot[i] && p.slot[i] < p.slots, [&] { return "slots must lie in 0 ... " + std::to_string(p.slots - 1); });
    const int32_t* ct = p.counters + p.slot[i] * column::counters;
    check(0 <= ct[column::head] && ct[column::head] < p.m && 0 <= ct[column::count] && ct[column::count] <= p.m,
          [] { return "the state's counters are damaged: its ring of pairs points outside the history"; });
  }
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().lbfgs_step_f32(p, threads);
  } else {
    kernels().lbfgs_step_f64(p, threads);
  }
}

template <class T>
void bind(py::module_& m, const char* suffix) {
  const auto name = [&](const char* op) { return std::string(op) + suffix; };
  m.def(name("penalty").c_str(), taking<int>(&penalty_params<T>, &penalty<T>));
  m.def(name("class_loss").c_str(), taking<int>(&class_loss_params<T>, &class_loss<T>));
  m.def(name("two_loop").c_str(), taking<int>(&two_loop_params<T>, &two_loop<T>));
  m.def(name("lbfgs_step").c_str(), taking<int>(&step_params<T>, &lbfgs_step<T>));
}

}  // namespace

void bind_ops(py::module_& m) {
  bind<float>(m, "_f32");
  bind<double>(m, "_f64");
}

}  // namespace advkit
