// Threads: those that torch already has. A second pool would fight torch's spinning OpenMP workers for the cores between
// two evaluations of the network, so the kernels run in a team of torch's own runtime, found in the process at import.
#pragma once

#include <atomic>
#include <cstdint>

namespace advkit {

// Looks for an OpenMP runtime among the libraries that `library` (a loaded shared object) depends on.
bool use_openmp_of(const char* library);
bool has_openmp();

// Calls body(context) on up to `threads` threads at once. One thread without a runtime, and in a forked child, whose copy
// of the runtime has lost its workers.
void run_team(int threads, void (*body)(void*), void* context);

// work(item, then, worker) for every item, dealt out one by one: then is what this worker does next, item itself if nothing;
// worker < threads names the scratch space to use.
template <class Work>
void parallel_for(int64_t items, int threads, const Work& work) {
  if (threads <= 1 || items <= 1) {
    for (int64_t i = 0; i < items; ++i) work(i, i + 1 < items ? i + 1 : i, 0);
    return;
  }
  struct Context {
    const Work& work;
    int64_t items;
    std::atomic<int64_t> next{0};
    std::atomic<int> workers{0};
  } context{work, items};
  run_team(
      threads,
      [](void* p) {
        auto& c = *static_cast<Context*>(p);
        const int worker = c.workers.fetch_add(1);
        int64_t then;
        for (int64_t i = c.next.fetch_add(1); i < c.items; i = then) {
          then = c.next.fetch_add(1);
          c.work(i, then < c.items ? then : i, worker);
        }
      },
      &context);
}

}  // namespace advkit
