#include "../cpu/kernels.hpp"
#include "bind.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

using Address = std::uintptr_t;

template <class T>
void lbfgs_step(int64_t rows, int64_t n, int64_t m, int64_t slots, Address slot, Address loss, Address g_loss, int64_t g_loss_row,
                Address trial, int64_t trial_row, Address vectors, Address history, int64_t ld, Address scalars, Address counters,
                Address x0, int64_t x0_row, const BoundAt& lower, const BoundAt& upper, int norm, double gradient_tolerance,
                double relative_tolerance, double stagnation_tolerance, int32_t stagnation_window, int32_t max_evaluations,
                int threads) {
  const StepParams<T> p{rows,
                        n,
                        m,
                        slots,
                        at<const int64_t>(slot),
                        at<const T>(loss),
                        at<const T>(g_loss),
                        g_loss_row,
                        at<T>(trial),
                        trial_row,
                        at<T>(vectors),
                        at<T>(history),
                        ld,
                        at<double>(scalars),
                        at<int32_t>(counters),
                        at<const T>(x0),
                        x0_row,
                        box<T>(lower, upper),
                        static_cast<Norm>(norm),
                        gradient_tolerance,
                        relative_tolerance,
                        stagnation_tolerance,
                        stagnation_window,
                        max_evaluations};
  for (int64_t i = 0; i < rows; ++i) {
    check(0 <= p.slot[i] && p.slot[i] < slots, [&] { return "slots must lie in 0 ... " + std::to_string(slots - 1); });
    const int32_t* ct = p.counters + p.slot[i] * column::counters;
    check(0 <= ct[column::head] && ct[column::head] < m && 0 <= ct[column::count] && ct[column::count] <= m,
          [] { return "the state's counters are damaged: its ring of pairs points outside the history"; });
  }
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().lbfgs_step_f32(p, threads);
  } else {
    kernels().lbfgs_step_f64(p, threads);
  }
}

}  // namespace

void bind_lbfgs_step(py::module_& m) {
  m.def("lbfgs_step_f32", &lbfgs_step<float>);
  m.def("lbfgs_step_f64", &lbfgs_step<double>);
}

}  // namespace advkit
