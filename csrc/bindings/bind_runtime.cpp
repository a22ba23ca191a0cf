#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../cpu/kernels.hpp"
#include "../cpu/parallel.hpp"
#include "bind.hpp"

namespace py = pybind11;

namespace advkit {

void bind_runtime(py::module_& m) {
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const Kernels* k : available_kernels()) names.emplace_back(k->isa);
    return names;
  });
  m.def("isa", [] { return std::string(kernels().isa); });
  m.def("select_isa", &select_isa, py::arg("isa"));
  m.def("use_openmp_of", [](const std::string& library) { return use_openmp_of(library.c_str()); }, py::arg("library"));
  m.def("has_openmp", &has_openmp);
  py::class_<BoundAt>(m, "BoundAt")
      .def(py::init<std::uintptr_t, int64_t, bool>(), py::arg("address"), py::arg("row"), py::arg("element"));
}

}  // namespace advkit
