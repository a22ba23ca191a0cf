// What crosses the border into a kernel: plain structs of sizes, strides and pointers. No tensor type, no Python, no torch.
// Strides count elements. The last dimension of every array is contiguous.
#pragma once

#include <cstdint>

namespace advkit {

enum class Norm : int { none = 0, l2sq = 1, l2 = 2, l1 = 3 };
enum class Order : int { largest = 0, sum = 1, euclidean = 2 };
enum class Loss : int { cross_entropy = 0, margin = 1, smooth_margin = 2 };

// A box: one bound per element (element = 1) or one per row (element = 0); one row for all (row = 0) or one per row.
template <class T>
struct Box {
  const T* lower;
  const T* upper;
  int64_t lower_row, upper_row;
  int lower_element, upper_element;
};

template <class T>
struct PenaltyParams {
  int64_t rows, n;
  const T *x, *x0, *g_loss;  // (B, n)
  int64_t x_row, x0_row, g_loss_row;
  const T* c;  // (B,)
  Box<T> box;
  Norm norm;
  T* value;     // (B,)
  T* gradient;  // (B, n) contiguous
  bool* free;   // (B, n) contiguous
};

template <class T>
struct ClassLossParams {
  int64_t rows, classes;
  const T* logits;  // (B, K)
  int64_t logits_row;
  const int64_t* labels;  // (B,)
  Loss kind;
  bool targeted;
  double kappa, sharpness;
  T* loss;     // (B,)
  T* dlogits;  // (B, K) contiguous
};

template <class T>
struct MarginParams {
  int64_t rows, classes;
  const T* logits;  // (B, K)
  int64_t logits_row;
  const int64_t* labels;     // (B,)
  const int64_t* rivals;     // (B,); negative: the largest other logit
  const double* sharpness;   // (B,) or null: of the smoothed largest; 0: not smoothed, negative: in units of 1 / |difference|
  bool targeted;
  double kappa;
  T *constraint, *dlogits;  // (B,), (B, K) contiguous; null: only the rest is asked for, and no rivals are read
  T* margin;                 // (B,)
  bool *fooled, *surely;     // (B,)
};

template <class T>
struct RowNormParams {
  int64_t rows, n;
  const T* values;  // (B, n)
  int64_t values_row;
  Order order;
  double* norm;  // (B,)
};

// Pairs in 16 bits, as they lie in memory.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// H is the type that pairs are stored in, here and in the solver's state: T, or one of 16 bits where T is float.
template <class T, class H = T>
struct TwoLoopParams {
  int64_t rows, n, m;
  const T* g;  // (B, n)
  int64_t g_row;
  const H *S, *Y;  // (B, m, n)
  int64_t S_row, S_pair, Y_row, Y_pair;
  const int64_t *head, *count;  // (B,)
  const bool* free;             // (B, n)
  int64_t free_row;
  T* direction;  // (B, n) contiguous
};

// The state of the batched solver; advkit/ops/lbfgs_step/state.py allocates it and names the columns.
namespace column {
enum Scalar : int {
  f,                  // objective at x
  step,               // of the trial along the segment, or 4^k along the arc
  projected_gradient, // |P(x - g) - x|_inf at x
  f_window,           // f when the stagnation window opened
  f_best,             // of the best point of an expansion ...
  sy_best,            // ... and what accepting it needs
  ss_best,
  yy_best,
  pg_best,
  c,                  // weight of the penalty
  norm,               // |trial - x0| of the last evaluation
  mu,                 // multiplier and ...
  rho,                // ... penalty parameter of the constraint loss <= 0; 0: the loss is part of the objective
  first_step,         // factor of -g where there are no pairs; 0: by the rule
  scalars
};
enum Counter : int { status, phase, count, head, skips, trials, evaluations, iterations, counters };
enum Vector : int { x, g, trial_g, direction, best, best_g, vectors };
}  // namespace column

enum class Phase : int { start = 0, search = 1, expand = 2 };
enum class Status : int { running = 0, gradient = 1, relative_f = 2, stagnation = 3, evaluations = 4, non_finite = 5 };

template <class T, class H = T>
struct StepParams {
  int64_t rows, n, m;
  int64_t slots;         // in the state
  const int64_t* slot;   // (rows,) which slot each row advances; all different
  const T* loss;         // (rows,)
  const T* g_loss;       // (rows, n)
  int64_t g_loss_row;
  T* trial;              // (slots, n) the point that was evaluated; overwritten by the next one
  int64_t trial_row;
  T* vectors;            // (slots, column::vectors, ld)
  H* history;            // (slots, m, 2, ld): s and y of a pair side by side
  int64_t ld;
  double* scalars;       // (slots, column::scalars)
  int32_t* counters;     // (slots, column::counters)
  const T* x0;           // (slots, n), unused for Norm::none
  int64_t x0_row;
  Box<T> box;
  Norm norm;
  double gradient_tolerance, relative_tolerance, stagnation_tolerance;
  int32_t stagnation_window, max_evaluations;
};

// When a leg of an attack ends and how the next begins; the constants of advkit/attack/legs.py and radius.py.
struct LegRules {
  double slack, prune, progress;
  int64_t prune_age, progress_age;
  double bolder;
  int64_t boldest;
  double noise_at_best, noise_at_original, at_face, least_gradient, most_growth;
};

// A round of b legs, each in a slot of the solver, of B images; the names are those of advkit/attack/legs.py.
template <class T, class H = T>
struct LegParams {
  StepParams<T, H> step;  // its loss is written here
  // Of the rows.
  const int64_t* index;    // (b,) which images
  const T *x, *constraint; // (b, n) the points that were evaluated, (b,) the constraint there
  int64_t x_row;
  const bool* surely;  // (b,)
  bool* finished;      // (b,)
  T* loss;             // (b,)
  double *length, *c;  // (b,) distances of the points, of those that are kept as the result has them; weights of the norm
  // Of the images.
  int64_t images;
  const T *x0, *starts;  // (B, n) the originals; starting points of the user's, or null
  int64_t x0_row, starts_row;
  Box<T> box;
  Order order;                                 // of the distance
  const double *slack, *gap, *stop_distance;   // (B,); the last or null
  int64_t *leg, *age, *rival, *forwards, *backwards;                      // (B,)
  double *sharpness, *nearest, *mark, *distance, *c_best, *radius;        // (B,); the last for `largest` only, else null
  T* best;                                     // (B, n) contiguous
  const int64_t *ranked, *key;                 // (B, ranks) classes by their logits; (B,)
  int64_t ranks;
  const T* noise;                              // (n + windows - 1), windows being 2^16
  const double* table;                         // (legs, 5), rows of `Leg`, the repeated ones last
  int64_t legs, repeated;
  int64_t passes;                              // that an image may have had before its last evaluation
  LegRules rules;
};

}  // namespace advkit
