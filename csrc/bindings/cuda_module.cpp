// The border between Python and the CUDA kernels. An op is first prepared, which needs no GPU, then run. Checks are made in
// advkit/ops/_check.py before, but for those that would have to read the data: a row whose label, slot or ring lies outside of
// its range the kernels answer with NaN, skip, or take to have no pairs.
#include <pybind11/stl.h>

#include <cstring>
#include <tuple>

#include "../cuda/launch.hpp"
#include "params_from.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

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
auto penalty(const char* name) {
  return taking<Address>(&penalty_params<T>, [=](const PenaltyParams<T>& p, Address workspace) {
    return prepare(p, workspace, plan_penalty(p.rows, p.n, p.norm, types<T>(name)));
  });
}

template <class T>
auto class_loss(const char* name) {
  return taking<>(&class_loss_params<T>,
                  [=](const ClassLossParams<T>& p) { return prepare(p, 0, plan_class_loss(p.rows, types<T>(name))); });
}

template <class T, class H>
auto two_loop(const char* name) {
  return taking<Address, int64_t>(
      &two_loop_params<T, H>, [=](const TwoLoopParams<T, H>& p, Address workspace, int64_t shared_memory) {
        return prepare(p, workspace, plan_two_loop(p.rows, p.n, p.m, types<T, H>(name), shared_memory));
      });
}

template <class T, class H>
auto lbfgs_step(const char* name) {
  return taking<Address, int64_t>(&step_params<T, H>, [=](const StepParams<T, H>& p, Address workspace, int64_t shared_memory) {
    return prepare(p, workspace, plan_lbfgs_step(p.rows, p.n, p.m, p.norm, types<T, H>(name), shared_memory));
  });
}

template <class T, class H>
void bind_two_loops(py::module_& m, const char* name) {
  m.def((std::string("two_loop_") + name).c_str(), two_loop<T, H>(name));
  m.def((std::string("lbfgs_step_") + name).c_str(), lbfgs_step<T, H>(name));
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
  m.def("penalty_f32", penalty<float>("f32"));
  m.def("penalty_f64", penalty<double>("f64"));
  m.def("class_loss_f32", class_loss<float>("f32"));
  m.def("class_loss_f64", class_loss<double>("f64"));
  m.def("class_loss_f16", class_loss<Bits16>("f16"));
  m.def("class_loss_bf16", class_loss<Bits16>("bf16"));
  bind_two_loops<float, float>(m, "f32");
  bind_two_loops<double, double>(m, "f64");
  bind_two_loops<float, Bits16>(m, "f32_f16");
  bind_two_loops<float, Bits16>(m, "f32_bf16");
}
