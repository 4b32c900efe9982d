// The pointwise part of the LSTM, on vectors: exp, the two activations, one step forward and one step backward.
// The equations are those of cell.py.
#pragma once

#include "vectors.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

// Constants of exp for a type. The series of exp(r) - 1 has `terms` terms: with |r| <= log(2) / 2, the first term that
// is left out is below a quarter of the spacing of numbers near r.
template <typename T>
struct Exp;

template <>
struct Exp<float> {
  static constexpr int terms = 7, mantissa = 23, bias = 127;
  static constexpr float lowest = -87.0f, highest = 88.0f, round = 12582912.0f;  // round is 1.5 * 2^23
  static constexpr float log2_high = 0.693145751953125f, log2_low = 1.42860677e-6f;
  static constexpr float saturated = 10.0f;  // tanh of it rounds to 1
};

template <>
struct Exp<double> {
  static constexpr int terms = 13, mantissa = 52, bias = 1023;
  static constexpr double lowest = -708.0, highest = 709.0, round = 6755399441055744.0;  // round is 1.5 * 2^52
  static constexpr double log2_high = 0.693147180369123816490, log2_low = 1.90821492927058770002e-10;
  static constexpr double saturated = 20.0;
};

template <typename T>
struct Exponential {
  Vector<T> power;  // a power of two
  Vector<T> rest;   // exp(x) is power * (1 + rest)
};

// x is 2^n exp(r) with |r| <= log(2) / 2. n is rounded by adding a number so large that its last digit is 1. n log(2)
// is subtracted in two parts, and the first part is exact. x lies between `lowest` and `highest`, or is NaN.
template <typename T>
inline Exponential<T> exponential(Vector<T> x) {
  using E = Exp<T>;
  const Vector<T> shifted = x * T(1.44269504088896340736) + E::round;
  const Vector<T> n = shifted - E::round;
  const Vector<T> r = (x - n * E::log2_high) - n * E::log2_low;
  T factor = 1;  // 1 / k!, from the last term to the first
  for (int k = 2; k <= E::terms; ++k) factor /= k;
  Vector<T> series = fill<T>(factor);
  for (int k = E::terms; k > 1; --k) {
    factor *= k;
    series = series * r + factor;
  }
  const Integers<T> bits = ((Integers<T>)shifted + E::bias) << E::mantissa;
  return {(Vector<T>)bits, series * r};
}

template <typename T>
inline Vector<T> sigmoid(Vector<T> x) {
  Vector<T> minus = x > -Exp<T>::lowest ? fill<T>(Exp<T>::lowest) : -x;  // NaN stays NaN
  minus = minus > Exp<T>::highest ? fill<T>(Exp<T>::highest) : minus;
  const Exponential<T> e = exponential<T>(minus);
  return T(1) / ((e.power + T(1)) + e.power * e.rest);
}

// (exp(2|x|) - 1) / (exp(2|x|) + 1). For small x, exp(2|x|) - 1 keeps its last digits. 2 sigmoid(2x) - 1 would lose
// them.
template <typename T>
inline Vector<T> tanh(Vector<T> x) {
  const Integers<T> sign = (Integers<T>)x & (Integers<T>)fill<T>(-T(0));
  Vector<T> size = (Vector<T>)((Integers<T>)x ^ sign);
  size = size > Exp<T>::saturated ? fill<T>(Exp<T>::saturated) : size;
  const Exponential<T> e = exponential<T>(size + size);
  const Vector<T> minus_one = e.power * e.rest + (e.power - T(1));
  const Vector<T> value = minus_one / (minus_one + T(2));
  return (Vector<T>)((Integers<T>)value ^ sign);
}

template <typename T>
struct Gates {
  Vector<T> i, f, g, o;
};

template <typename T>
inline Gates<T> activate(const Gates<T>& z) {
  return {sigmoid<T>(z.i), sigmoid<T>(z.f), tanh<T>(z.g), sigmoid<T>(z.o)};
}

template <typename T>
struct State {
  Vector<T> h, c;
};

template <typename T>
inline State<T> advance(const Gates<T>& gate, Vector<T> c_before) {
  const Vector<T> c = gate.f * c_before + gate.i * gate.g;
  return {gate.o * tanh<T>(c), c};
}

// Compute the cotangents of the gate sums and of c before the step, from the cotangents of h and c after it.
template <typename T>
struct Pulled {
  Gates<T> z;
  Vector<T> c_before;
};

template <typename T>
inline Pulled<T> pull(const Gates<T>& gate, Vector<T> c_before, Vector<T> ct_h, Vector<T> ct_c) {
  const Vector<T> tanh_c = tanh<T>(gate.f * c_before + gate.i * gate.g);
  const Vector<T> c = ct_c + ct_h * gate.o * (T(1) - tanh_c * tanh_c);
  return {{c * gate.g * gate.i * (T(1) - gate.i), c * c_before * gate.f * (T(1) - gate.f),
           c * gate.i * (T(1) - gate.g * gate.g), ct_h * tanh_c * gate.o * (T(1) - gate.o)},
          c * gate.f};
}

}  // namespace jax_lstm::JAX_LSTM_WIDTH
