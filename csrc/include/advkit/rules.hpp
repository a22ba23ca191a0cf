// The rules that every backend shares, on numbers: when a pair is used, when a step is accepted, how long the next one is.
// Internal linkage: the CPU's kernels include this once for every instruction set.
#pragma once

#include <cmath>
#include <limits>

#include "params.hpp"

#ifdef __CUDACC__
#define ADVKIT_HD __host__ __device__
#else
#define ADVKIT_HD
#endif

namespace advkit {
namespace {

constexpr double curvature_threshold = 1e-8;
constexpr double armijo = 1e-4;
constexpr double wolfe = 0.9;
constexpr double expansion = 4.0;
constexpr double least_share = 0.1;  // of the descent that the box must leave of a quasi-Newton step
constexpr double most_active_margin = 1e-3;
constexpr int most_expansions = 10;
constexpr int most_trials = 20;
constexpr int most_skips = 2;

template <class T>
constexpr T epsilon = std::numeric_limits<T>::epsilon();
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

ADVKIT_HD inline bool curved(double sy, double ss, double yy) { return sy > curvature_threshold * std::sqrt(ss * yy); }

// The power of two by which s and y are multiplied to be stored in 16 bits: the longer of them gets a length in [2^14, 2^15).
// Its values do not overflow float16, which ends at 65504, and the shorter one is as far as can be from the other end, where
// digits are lost below 2^-14. The matrix H is the same for a pair and its multiples.
ADVKIT_HD inline double pair_scale(double ss, double yy) {
  int exponent;
  std::frexp(std::sqrt(std::fmax(ss, yy)), &exponent);
  return std::ldexp(1.0, 15 - exponent);
}

// How close to a bound counts as at it (Bertsekas' epsilon): at most 1e-3, and less near the minimiser.
template <class T>
ADVKIT_HD inline T active_margin(double projected_gradient) {
  return static_cast<T>(projected_gradient < most_active_margin ? projected_gradient : most_active_margin);
}

// Of one evaluation, relative to the accepted point: gs_trial = g_trial's, gs = g's.
struct Evaluation {
  double f, gs_trial, gs, sy, ss, yy, pg;
};

// Sufficient decrease; or, where f no longer resolves the difference, a slope that is (approximate Wolfe, Hager & Zhang 2005).
template <class T>
ADVKIT_HD inline bool acceptable(double f, const Evaluation& e) {
  const double noise = 10 * static_cast<double>(epsilon<T>) * std::fmax(1.0, std::fabs(f));
  const bool falls = e.f <= f + armijo * e.gs;
  const bool flat = std::fabs(e.f - f) <= noise && std::fabs(e.gs_trial) <= wolfe * std::fabs(e.gs);
  return falls || flat;
}

ADVKIT_HD inline bool still_steep(const Evaluation& e) { return e.gs_trial < wolfe * e.gs; }

// The minimiser, as a part of the present step, of the cubic with these values and slopes at its ends
// (Nocedal & Wright 2006, equation 3.59).
ADVKIT_HD inline double cubic(double f, const Evaluation& e) {
  const double d1 = e.gs + e.gs_trial - 3 * (e.f - f);
  const double d2 = std::sqrt(std::fmax(0.0, d1 * d1 - e.gs * e.gs_trial));
  const double t = 1 - (e.gs_trial + d2 - d1) / (e.gs_trial - e.gs + 2 * d2);
  if (!(t > 0.1)) return 0.1;
  return t < 0.9 ? t : 0.9;
}

// With rho > 0 the loss is a constraint, loss <= 0, and (max(0, mu + rho loss)^2 - mu^2) / (2 rho) takes its place in the
// objective: the augmented Lagrangian (Nocedal & Wright 2006, section 17.4). First its derivative by the loss, which is also
// the next multiplier; then its value.
ADVKIT_HD inline double loss_weight(double mu, double rho, double loss) {
  if (!(rho > 0)) return 1.0;
  const double w = mu + rho * loss;
  return w < 0 ? 0.0 : w;  // not fmax, which would hide a NaN
}
ADVKIT_HD inline double loss_value(double mu, double rho, double loss) {
  if (!(rho > 0)) return loss;
  const double w = loss_weight(mu, rho, loss);
  return (w * w - mu * mu) / (2 * rho);
}

// Factor of -g where there are no pairs: as given, or by the rule: a finite box bounds the step by itself.
ADVKIT_HD inline double steepest_scale(double given, bool boxed, double g_free) {
  const double rule = boxed ? 1.0 : std::fmin(1.0, 1.0 / g_free);
  return given > 0 ? given : rule;
}

// Whether a direction d and its projection descend: g_F'd_F and g'(P(x + d) - x), of which the box must leave a share. The
// first is 0 where nothing is free.
ADVKIT_HD inline bool descends(double gd_free, double g_step, double share) {
  return gd_free <= 0 && g_step < 0 && g_step <= share * gd_free;
}

// Where x = x0, the penalty |x - x0| of length c shortens the loss's gradient by c, to no less than 0.
ADVKIT_HD inline double shrunk_to(double length, double c) {
  if (std::isnan(length)) return length;
  return length > c ? 1.0 - c / length : 0.0;
}

// Of class_loss.
ADVKIT_HD inline double softplus(double v) { return v > 0 ? v + std::log1p(std::exp(-v)) : std::log1p(std::exp(v)); }
ADVKIT_HD inline double logistic(double v) {
  if (v > 0) return 1 / (1 + std::exp(-v));
  const double e = std::exp(v);
  return e / (1 + e);
}

}  // namespace
}  // namespace advkit
