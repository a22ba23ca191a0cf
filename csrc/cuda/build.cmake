# The CUDA kernels, in a module of their own: advkit._cuda. Their host code is compiled as the rest.
# AUTO leaves them out where there is no GPU to run them: they take minutes to compile.
if(ADVKIT_CUDA STREQUAL AUTO AND NOT EXISTS /dev/nvidiactl AND NOT EXISTS /dev/dxg)
  message(STATUS "No NVIDIA GPU: built without CUDA kernels; ADVKIT_CUDA=ON builds them all the same")
  return()
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(ADVKIT_CUDA STREQUAL AUTO)
    message(STATUS "No nvcc: built without CUDA kernels")
    return()
  endif()
  message(FATAL_ERROR "ADVKIT_CUDA=ON needs nvcc, of CUDA 12.8 or newer. Put it on PATH or name it in the environment variable "
                      "CUDACXX; or set ADVKIT_CUDA=OFF.")
endif()

# Ampere, Hopper and both Blackwells; PTX of the last for what comes after.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 120)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

pybind11_add_module(_cuda MODULE csrc/bindings/cuda_module.cpp csrc/cuda/launch.cpp)
target_compile_features(_cuda PRIVATE cxx_std_17)
target_include_directories(_cuda PRIVATE csrc/include)
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
target_compile_options(_cuda PRIVATE ${advkit_warnings})

# One source of kernels for one set of types: their name, the type of values, that of stored pairs, and how many values a
# thread can keep in registers (csrc/cuda/plan.hpp knows, too).
function(advkit_cuda_kernels source types value pair most_values)
  set(target advkit_cuda_${source}_${types})
  add_library(${target} OBJECT csrc/cuda/${source}.cu)
  target_compile_features(${target} PRIVATE cuda_std_17)
  target_include_directories(${target} PRIVATE csrc/include)
  target_compile_definitions(${target} PRIVATE
    ADVKIT_TYPES=${types} ADVKIT_VALUE=${value} ADVKIT_PAIR=${pair} ADVKIT_MOST_VALUES=${most_values})
  target_compile_options(${target} PRIVATE -Xcompiler=-Wall,-Wextra $<$<BOOL:${ADVKIT_WERROR}>:-Werror=all-warnings>)
  set_target_properties(${target} PROPERTIES
    CUDA_RUNTIME_LIBRARY Static POSITION_INDEPENDENT_CODE ON CUDA_VISIBILITY_PRESET hidden)
  target_link_libraries(_cuda PRIVATE ${target})
endfunction()

set(advkit_f32 float float 8)
set(advkit_f64 double double 4)
set(advkit_f32_f16 float __half 8)
set(advkit_f32_bf16 float __nv_bfloat16 8)
foreach(types f32 f64 f32_f16 f32_bf16)
  foreach(source lbfgs_step lbfgs_step_split two_loop)
    advkit_cuda_kernels(${source} ${types} ${advkit_${types}})
  endforeach()
endforeach()
foreach(types f32 f64)
  advkit_cuda_kernels(penalty ${types} ${advkit_${types}})
  advkit_cuda_kernels(class_loss ${types} ${advkit_${types}})
endforeach()
advkit_cuda_kernels(class_loss f16 __half __half 8)
advkit_cuda_kernels(class_loss bf16 __nv_bfloat16 __nv_bfloat16 8)

install(TARGETS _cuda LIBRARY DESTINATION advkit)
