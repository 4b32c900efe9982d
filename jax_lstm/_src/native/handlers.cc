// The functions that XLA calls. They check the sizes of the arrays, and run the loops on XLA's own threads.
#include <cstdint>
#include <string>
#include <utility>

#include "crew.h"
#include "layout.h"
#include "widths.h"
#include "xla/ffi/api/ffi.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ffi = xla::ffi;

namespace jax_lstm {
namespace {

// With fewer floating-point operations per step than this, a second thread costs more time than it saves.
constexpr int64_t kFewestOperations = 1 << 16;

// The arrays of a call, taken in order. The first wrong array becomes the error.
class Arrays {
 public:
  Arrays(ffi::RemainingArgs inputs, ffi::RemainingRets outputs) : inputs_(inputs), outputs_(outputs) {}

  template <typename T>
  T* input(const char* name, int64_t count) {
    auto buffer = inputs_.get<ffi::AnyBuffer>(inputs_taken_++);
    return buffer.has_value() ? take<T>(name, *buffer, count) : missing<T>(name);
  }

  template <typename T>
  T* output(const char* name, int64_t count) {
    auto buffer = outputs_.get<ffi::AnyBuffer>(outputs_taken_++);
    return buffer.has_value() ? take<T>(name, **buffer, count) : missing<T>(name);
  }

  // Null if the array is absent. The caller passes an empty array for it.
  template <typename T>
  T* optional_input(const char* name, int64_t count) {
    auto buffer = inputs_.get<ffi::AnyBuffer>(inputs_taken_);
    return input<T>(name, buffer.has_value() && buffer->element_count() == 0 ? 0 : count);
  }

  template <typename T>
  T* optional_output(const char* name, int64_t count) {
    auto buffer = outputs_.get<ffi::AnyBuffer>(outputs_taken_);
    return output<T>(name, buffer.has_value() && (*buffer)->element_count() == 0 ? 0 : count);
  }

  ffi::Error error() const {
    return error_.empty() ? ffi::Error::Success() : ffi::Error::InvalidArgument("jax_lstm's kernel: " + error_);
  }
  bool failed() const { return !error_.empty(); }

 private:
  template <typename T>
  T* take(const char* name, ffi::AnyBuffer buffer, int64_t count) {
    constexpr ffi::DataType type = std::is_same_v<T, bool> ? ffi::PRED : sizeof(T) == 4 ? ffi::F32 : ffi::F64;
    if (buffer.element_type() != type)
      fail(name, "a dtype that this kernel does not take");
    else if (int64_t(buffer.element_count()) != count)
      fail(name, std::to_string(buffer.element_count()) + " numbers and not " + std::to_string(count));
    return count == 0 ? nullptr : reinterpret_cast<T*>(buffer.untyped_data());
  }

  template <typename T>
  T* missing(const char* name) {
    fail(name, "no buffer");
    return nullptr;
  }

  void fail(const char* name, const std::string& what) {
    if (error_.empty()) error_ = std::string(name) + " has " + what;
  }

