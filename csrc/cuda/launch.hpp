// Runs a plan on a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "plan.hpp"

namespace advkit {

// The kernels by name. Each source of kernels (*.cu) enters its own when the module is loaded.
std::unordered_map<std::string, const void*>& kernel_table();

// Launches every kernel with `call`, its one argument, on a stream of a device, and waits for nothing. Throws
// std::runtime_error with the kernel's name and CUDA's message.
void run(const std::vector<Launch>& launches, const void* call, int device, std::uintptr_t stream);

// Shared memory that a block of a device may have, in bytes.
int64_t shared_memory(int device);

}  // namespace advkit
