// The choice of the kernels for a processor.
#include "widths.h"

#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace jax_lstm {
namespace {

// Bytes of the widest vectors that the processor and the operating system support. The function asks the processor
// directly. GCC's builtin function gives a wrong answer in shared libraries that some builds of Clang make.
int64_t supported_bytes() {
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 16;
  const bool has_fma = c >> 12 & 1, saves_registers = c >> 27 & 1;
  if (!has_fma || !saves_registers || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 16;
  unsigned saved, unused;
  __asm__("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
  if (!(b >> 5 & 1) || (saved & 0x6) != 0x6) return 16;                         // AVX2
  const bool has_512 = (b >> 16 & 1) && (b >> 17 & 1) && (b >> 31 & 1);         // AVX-512 F, DQ and VL
  return has_512 && (saved & 0xe6) == 0xe6 ? 64 : 32;
#else
  return 16;
#endif
}

}  // namespace

const Width& chosen_width() {
  static const Width& chosen = []() -> const Width& {
    int64_t bytes = supported_bytes();
    if (const char* most = std::getenv("JAX_LSTM_VECTOR_BYTES"))
      if (std::atoll(most) < bytes) bytes = std::atoll(most);
#if defined(__x86_64__)
    if (bytes >= 64) return avx512::kernels;
    if (bytes >= 32) return avx2::kernels;
#endif
    return baseline::kernels;
  }();
  return chosen;
}

}  // namespace jax_lstm