  ffi::RemainingArgs inputs_;
  ffi::RemainingRets outputs_;
  size_t inputs_taken_ = 0, outputs_taken_ = 0;
  std::string error_;
};

// Ask for large pages under a new array. With small pages, the system interrupts the first thread that writes to each
// page. This takes as long as the computation if a step has few numbers. The request has no effect on memory that is
// already in use.
template <typename T>
void ask_for_large_pages(T* array, int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = 2 << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(array) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(array + count) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

Strides strides_of(bool batch_major, const Sizes& sizes, int64_t width) {
  return batch_major ? Strides{width, sizes.steps * width} : Strides{sizes.batch * width, width};
}

template <typename Call, typename Item>
void run_phases(ffi::ThreadPool pool, const Call& call, int64_t phases, Item item) {
  const Sizes& sizes = call.layout.sizes;
  const int64_t operations = 8 * sizes.batch * sizes.hidden * sizes.hidden;
  const int64_t threads = operations < kFewestOperations ? 1 : pool.num_threads();
  const auto work = [&call, item](int64_t phase, int64_t n) { item(call, phase, n); };
  const auto schedule = [&pool](auto task) { pool.Schedule(std::move(task)); };
  run_together(phases, call.layout.items, threads, schedule, work);
}

template <typename T>
ffi::Error run_forward(ffi::ThreadPool pool, const Sizes& sizes, bool reverse, bool batch_major, Arrays arrays) {
  const int64_t state = sizes.batch * sizes.hidden, steps = sizes.steps * sizes.batch;
  ForwardCall<T> call = {ForwardLayout(sizes, chosen_width().bytes / sizeof(T)), reverse};
  call.x_strides = strides_of(batch_major, sizes, sizes.inputs);
  call.h_strides = strides_of(batch_major, sizes, sizes.hidden);
  call.x = arrays.input<T>("x", steps * sizes.inputs);
  call.w_ih = arrays.input<T>("w_ih", 4 * sizes.hidden * sizes.inputs);
  call.w_hh = arrays.input<T>("w_hh", 4 * sizes.hidden * sizes.hidden);
  call.bias = arrays.optional_input<T>("bias", 4 * sizes.hidden);
  call.first_h = arrays.input<T>("first_h", state);
  call.first_c = arrays.input<T>("first_c", state);
  call.valid = arrays.optional_input<bool>("valid", steps);
  call.reset = arrays.optional_input<bool>("reset", steps);
  call.origin_h = arrays.input<T>("origin_h", call.reset ? state : 0);
  call.origin_c = arrays.input<T>("origin_c", call.reset ? state : 0);
  call.last_h = arrays.output<T>("last_h", state);
  call.last_c = arrays.output<T>("last_c", state);
  call.h = arrays.output<T>("h", steps * sizes.hidden);
  call.c = arrays.optional_output<T>("c", steps * sizes.hidden);
  call.c_before = arrays.optional_output<T>("c_before", steps * sizes.hidden);
  call.gates = arrays.output<T>("gates", call.c_before ? 4 * steps * sizes.hidden : 0);
  call.scratch = arrays.output<T>("scratch", call.layout.scratch);
  if (arrays.failed()) return arrays.error();
  ask_for_large_pages(call.h, steps * sizes.hidden);
  if (call.gates) ask_for_large_pages(call.gates, 4 * steps * sizes.hidden);
  if (call.c_before) ask_for_large_pages(call.c_before, steps * sizes.hidden);
  run_phases(pool, call, sizes.steps + 1, items_for<T>(chosen_width()).forward);
  return ffi::Error::Success();
}

template <typename T>
ffi::Error run_backward(ffi::ThreadPool pool, const Sizes& sizes, bool reverse, bool batch_major, Arrays arrays) {
  const int64_t state = sizes.batch * sizes.hidden, steps = sizes.steps * sizes.batch;
  BackwardCall<T> call = {BackwardLayout(sizes, chosen_width().bytes / sizeof(T)), reverse};
  call.x_strides = strides_of(batch_major, sizes, sizes.inputs);
  call.h_strides = strides_of(batch_major, sizes, sizes.hidden);
  call.gates = arrays.input<T>("gates", 4 * steps * sizes.hidden);
  call.c_before = arrays.input<T>("c_before", steps * sizes.hidden);
  call.h = arrays.input<T>("h", steps * sizes.hidden);
  call.x = arrays.input<T>("x", steps * sizes.inputs);
  call.w_ih = arrays.input<T>("w_ih", 4 * sizes.hidden * sizes.inputs);
  call.w_hh = arrays.input<T>("w_hh", 4 * sizes.hidden * sizes.hidden);
  call.first_h = arrays.input<T>("first_h", state);
  call.valid = arrays.optional_input<bool>("valid", steps);
  call.reset = arrays.optional_input<bool>("reset", steps);
  call.cut = arrays.optional_input<bool>("cut", steps);
  call.origin_h = arrays.input<T>("origin_h", call.reset ? state : 0);
  call.ct_last_h = arrays.input<T>("ct_last_h", state);
  call.ct_last_c = arrays.input<T>("ct_last_c", state);
  call.ct_h = arrays.optional_input<T>("ct_h", steps * sizes.hidden);
  call.ct_c = arrays.optional_input<T>("ct_c", steps * sizes.hidden);
  call.ct_first_h = arrays.output<T>("ct_first_h", state);
  call.ct_first_c = arrays.output<T>("ct_first_c", state);
  call.ct_origin_h = arrays.output<T>("ct_origin_h", call.reset ? state : 0);
  call.ct_origin_c = arrays.output<T>("ct_origin_c", call.reset ? state : 0);
  call.ct_x = arrays.optional_output<T>("ct_x", steps * sizes.inputs);
  call.ct_w_ih = arrays.optional_output<T>("ct_w_ih", 4 * sizes.hidden * sizes.inputs);
  call.ct_w_hh = arrays.optional_output<T>("ct_w_hh", 4 * sizes.hidden * sizes.hidden);
  call.ct_bias = arrays.optional_output<T>("ct_bias", 4 * sizes.hidden);
  call.scratch = arrays.output<T>("scratch", call.layout.scratch);
  if (arrays.failed()) return arrays.error();
  if (call.ct_x) ask_for_large_pages(call.ct_x, steps * sizes.inputs);
  run_phases(pool, call, 1 + sizes.steps + call.layout.blocks + 1, items_for<T>(chosen_width()).backward);
  return ffi::Error::Success();
}

// Sizes are attributes, because an array's axes may be stored in another order than its shape says.
auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Attr<int64_t>("steps")
      .Attr<int64_t>("batch")
      .Attr<int64_t>("inputs")
      .Attr<int64_t>("hidden")
      .Attr<bool>("reverse")
      .Attr<bool>("batch_major")
      .RemainingArgs()
      .RemainingRets();
}

template <auto run>
ffi::Error handle(ffi::ThreadPool pool, int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, bool reverse,
                  bool batch_major, ffi::RemainingArgs inputs_, ffi::RemainingRets outputs) {
  if (steps < 1 || batch < 1 || inputs < 1 || hidden < 1)
    return ffi::Error::InvalidArgument("jax_lstm's kernel: all sizes must be at least 1");
  return run(pool, {steps, batch, inputs, hidden}, reverse, batch_major, {inputs_, outputs});
}

}  // namespace

#define JAX_LSTM_EXPORT extern "C" __attribute__((visibility("default")))

#define JAX_LSTM_HANDLER(name, function)                          \
  JAX_LSTM_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame* frame) { \
    static auto* handler = binding().To(function).release();      \
    return handler->Call(frame);                                  \
  }

