// Vectors of one width, as types of the compiler. There is one width per build of this file:
//   JAX_LSTM_BYTES  bytes of a vector: 16, 32 or 64
//   JAX_LSTM_WIDTH  the namespace of all code that depends on the width
//
// Code under this namespace is compiled several times, for processors of different age, into one library. It must not
// call functions of the C++ library that are not always inlined. The linker would keep only one copy of each function,
// perhaps the copy for the newest processor.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace jax_lstm::JAX_LSTM_WIDTH {

template <typename T>
struct VectorOf {
  static constexpr int lanes = JAX_LSTM_BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(JAX_LSTM_BYTES)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
using Integers = Vector<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>;  // as many integers, of the same size
template <typename T>
constexpr int kLanes = VectorOf<T>::lanes;

template <typename T>
inline Vector<T> load(const T* from) {  // from any address
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename T>
inline void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof v);
}

template <typename T>
inline Vector<T> fill(T value) {
  return value - Vector<T>{};  // not `+`, which would turn -0 into 0
}

// The same for the last units of a row, which may be fewer than a vector holds.
template <typename T>
inline Vector<T> load(const T* from, int64_t count) {
  if (count >= kLanes<T>) return load(from);
  T values[kLanes<T>] = {};
  for (int64_t n = 0; n < count; ++n) values[n] = from[n];
  return load(values);
}

template <typename T>
inline void store(T* to, Vector<T> v, int64_t count) {
  if (count >= kLanes<T>) return store(to, v);
  T values[kLanes<T>];
  store(values, v);
  for (int64_t n = 0; n < count; ++n) to[n] = values[n];
}

}  // namespace jax_lstm::JAX_LSTM_WIDTH
