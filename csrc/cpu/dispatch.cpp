#include <atomic>
#include <stdexcept>

#include "kernels.hpp"

namespace advkit {

#if defined(__x86_64__)
extern const Kernels kernels_v2, kernels_v3, kernels_v4;
#else
extern const Kernels kernels_generic;
#endif

namespace {

std::vector<const Kernels*> find_kernels() {
#if defined(__x86_64__)
  std::vector<const Kernels*> found;
  __builtin_cpu_init();
  const auto has = [](auto... flags) { return (... && (flags != 0)); };
  const bool v2 = has(__builtin_cpu_supports("sse4.2"), __builtin_cpu_supports("ssse3"), __builtin_cpu_supports("popcnt"));
  const bool v3 = v2 && has(__builtin_cpu_supports("avx2"),
                            __builtin_cpu_supports("fma"),
                            __builtin_cpu_supports("bmi"),
                            __builtin_cpu_supports("bmi2"));
  const bool v4 = v3 && has(__builtin_cpu_supports("avx512f"),
                            __builtin_cpu_supports("avx512bw"),
                            __builtin_cpu_supports("avx512cd"),
                            __builtin_cpu_supports("avx512dq"),
                            __builtin_cpu_supports("avx512vl"));
  if (v2) found.push_back(&kernels_v2);
  if (v3) found.push_back(&kernels_v3);
  if (v4) found.push_back(&kernels_v4);
  return found;
#else
  return {&kernels_generic};
#endif
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> found = find_kernels();
  return found;
}

const Kernels& kernels() {
  const Kernels* k = chosen.load(std::memory_order_relaxed);
  if (k != nullptr) return *k;
  if (available_kernels().empty()) throw std::runtime_error("this processor is older than x86-64-v2");
  chosen = available_kernels().back();
  return *chosen.load();
}

void select_isa(const std::string& isa) {
  std::string names;
  for (const Kernels* k : available_kernels()) {
    if (isa == k->isa) {
      chosen = k;
      return;
    }
    names += names.empty() ? k->isa : std::string(", ") + k->isa;
  }
  throw std::invalid_argument("instruction set '" + isa + "' is not available here; there are: " + names);
}

}  // namespace advkit
