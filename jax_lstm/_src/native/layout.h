// How a call is divided into pieces of work, and the layout of its scratch memory. Here, only `lanes`, the count of
// numbers per vector, depends on the processor.
//
// The H units are divided into blocks of `lanes`. The four gates of a block are computed together. The pointwise part
// follows at once, while the sums are still in the nearest cache. A block has two panels [depth][2 * lanes] of a packed
// matrix: one for the gates i and f, one for g and o.
//
// The loop over time runs in phases. Any thread may do any item of a phase, and a phase starts when the previous one is
// complete. An item is a block of units for a group of rows of the batch. Therefore neither the result nor the order of
// its sums depends on the number of threads.
#pragma once

#include <cstdint>

namespace jax_lstm {

struct Sizes {
  int64_t steps, batch, inputs, hidden;  // all at least 1
};

struct Range {
  int64_t begin, end;
};

inline int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t within(int64_t value, int64_t low, int64_t high) { return value < low ? low : value > high ? high : value; }

// Part `n` of `parts` equal parts of `whole`.
inline Range part(int64_t whole, int64_t parts, int64_t n) { return {whole * n / parts, whole * (n + 1) / parts}; }

constexpr int64_t kGroupRows = 32;  // the most rows per group
// With fewer steps than kStepsToPack, each step and each group packs the weights for itself, part by part. The ratios
// below are the time with packing beforehand, divided by the time with packing in each step. They were measured in
// float32 on two cores. For 2 rows, D = 256, H = 1024: 1.9 with 1 step and 0.8 with 4 steps. For 64 such rows: 1.2 and
// 0.9. For 16 rows, D = H = 256: 1.9 and 1.3. Smaller groups of rows pack more often: with 32 rows per group, 64 rows
// take 1.1 times as long. To measure it again, change a constant, install, and run
// `python -m benchmarks --shape T,B,D,H --work forward --only 'jax_lstm backend=native'`.
constexpr int64_t kStepsToPack = 4;
constexpr int64_t kGroupRowsUnpacked = 128;
constexpr int64_t kSumNumbers = 64 * 1024;  // about the count of sums that are projected at once
// Rows (steps times batch) of one product of gradients. More rows do not fit into the cache, and fewer rows make small
// products. For a short sequence a block has about 1 / kFewestBlocks of all rows, so its memory stays small compared
// with the sequence.
constexpr int64_t kMostRows = 256, kFewestRows = 64, kFewestBlocks = 16;  // approximate

// Lengths and places are counted in numbers, not in bytes.
struct ForwardLayout {
  Sizes sizes;
  bool packed;        // the weights are packed before the first step
  int64_t blocks, blocks_of_item, groups, items;
  int64_t padded;     // H, rounded up to whole blocks
  int64_t sum_steps;  // steps whose inputs are projected at once
  int64_t h_row;      // from one row of h to the next
  // places in the scratch memory
  int64_t w_ih, w_hh, bias, sums, h, c, scratch;

  ForwardLayout(const Sizes& sizes, int64_t lanes) : sizes(sizes) {
    blocks = ceil_of(sizes.hidden, lanes);
    blocks_of_item = sizes.batch == 1 ? 2 : 1;  // see `multiply`: one row needs four panels
    packed = sizes.steps >= kStepsToPack;
    groups = ceil_of(sizes.batch, packed ? kGroupRows : kGroupRowsUnpacked);
    items = ceil_of(blocks, blocks_of_item) * groups;
    padded = blocks * lanes;
    const int64_t sums_of_step = 4 * padded * sizes.batch;
    sum_steps = within(kSumNumbers / sums_of_step, 1, sizes.steps);
    h_row = padded + 16;  // rows a power of two apart would compete for the same places in the cache
    w_ih = 0;
    w_hh = w_ih + (packed ? 4 * padded * sizes.inputs : 0);
    bias = w_hh + (packed ? 4 * padded * sizes.hidden : 0);
    sums = bias + 4 * padded;
    h = sums + sum_steps * sums_of_step;
    c = h + 2 * sizes.batch * h_row;
    scratch = c + sizes.batch * padded;
  }
};

struct BackwardLayout {
  Sizes sizes;
  int64_t panels, groups, items;
  int64_t padded;       // H, rounded up to whole panels
  int64_t block_steps;  // steps whose cotangents enter the products of gradients together
  int64_t blocks;       // blocks of steps
  int64_t x_panels;     // panels of D
  int64_t z_row;        // from one row of the cotangents of the gate sums to the next
  int64_t w_hh, w_ih, z, x, h_before, h, c, bias_rest, scratch;

  BackwardLayout(const Sizes& sizes, int64_t lanes) : sizes(sizes) {
    const int64_t width = 2 * lanes;
    panels = ceil_of(sizes.hidden, width);
    groups = ceil_of(sizes.batch, kGroupRows);
    items = panels * groups;
    padded = panels * width;
    const int64_t wanted = within(sizes.steps * sizes.batch / kFewestBlocks, kFewestRows, kMostRows);
    block_steps = within(wanted / sizes.batch, 2, sizes.steps);
    if (block_steps < 2) block_steps = 2;  // a step reads the cotangents of the step before
    blocks = ceil_of(sizes.steps, block_steps);
    x_panels = ceil_of(sizes.inputs, width);
    z_row = 4 * sizes.hidden + 16;
    const int64_t rows = block_steps * sizes.batch;
    w_hh = 0;
    w_ih = w_hh + 4 * sizes.hidden * padded;
    z = w_ih + 4 * sizes.hidden * x_panels * width;
    x = z + rows * z_row;
    h_before = x + rows * x_panels * width;
    h = h_before + rows * padded;
    c = h + sizes.batch * padded;
    bias_rest = c + sizes.batch * padded;
    scratch = bias_rest + 4 * sizes.hidden;
  }
};

// The steps in the order in which a loop reaches them.
inline int64_t time_of(int64_t order, int64_t steps, bool backwards) { return backwards ? steps - 1 - order : order; }

// The distance between two steps, and between two rows of the batch, in an array [T, B, width] or [B, T, width].
struct Strides {
  int64_t step, row;
};

// The arrays of a call. An absent array is null. Shapes: x [T, B, D]; w_ih [4H, D]; w_hh [4H, H]; bias [4H]; states
// [B, H]; valid, reset and cut [T, B]; h, c and c_before of the steps [T, B, H]; gates [T, B, 4H]. Only x, h and
// c_before have strides.
template <typename T>
struct ForwardCall {
  ForwardLayout layout;
  bool reverse;
  Strides x_strides, h_strides;
  const T *x, *w_ih, *w_hh, *bias, *first_h, *first_c, *origin_h, *origin_c;
  const bool *valid, *reset;
  T *last_h, *last_c, *h, *c, *c_before, *gates;
  T* scratch;
};

// A cotangent or gradient has the shape and the strides of its array. ct_x may share the memory of c_before: the
// products of a block write ct_x after the steps of the block have read c_before.
template <typename T>
struct BackwardCall {
  BackwardLayout layout;
  bool reverse;  // of the forward loop
  Strides x_strides, h_strides;
  const T *gates, *c_before, *h, *x, *w_ih, *w_hh, *first_h, *origin_h;
  const T *ct_last_h, *ct_last_c, *ct_h, *ct_c;
  const bool *valid, *reset, *cut;
  T *ct_first_h, *ct_first_c, *ct_origin_h, *ct_origin_c, *ct_x, *ct_w_ih, *ct_w_hh, *ct_bias;
  T* scratch;
};

}  // namespace jax_lstm
