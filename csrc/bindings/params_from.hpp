// The kernels' parameters from what Python passes: addresses, sizes and strides, in this order, on every device.
#pragma once

#include "bind.hpp"

namespace advkit {

using Address = std::uintptr_t;

template <class T>
PenaltyParams<T> penalty_params(int64_t rows, int64_t n, Address x, int64_t x_row, Address x0, int64_t x0_row, Address g_loss,
                                int64_t g_loss_row, Address c, const BoundAt& lower, const BoundAt& upper, int norm,
                                Address value, Address gradient, Address free) {
  return {rows,
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
}

template <class T>
ClassLossParams<T> class_loss_params(int64_t rows, int64_t classes, Address logits, int64_t logits_row, Address labels, int kind,
                                     bool targeted, double kappa, double sharpness, Address loss, Address dlogits) {
  return {rows,
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
}

template <class T>
MarginParams<T> margin_params(int64_t rows, int64_t classes, Address logits, int64_t logits_row, Address labels, Address rivals,
                              Address sharpness, bool targeted, double kappa, Address constraint, Address dlogits, Address margin,
                              Address fooled, Address surely) {
  return {rows,
          classes,
          at<const T>(logits),
          logits_row,
          at<const int64_t>(labels),
          at<const int64_t>(rivals),
          at<const double>(sharpness),
          targeted,
          kappa,
          at<T>(constraint),
          at<T>(dlogits),
          at<T>(margin),
          at<bool>(fooled),
          at<bool>(surely)};
}

template <class T>
RowNormParams<T> row_norm_params(int64_t rows, int64_t n, Address values, int64_t values_row, int order, Address norm) {
  return {rows, n, at<const T>(values), values_row, static_cast<Order>(order), at<double>(norm)};
}

template <class T, class H = T>
TwoLoopParams<T, H> two_loop_params(int64_t rows, int64_t n, int64_t m, Address g, int64_t g_row, Address S, int64_t S_row,
                                    int64_t S_pair, Address Y, int64_t Y_row, int64_t Y_pair, Address head, Address count,
                                    Address free, int64_t free_row, Address direction) {
  return {rows,
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
}

template <class T, class H = T>
StepParams<T, H> step_params(int64_t rows, int64_t n, int64_t m, int64_t slots, Address slot, Address loss, Address g_loss,
                             int64_t g_loss_row, Address trial, int64_t trial_row, Address vectors, Address history, int64_t ld,
                             Address scalars, Address counters, Address x0, int64_t x0_row, const BoundAt& lower,
                             const BoundAt& upper, int norm, double gradient_tolerance, double relative_tolerance,
                             double stagnation_tolerance, int32_t stagnation_window, int32_t max_evaluations) {
  return {rows,
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
}

template <class T, class H = T>
LegParams<T, H> leg_params(const LegsAt& legs, const BoundAt& own_lower, const BoundAt& own_upper, Address index, Address x,
                           int64_t x_row, Address constraint, Address surely, Address finished, Address length, Address c,
                           int64_t rows, int64_t n, int64_t m, int64_t slots, Address slot, Address loss, Address g_loss,
                           int64_t g_loss_row, Address trial, int64_t trial_row, Address vectors, Address history, int64_t ld,
                           Address scalars, Address counters, Address x0, int64_t x0_row, const BoundAt& lower,
                           const BoundAt& upper, int norm, double gradient_tolerance, double relative_tolerance,
                           double stagnation_tolerance, int32_t stagnation_window, int32_t max_evaluations) {
  return {step_params<T, H>(rows,
                            n,
                            m,
                            slots,
                            slot,
                            loss,
                            g_loss,
                            g_loss_row,
                            trial,
                            trial_row,
                            vectors,
                            history,
                            ld,
                            scalars,
                            counters,
                            x0,
                            x0_row,
                            lower,
                            upper,
                            norm,
                            gradient_tolerance,
                            relative_tolerance,
                            stagnation_tolerance,
                            stagnation_window,
                            max_evaluations),
          at<const int64_t>(index),
          at<const T>(x),
          at<const T>(constraint),
          x_row,
          at<const bool>(surely),
          at<bool>(finished),
          at<T>(loss),
          at<double>(length),
          at<double>(c),
          legs.images,
          at<const T>(legs.x0),
          at<const T>(legs.starts),
          legs.x0_row,
          legs.starts_row,
          box<T>(own_lower, own_upper),
          static_cast<Order>(legs.order),
          at<const double>(legs.slack),
          at<const double>(legs.gap),
          at<const double>(legs.stop_distance),
          at<int64_t>(legs.leg),
          at<int64_t>(legs.age),
          at<int64_t>(legs.rival),
          at<int64_t>(legs.forwards),
          at<int64_t>(legs.backwards),
          at<double>(legs.sharpness),
          at<double>(legs.nearest),
          at<double>(legs.mark),
          at<double>(legs.distance),
          at<double>(legs.c_best),
          at<double>(legs.radius),
          at<T>(legs.best),
          at<const int64_t>(legs.ranked),
          at<const int64_t>(legs.key),
          legs.ranks,
          at<const T>(legs.noise),
          at<const double>(legs.table),
          legs.legs,
          legs.repeated,
          legs.passes,
          legs.rules};
}

// The function that Python calls: it takes the arguments of `make`, which puts the parameters together, then Extra.
template <class... Extra, class Params, class... Arguments, class Body>
auto taking(Params (*make)(Arguments...), Body body) {
  return [=](Arguments... arguments, Extra... extra) { return body(make(arguments...), extra...); };
}

}  // namespace advkit
