#include "bind.hpp"

namespace py = pybind11;

namespace advkit {

void bind_legs(py::module_& m) {
  // Both are made once for an attack, by attributes: their constructors would have more arguments than anyone can tell apart.
  py::class_<LegRules>(m, "LegRules")
      .def(py::init<>())
      .def_readwrite("slack", &LegRules::slack)
      .def_readwrite("prune", &LegRules::prune)
      .def_readwrite("progress", &LegRules::progress)
      .def_readwrite("prune_age", &LegRules::prune_age)
      .def_readwrite("progress_age", &LegRules::progress_age)
      .def_readwrite("bolder", &LegRules::bolder)
      .def_readwrite("boldest", &LegRules::boldest)
      .def_readwrite("noise_at_best", &LegRules::noise_at_best)
      .def_readwrite("noise_at_original", &LegRules::noise_at_original)
      .def_readwrite("at_face", &LegRules::at_face)
      .def_readwrite("least_gradient", &LegRules::least_gradient)
      .def_readwrite("most_growth", &LegRules::most_growth);
  py::class_<LegsAt>(m, "LegsAt")
      .def(py::init<>())
      .def_readwrite("images", &LegsAt::images)
      .def_readwrite("x0", &LegsAt::x0)
      .def_readwrite("x0_row", &LegsAt::x0_row)
      .def_readwrite("starts", &LegsAt::starts)
      .def_readwrite("starts_row", &LegsAt::starts_row)
      .def_readwrite("order", &LegsAt::order)
      .def_readwrite("slack", &LegsAt::slack)
      .def_readwrite("gap", &LegsAt::gap)
      .def_readwrite("stop_distance", &LegsAt::stop_distance)
      .def_readwrite("leg", &LegsAt::leg)
      .def_readwrite("age", &LegsAt::age)
      .def_readwrite("rival", &LegsAt::rival)
      .def_readwrite("forwards", &LegsAt::forwards)
      .def_readwrite("backwards", &LegsAt::backwards)
      .def_readwrite("sharpness", &LegsAt::sharpness)
      .def_readwrite("nearest", &LegsAt::nearest)
      .def_readwrite("mark", &LegsAt::mark)
      .def_readwrite("distance", &LegsAt::distance)
      .def_readwrite("c_best", &LegsAt::c_best)
      .def_readwrite("radius", &LegsAt::radius)
      .def_readwrite("best", &LegsAt::best)
      .def_readwrite("ranked", &LegsAt::ranked)
      .def_readwrite("key", &LegsAt::key)
      .def_readwrite("ranks", &LegsAt::ranks)
      .def_readwrite("noise", &LegsAt::noise)
      .def_readwrite("table", &LegsAt::table)
      .def_readwrite("legs", &LegsAt::legs)
      .def_readwrite("repeated", &LegsAt::repeated)
      .def_readwrite("passes", &LegsAt::passes)
      .def_readwrite("rules", &LegsAt::rules);
}

}  // namespace advkit
