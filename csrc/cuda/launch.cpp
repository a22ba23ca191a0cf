#include "launch.hpp"

#include <cuda_runtime.h>

#include <stdexcept>

namespace advkit {
namespace {

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // or the next call of someone else would find it
  throw std::runtime_error(what + ": " + cudaGetErrorString(error));
}

// Makes a device current, and the one before it again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device == before_) return;
    check(cudaSetDevice(device), "cudaSetDevice");
    moved_ = true;
  }
  ~OnDevice() {
    if (moved_) static_cast<void>(cudaSetDevice(before_));
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool moved_ = false;
};

constexpr unsigned shared_without_asking = 48 * 1024;

}  // namespace

std::unordered_map<std::string, const void*>& kernel_table() {
  static std::unordered_map<std::string, const void*> table;
  return table;
}

void run(const std::vector<Launch>& launches, const void* call, int device, std::uintptr_t stream) {
  if (launches.empty()) return;
  const OnDevice guard(device);
  void* arguments[] = {const_cast<void*>(call)};
  for (const Launch& l : launches) {
    const void* kernel = kernel_table().at(l.kernel);
    if (l.shared > shared_without_asking) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(l.shared)), l.kernel);
    }
    check(cudaLaunchKernel(
              kernel, dim3(l.rows, l.tiles), dim3(l.threads), arguments, l.shared, reinterpret_cast<cudaStream_t>(stream)),
          l.kernel);
  }
}

int64_t shared_memory(int device) {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "cudaDeviceGetAttribute");
  return bytes;
}

}  // namespace advkit
