// The kernels by width of vectors, and the choice for the processor that runs them.
#pragma once

#include "layout.h"

namespace jax_lstm {

template <typename T>
struct Items {
  void (*forward)(const ForwardCall<T>&, int64_t phase, int64_t item);
  void (*backward)(const BackwardCall<T>&, int64_t phase, int64_t item);
};

struct Width {
  int64_t bytes;
  Items<float> of_float;
  Items<double> of_double;
};

template <typename T>
const Items<T>& items_for(const Width& width) {
  if constexpr (sizeof(T) == sizeof(float)) return width.of_float;
  else return width.of_double;
}

namespace baseline {
extern const Width kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Width kernels;
}
namespace avx512 {
extern const Width kernels;
}
#endif

// The kernels for the processor that runs this code. The environment can limit the bytes of a vector.
const Width& chosen_width();

}  // namespace jax_lstm
