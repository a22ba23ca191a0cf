// The border between Python and the CUDA kernels. An op is first prepared, which needs no GPU, then run. Checks are made in
// advkit/ops/_check.py before, but for those that would have to read the data: a row whose label, slot or ring lies outside of
// its range the kernels answer with NaN, skip, or take to have no pairs.
#include <pybind11/stl.h>

#include <cstring>
#include <tuple>

#include "../cuda/launch.hpp"
#include "bind.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

using Address = std::uintptr_t;

// An op with its plan.
struct Prepared {
  Plan plan;
  std::vector<char> call;  // the kernels' argument

  void run_on(int device, Address stream) const {
    const py::gil_scoped_release release;
    run(plan.launches, call.data(), device, stream);
  }
};

template <class P>
Prepared prepare(const P& p, Address workspace, Plan plan) {
  Call<P> call{};  // with padding of zeros
  std::memcpy(&call.p, &p, sizeof p);
  call.workspace = at<void>(workspace);
  call.tile = plan.tile;
  call.tiles = plan.tiles;
  call.resident = plan.resident;
  Prepared out{std::move(plan), std::vector<char>(sizeof call)};
  std::memcpy(out.call.data(), &call, sizeof call);
  return out;
}

// Values of which only the size matters here.
struct Bits16 {
  uint16_t bits;
};
template <class T, class H = T>
constexpr Types types(const char* name) {
  return {name, sizeof(T), sizeof(H)};
}

template <class T>
auto penalty(Types types) {
  return [types](int64_t rows,
                 int64_t n,
                 Address x,
                 int64_t x_row,
                 Address x0,
                 int64_t x0_row,
                 Address g_loss,
                 int64_t g_loss_row,
                 Address c,
                 const BoundAt& lower,
                 const BoundAt& upper,
                 int norm,
                 Address value,
                 Address gradient,
                 Address free,
                 Address workspace) {
    const PenaltyParams<T> p{rows,
                             n,
                             at<const T>(x),
                             at<const T>(x0),
                             at<const T>(g_loss),
                             x_row,
                             x0_row,
                             g_loss_row,
                             at<const T>(c),
                             box<T>(lower, upper),
                             static_cast<Norm>(norm),
                             at<T>(value),
                             at<T>(gradient),
                             at<bool>(free)};
    return prepare(p, workspace, plan_penalty(rows, n, p.norm, types));
  };
}

template <class T>
auto class_loss(Types types) {
  return [types](int64_t rows,
                 int64_t classes,
                 Address logits,
                 int64_t logits_row,
                 Address labels,
                 int kind,
                 bool targeted,
                 double kappa,
                 double sharpness,
                 Address loss,
                 Address dlogits) {
    const ClassLossParams<T> p{rows,
                               classes,
                               at<const T>(logits),
                               logits_row,
                               at<const int64_t>(labels),
                               static_cast<Loss>(kind),
                               targeted,
                               kappa,
                               sharpness,
                               at<T>(loss),
                               at<T>(dlogits)};
    return prepare(p, 0, plan_class_loss(rows, types));
  };
}

template <class T, class H>
auto two_loop(Types types) {
  return [types](int64_t rows,
                 int64_t n,
                 int64_t m,
                 Address g,
                 int64_t g_row,
                 Address S,
                 int64_t S_row,
                 int64_t S_pair,
                 Address Y,
                 int64_t Y_row,
                 int64_t Y_pair,
                 Address head,
                 Address count,
                 Address free,
                 int64_t free_row,
                 Address direction,
                 Address workspace,
                 int64_t shared_memory) {
    const TwoLoopParams<T, H> p{rows,
                                n,
                                m,
                                at<const T>(g),
                                g_row,
                                at<const H>(S),
                                at<const H>(Y),
                                S_row,
                                S_pair,
                                Y_row,
                                Y_pair,
                                at<const int64_t>(head),
                                at<const int64_t>(count),
                                at<const bool>(free),
                                free_row,
                                at<T>(direction)};
    return prepare(p, workspace, plan_two_loop(rows, n, m, types, shared_memory));
  };
}

template <class T, class H>
auto lbfgs_step(Types types) {
  return [types](int64_t rows,
                 int64_t n,
                 int64_t m,
                 int64_t slots,
                 Address slot,
                 Address loss,
                 Address g_loss,
                 int64_t g_loss_row,
                 Address trial,
                 int64_t trial_row,
                 Address vectors,
                 Address history,
                 int64_t ld,
                 Address scalars,
                 Address counters,
                 Address x0,
                 int64_t x0_row,
                 const BoundAt& lower,
                 const BoundAt& upper,
                 int norm,
                 double gradient_tolerance,
                 double relative_tolerance,
                 double stagnation_tolerance,
                 int32_t stagnation_window,
                 int32_t max_evaluations,
                 Address workspace,
                 int64_t shared_memory) {
    const StepParams<T, H> p{rows,
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
                             at<H>(history),
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
    return prepare(p, workspace, plan_lbfgs_step(rows, n, m, p.norm, types, shared_memory));
  };
}

template <class T, class H>
void bind_two_loops(py::module_& m, const char* name) {
  m.def((std::string("two_loop_") + name).c_str(), two_loop<T, H>(types<T, H>(name)));
  m.def((std::string("lbfgs_step_") + name).c_str(), lbfgs_step<T, H>(types<T, H>(name)));
}

}  // namespace
}  // namespace advkit

PYBIND11_MODULE(_cuda, m) {
  using namespace advkit;
  m.doc() = "advkit's CUDA kernels. Private: they take raw addresses. Use advkit.ops.";
  py::class_<Prepared>(m, "Prepared")
      .def("run", &Prepared::run_on, py::arg("device"), py::arg("stream"))
      .def_property_readonly("launches",
                             [](const Prepared& p) {
                               py::list all;
                               for (const Launch& l : p.plan.launches) {
                                 all.append(py::make_tuple(l.kernel, py::make_tuple(l.rows, l.tiles), l.threads, l.shared));
                               }
                               return all;
                             })
      .def_property_readonly("call", [](const Prepared& p) { return py::bytes(p.call.data(), p.call.size()); });
  py::class_<BoundAt>(m, "BoundAt", py::module_local())  // advkit._native has one, too
      .def(py::init<std::uintptr_t, int64_t, bool>(), py::arg("address"), py::arg("row"), py::arg("element"));
  m.def("shared_memory", &shared_memory, py::arg("device"));
  m.def("workspace_penalty", &workspace_penalty);
  m.def("workspace_two_loop", &workspace_two_loop);
  m.def("workspace_lbfgs_step", &workspace_lbfgs_step);
  m.def("penalty_f32", penalty<float>(types<float>("f32")));
  m.def("penalty_f64", penalty<double>(types<double>("f64")));
  m.def("class_loss_f32", class_loss<float>(types<float>("f32")));
  m.def("class_loss_f64", class_loss<double>(types<double>("f64")));
  m.def("class_loss_f16", class_loss<Bits16>(types<Bits16>("f16")));
  m.def("class_loss_bf16", class_loss<Bits16>(types<Bits16>("bf16")));
  bind_two_loops<float, float>(m, "f32");
  bind_two_loops<double, double>(m, "f64");
  bind_two_loops<float, Bits16>(m, "f32_f16");
  bind_two_loops<float, Bits16>(m, "f32_bf16");
}
