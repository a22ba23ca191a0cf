#include "../cpu/kernels.hpp"
#include "bind.hpp"

namespace py = pybind11;

namespace advkit {
namespace {

using Address = std::uintptr_t;

template <class T>
void penalty(int64_t rows, int64_t n, Address x, int64_t x_row, Address x0, int64_t x0_row, Address g_loss, int64_t g_loss_row,
             Address c, const BoundAt& lower, const BoundAt& upper, int norm, Address value, Address gradient, Address free,
             int threads) {
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
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().penalty_f32(p, threads);
  } else {
    kernels().penalty_f64(p, threads);
  }
}

template <class T>
void class_loss(int64_t rows, int64_t classes, Address logits, int64_t logits_row, Address labels, int kind, bool targeted,
                double kappa, double sharpness, Address loss, Address dlogits, int threads) {
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
  for (int64_t i = 0; i < rows; ++i) {
    check(0 <= p.labels[i] && p.labels[i] < classes, [&] {
      return "labels must lie in 0 ... K - 1 = " + std::to_string(classes - 1) + ", got " + std::to_string(p.labels[i]) +
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
void two_loop(int64_t rows, int64_t n, int64_t m, Address g, int64_t g_row, Address S, int64_t S_row, int64_t S_pair, Address Y,
              int64_t Y_row, int64_t Y_pair, Address head, Address count, Address free, int64_t free_row, Address direction,
              int threads) {
  const TwoLoopParams<T> p{rows,
                           n,
                           m,
                           at<const T>(g),
                           g_row,
                           at<const T>(S),
                           at<const T>(Y),
                           S_row,
                           S_pair,
                           Y_row,
                           Y_pair,
                           at<const int64_t>(head),
                           at<const int64_t>(count),
                           at<const bool>(free),
                           free_row,
                           at<T>(direction)};
  for (int64_t i = 0; i < rows; ++i) {
    check(0 <= p.head[i] && p.head[i] < m, [&] { return "head must lie in 0 ... m - 1 = " + std::to_string(m - 1); });
    check(0 <= p.count[i] && p.count[i] <= m, [&] { return "count must lie in 0 ... m = " + std::to_string(m); });
  }
  const py::gil_scoped_release release;
  if constexpr (sizeof(T) == 4) {
    kernels().two_loop_f32(p, threads);
  } else {
    kernels().two_loop_f64(p, threads);
  }
}

template <class T>
void bind(py::module_& m, const char* suffix) {
  const auto name = [&](const char* op) { return std::string(op) + suffix; };
  m.def(name("penalty").c_str(), &penalty<T>);
  m.def(name("class_loss").c_str(), &class_loss<T>);
  m.def(name("two_loop").c_str(), &two_loop<T>);
}

}  // namespace

void bind_ops(py::module_& m) {
  bind<float>(m, "_f32");
  bind<double>(m, "_f64");
}

}  // namespace advkit
