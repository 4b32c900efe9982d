// The kernels for one width of vectors. The build compiles this file once per width.
#include "backward.h"
#include "forward.h"
#include "widths.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

template <typename T>
void forward_item(const ForwardCall<T>& call, int64_t phase, int64_t item) {
  Forward<T>(call, item).run(phase);
}

template <typename T>
void backward_item(const BackwardCall<T>& call, int64_t phase, int64_t item) {
  Backward<T>(call, item).run(phase);
}

extern const Width kernels = {
    JAX_LSTM_BYTES,
    {forward_item<float>, backward_item<float>},
    {forward_item<double>, backward_item<double>},
};

}  // namespace jax_lstm::JAX_LSTM_WIDTH
