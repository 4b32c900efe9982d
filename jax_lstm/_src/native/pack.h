// Packing: the rows of a weight that belong to one block of units, as panels of a packed matrix.
#pragma once

#include <utility>

#include "layout.h"
#include "vectors.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

// Interleave the numbers of two vectors: of their first halves if `half` is 0, of their second halves if it is 1.
template <typename T, int half, int... n>
inline Vector<T> zip(Vector<T> a, Vector<T> b, std::integer_sequence<int, n...>) {
  constexpr int lanes = kLanes<T>;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (n / 2 + half * lanes / 2 + n % 2 * lanes)...);
#else
  return __builtin_shuffle(a, b, Integers<T>{(n / 2 + half * lanes / 2 + n % 2 * lanes)...});
#endif
}

// Transpose a square of numbers. Each round interleaves row n with row n + lanes / 2. After log2(lanes) rounds each row
// is a column.
template <typename T, int rounds = kLanes<T>>
inline __attribute__((always_inline)) void transpose(Vector<T> (&rows)[kLanes<T>]) {
  constexpr int lanes = kLanes<T>;
  constexpr std::make_integer_sequence<int, lanes> all;
  Vector<T> zipped[lanes];
#pragma GCC unroll 8
  for (int n = 0; n < lanes / 2; ++n) {
    zipped[2 * n] = zip<T, 0>(rows[n], rows[n + lanes / 2], all);
    zipped[2 * n + 1] = zip<T, 1>(rows[n], rows[n + lanes / 2], all);
  }
#pragma GCC unroll 16
  for (int n = 0; n < lanes; ++n) rows[n] = zipped[n];
  if constexpr (rounds > 2) transpose<T, rounds / 2>(rows);
}

// Pack a range of the columns of w [4H, depth] for one block and two gates, `gate` and the next one. The result is a
// panel with a row of 2 * lanes numbers per column.
template <typename T>
void pack_panel_of_block(const T* w, int64_t hidden, int64_t depth, int64_t block, int64_t gate, Range of, T* packed) {
  constexpr int lanes = kLanes<T>;
  const int64_t left = hidden - block * lanes, units = left < lanes ? left : lanes;
  for (int v = 0; v < 2; ++v) {
    const T* rows = w + ((gate + v) * hidden + block * lanes) * depth;
    T* columns = packed + v * lanes;
    for (int64_t k = of.begin; k < of.end; k += lanes) {
      Vector<T> square[lanes];
      T* to = columns + (k - of.begin) * 2 * lanes;
      if (units == lanes && k + lanes <= of.end) {
#pragma GCC unroll 16
        for (int u = 0; u < lanes; ++u) square[u] = load(rows + u * depth + k);
        transpose<T>(square);
#pragma GCC unroll 16
        for (int n = 0; n < lanes; ++n) store(to + n * 2 * lanes, square[n]);
      } else {
        for (int u = 0; u < lanes; ++u) square[u] = u < units ? load(rows + u * depth + k, depth - k) : Vector<T>{};
        transpose<T>(square);
        for (int n = 0; n < lanes && k + n < of.end; ++n) store(to + n * 2 * lanes, square[n]);
      }
    }
  }
}

}  // namespace jax_lstm::JAX_LSTM_WIDTH
