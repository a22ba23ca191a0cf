#include "parallel.hpp"

#include <dlfcn.h>
#include <pthread.h>

namespace advkit {
namespace {

// GNU's entry point, which LLVM's and Intel's runtimes offer too.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<Parallel> parallel{nullptr};
std::atomic<bool> forked{false};

}  // namespace

bool use_openmp_of(const char* library) {
  void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return false;
  // The handle is kept open: the runtime must not be unloaded under us.
  auto found = reinterpret_cast<Parallel>(dlsym(handle, "GOMP_parallel"));
  static const bool watched = pthread_atfork(nullptr, nullptr, [] { forked = true; }) == 0;
  if (found == nullptr || !watched) return false;
  parallel = found;
  return true;
}

bool has_openmp() { return parallel.load() != nullptr && !forked; }

void run_team(int threads, void (*body)(void*), void* context) {
  const Parallel start = parallel.load(std::memory_order_relaxed);
  if (threads > 1 && start != nullptr && !forked) {
    start(body, context, static_cast<unsigned>(threads), 0);
  } else {
    body(context);
  }
}

}  // namespace advkit
