// Runs the kernels without XLA, under the sanitizers of a compiler. tests/jax_lstm/test_sanitizers.py builds and runs
// it.
//
// Each call has random sizes and options. Every array is a separate allocation of exactly its size, so a sanitizer sees
// an access outside of it. (Scratch memory is one array, so a sanitizer sees no wrong access within it.) The same call
// runs on 1, 2 and 4 threads, and must give the same bits.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "crew.h"
#include "layout.h"
#include "widths.h"

namespace jax_lstm {
namespace {

using Random = std::mt19937_64;

int64_t between(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

template <typename T>
class Array {
 public:
  explicit Array(int64_t count = 0) : count_(count), values_(count ? new T[count] : nullptr) {}

  static Array drawn(Random& random, int64_t count) {
    Array array(count);
    for (int64_t n = 0; n < count; ++n)
      array.values_[n] = std::is_same_v<T, bool> ? T(between(random, 0, 2) == 0) : T(between(random, -999, 999) * 1e-3);
    return array;
  }

  T* get() const { return values_.get(); }
  void append_to(std::vector<char>& bytes) const {
    const char* begin = reinterpret_cast<const char*>(values_.get());
    bytes.insert(bytes.end(), begin, begin + count_ * sizeof(T));
  }

 private:
  int64_t count_;
  std::unique_ptr<T[]> values_;
};

template <typename Call, typename Item>
void run(int64_t threads, int64_t phases, const Call& call, Item item) {
  std::vector<std::thread> helpers;
  const auto schedule = [&](auto task) { helpers.emplace_back(task); };
  const auto work = [&](int64_t phase, int64_t n) { item(call, phase, n); };
  run_together(phases, call.layout.items, threads, schedule, work);
  for (std::thread& helper : helpers) helper.join();
}

template <typename T>
std::vector<char> results(uint64_t seed, int64_t threads) {
  Random random(seed);
  const auto some = [&](int64_t of) { return between(random, 1, of) == 1; };
  // Some sizes are so large that a batch has several groups of rows, and a sum has several parts.
  const Sizes sizes = {between(random, 1, 9), some(3) ? 1 : between(random, 2, some(4) ? 150 : 40),
                       between(random, 1, some(4) ? 150 : 70), between(random, 1, some(4) ? 150 : 90)};
  const int64_t rows = sizes.steps * sizes.batch, state = sizes.batch * sizes.hidden, wide = rows * sizes.hidden;
  const bool reverse = some(2), batch_major = some(2);
  const auto strides = [&](int64_t width) {
    return batch_major ? Strides{width, sizes.steps * width} : Strides{sizes.batch * width, width};
  };
  const auto draw = [&](int64_t count, bool present = true) { return Array<T>::drawn(random, present ? count : 0); };
  const auto flags = [&](bool present) { return Array<bool>::drawn(random, present ? rows : 0); };

  const auto x = draw(rows * sizes.inputs), w_ih = draw(4 * sizes.hidden * sizes.inputs),
             w_hh = draw(4 * sizes.hidden * sizes.hidden), bias = draw(4 * sizes.hidden, some(2));
  const auto first_h = draw(state), first_c = draw(state), ct_last_h = draw(state), ct_last_c = draw(state);
  const auto valid = flags(some(2)), cut = flags(some(2));
  const bool has_reset = some(2);
  const auto reset = flags(has_reset);
  const auto origin_h = draw(state, has_reset), origin_c = draw(state, has_reset);
  const auto ct_h = draw(wide, some(2)), ct_c = draw(wide, some(2));
  const bool keeps_c = some(2), wants_x = some(2), wants_w_ih = some(2), wants_w_hh = some(2), wants_bias = some(2);

  const Width& width = chosen_width();
  const ForwardLayout layout(sizes, width.bytes / sizeof(T));
  const Array<T> last_h(state), last_c(state), h(wide), c(keeps_c ? wide : 0), c_before(wide), gates(4 * wide),
      scratch(layout.scratch);
  const ForwardCall<T> forward = {
      layout,         reverse,       strides(sizes.inputs), strides(sizes.hidden), x.get(),        w_ih.get(),
      w_hh.get(),     bias.get(),    first_h.get(),         first_c.get(),         origin_h.get(), origin_c.get(),
      valid.get(),    reset.get(),   last_h.get(),          last_c.get(),          h.get(),        c.get(),
      c_before.get(), gates.get(),   scratch.get()};
  run(threads, sizes.steps + 1, forward, items_for<T>(width).forward);

  const BackwardLayout back(sizes, width.bytes / sizeof(T));
  const Array<T> ct_first_h(state), ct_first_c(state), ct_origin_h(has_reset ? state : 0),
      ct_origin_c(has_reset ? state : 0), ct_x(wants_x ? rows * sizes.inputs : 0),
      ct_w_ih(wants_w_ih ? 4 * sizes.hidden * sizes.inputs : 0),
      ct_w_hh(wants_w_hh ? 4 * sizes.hidden * sizes.hidden : 0), ct_bias(wants_bias ? 4 * sizes.hidden : 0),
      back_scratch(back.scratch);
  const BackwardCall<T> backward = {
      back,            reverse,         strides(sizes.inputs), strides(sizes.hidden), gates.get(),
      c_before.get(),  h.get(),         x.get(),               w_ih.get(),            w_hh.get(),
      first_h.get(),   origin_h.get(),  ct_last_h.get(),       ct_last_c.get(),       ct_h.get(),
      ct_c.get(),      valid.get(),     reset.get(),           cut.get(),             ct_first_h.get(),
      ct_first_c.get(), ct_origin_h.get(), ct_origin_c.get(),  ct_x.get(),            ct_w_ih.get(),
      ct_w_hh.get(),   ct_bias.get(),   back_scratch.get()};
  run(threads, 1 + sizes.steps + back.blocks + 1, backward, items_for<T>(width).backward);

  std::vector<char> bytes;
  for (const Array<T>* a : {&last_h, &last_c, &h, &c, &c_before, &gates, &ct_first_h, &ct_first_c, &ct_origin_h,
                            &ct_origin_c, &ct_x, &ct_w_ih, &ct_w_hh, &ct_bias})
    a->append_to(bytes);
  return bytes;
}

template <typename T>
bool same_on_all_threads(uint64_t seed) {
  const std::vector<char> one = results<T>(seed, 1);
  return results<T>(seed, 2) == one && results<T>(seed, 4) == one;
}

}  // namespace
}  // namespace jax_lstm

int main(int, char** arguments) {
  const uint64_t count = std::strtoull(arguments[1], nullptr, 10);
  for (uint64_t seed = 0; seed < count; ++seed)
    if (!jax_lstm::same_on_all_threads<float>(seed) || !jax_lstm::same_on_all_threads<double>(seed)) {
      std::printf("seed %llu: the bits depend on the number of threads\n", static_cast<unsigned long long>(seed));
      return 1;
    }
  std::printf("%llu calls, vectors of %d bytes\n", static_cast<unsigned long long>(count),
              int(jax_lstm::chosen_width().bytes));
}