JAX_LSTM_HANDLER(jax_lstm_forward_float32, handle<run_forward<float>>)
JAX_LSTM_HANDLER(jax_lstm_forward_float64, handle<run_forward<double>>)
JAX_LSTM_HANDLER(jax_lstm_backward_float32, handle<run_backward<float>>)
JAX_LSTM_HANDLER(jax_lstm_backward_float64, handle<run_backward<double>>)

// The size of the output `scratch`, in numbers of `bytes` bytes each.
JAX_LSTM_EXPORT int64_t jax_lstm_forward_scratch(int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, int64_t bytes) {
  return ForwardLayout({steps, batch, inputs, hidden}, chosen_width().bytes / bytes).scratch;
}

JAX_LSTM_EXPORT int64_t jax_lstm_backward_scratch(int64_t steps, int64_t batch, int64_t inputs, int64_t hidden, int64_t bytes) {
  return BackwardLayout({steps, batch, inputs, hidden}, chosen_width().bytes / bytes).scratch;
}

// This number changes when the arguments of the functions here change. So a library file of another release is refused.
JAX_LSTM_EXPORT int64_t jax_lstm_interface() { return 1; }

JAX_LSTM_EXPORT int64_t jax_lstm_vector_bytes() { return chosen_width().bytes; }

}  // namespace jax_lstm
