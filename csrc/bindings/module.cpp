// The border to Python: integers become pointers, and nothing else. Every check is made in advkit/ops/_check.py before.
#include "bind.hpp"

PYBIND11_MODULE(_native, m) {
  m.doc() = "advkit's compiled kernels. Private: they take raw addresses. Use advkit.ops.";
  advkit::bind_runtime(m);
  advkit::bind_legs(m);  // classes that bind_ops takes
  advkit::bind_ops(m);
}
