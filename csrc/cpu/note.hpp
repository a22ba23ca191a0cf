// What a leg notes of an evaluation: the nearest point that fools the network, and whether the leg is at its end.
// LegSearch._note in advkit/attack/legs.py is the same in plain torch.
#pragma once

#include <cmath>
#include <cstring>

#include "row_norm.hpp"

namespace advkit {
namespace {

template <class T>
void note_row(const NoteParams<T>& p, int64_t row, const Crew& crew) {
  const int64_t image = p.index[row];
  const T *x = p.x + row * p.x_row, *x0 = p.x0 + image * p.x0_row;
  // The originals are not points found.
  const bool found = p.surely[row] && p.age[image] + p.leg[image] > 0 && !p.finished[row];
  if (found && p.length[row] < p.distance[image]) {
    const auto r = [=](int64_t i, auto lanes) { return load_difference(x + i, x0 + i, lanes); };
    p.length[row] = norm_of(crew, p.n, p.order, r);
    if (p.length[row] < p.distance[image]) {
      std::memcpy(p.best + image * p.n, x, sizeof(T) * static_cast<size_t>(p.n));
      p.distance[image] = p.length[row];
      p.c_best[image] = p.c[row];
    }
  }
  const int64_t age = ++p.age[image];
  const double length = p.length[row], best = p.distance[image], h = p.h[row];
  // NaN stays NaN.
  if (found && (std::isnan(length) || length < p.nearest[image])) p.nearest[image] = length;
  const double nearest = p.nearest[image];
  // Where the margin would end along its gradient.
  const double expected = length + h / p.size[row];
  const bool lost = expected > p.prune * best && (length > p.prune * best || (h > 0 && expected > p.prune * p.prune * best));
  bool still = false;
  if (age % p.progress_age == 0) {
    still = std::isfinite(nearest) && nearest > (1 - p.progress) * p.mark[image];
    p.mark[image] = nearest;
  }
  const bool old = static_cast<double>(age) >= p.limit[row];
  p.ended[row] = p.stopped[row] || old || (age >= p.prune_age && lost) || still;
}

}  // namespace
}  // namespace advkit
