// One item of the backward loop: the transpose of the derivative of the forward loop. `recurrence` and `tangents`
// compute the same in Python.
//
// z is the name of the cotangents of the gate sums. A step multiplies the z of the previous step by W_hh, which gives
// the cotangent of h between the two steps. Then it computes its own z, pointwise. The gradients of the weights and of
// x need no loop. They are products, which run after each block of steps. z is never stored for all steps.
#pragma once

#include "gates.h"
#include "layout.h"
#include "tile.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

// Pack w [depth, columns] as panels [depth][2 * lanes], with zeros after the last column.
template <typename T>
void pack_panel(const T* w, int64_t depth, int64_t columns, int64_t panel, T* packed) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t first = panel * 2 * lanes, left = columns - first;
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t v = 0; v < 2 * lanes; v += lanes)
      store(packed + k * 2 * lanes + v, left > v ? load(w + k * columns + first + v, left - v) : Vector<T>{});
}

template <typename T>
class Backward {
 public:
  Backward(const BackwardCall<T>& call, int64_t item)
      : call(call), layout(call.layout), sizes(layout.sizes), item(item), panel(item / layout.groups),
        rows(part(sizes.batch, layout.groups, item % layout.groups)) {}

  // Phase 0 packs the weights. Then each block has one phase per step and one phase for its products. The very last
  // phase completes the cotangent of the initial state.
  void run(int64_t phase) const {
    if (phase == 0) return prepare();
    const int64_t block = (phase - 1) / (layout.block_steps + 1);
    if (phase - 1 == sizes.steps + layout.blocks) return finish();
    const int64_t order = phase - 1 - block;
    if (order == end_of(block)) return multiply_block(block);
    if (order > 0) multiply_z(order);
    const int64_t first = block_row(order, 0);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      for (int64_t unit = first_unit(); unit < end_unit(); unit += lanes) {
        if (order > 0) leave_step(order - 1, row, unit);
        pull_step(order, first + row, row, unit);
      }
      keep_factors(order, first + row, row);
    }
  }

 private:
  static constexpr int64_t lanes = kLanes<T>, width = 2 * lanes;
  static constexpr int64_t x_rows = 64;  // rows per piece of the gradient of x
  const BackwardCall<T>& call;
  const BackwardLayout& layout;
  const Sizes& sizes;
  const int64_t item, panel;
  const Range rows;

  T* at(int64_t place) const { return call.scratch + place; }
  int64_t first_unit() const { return panel * width; }
  int64_t end_unit() const { return first_unit() + width < sizes.hidden ? first_unit() + width : sizes.hidden; }
  int64_t end_of(int64_t block) const {
    const int64_t end = (block + 1) * layout.block_steps;
    return end < sizes.steps ? end : sizes.steps;
  }
  int64_t time(int64_t order) const { return time_of(order, sizes.steps, !call.reverse); }

  // A row of a block. The rows are ordered by step, and then by row of the batch.
  int64_t block_row(int64_t order, int64_t row) const { return order % layout.block_steps * sizes.batch + row; }
  T* z_of(int64_t order, int64_t row) const { return at(layout.z) + block_row(order, row) * layout.z_row; }
  // The left factors of the gradients of W_ih and W_hh, as panels.
  T* left(int64_t place, int64_t of_panel, int64_t row) const {
    return at(place) + (of_panel * layout.block_steps * sizes.batch + row) * width;
  }
  T* h_of(int64_t row) const { return at(layout.h) + (panel * sizes.batch + row) * width; }
  T* c_of(int64_t row) const { return at(layout.c) + (panel * sizes.batch + row) * width; }

  void prepare() const {
    const int64_t depth = 4 * sizes.hidden;
    if (rows.begin == 0) pack_panel(call.w_hh, depth, sizes.hidden, panel, at(layout.w_hh) + panel * width * depth);
    for (int64_t n = item; n < layout.x_panels && call.ct_x; n += layout.items)
      pack_panel(call.w_ih, depth, sizes.inputs, n, at(layout.w_ih) + n * width * depth);
    clear(call.ct_w_ih, depth * sizes.inputs);
    clear(call.ct_w_hh, depth * sizes.hidden);
    clear(call.ct_bias, depth);
    clear(at(layout.bias_rest), depth);
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t v = 0; v < width; v += lanes) {
        const int64_t unit = first_unit() + v, units = sizes.hidden - unit, from = row * sizes.hidden + unit;
        store(h_of(row) + v, units > 0 ? load(call.ct_last_h + from, units) : Vector<T>{});
        store(c_of(row) + v, units > 0 ? load(call.ct_last_c + from, units) : Vector<T>{});
        if (call.ct_origin_h && units > 0) {
          store(call.ct_origin_h + from, Vector<T>{}, units);
          store(call.ct_origin_c + from, Vector<T>{}, units);
        }
      }
  }

  void clear(T* sums, int64_t count) const {  // only this item's part of the sums
    if (!sums) return;
    const Range own = part(count, layout.items, item);
    for (int64_t n = own.begin; n < own.end; ++n) sums[n] = 0;
  }

  void multiply_z(int64_t order) const {
    const int64_t count = rows.end - rows.begin, depth = 4 * sizes.hidden;
    // With few rows the sum is split into quarters or halves, each of which is a panel: see `multiply`.
    const int64_t parts = count == 1 ? 4 : count <= 3 ? 2 : 1;
    const int64_t part_depth = depth / parts;
    const Factors<T> by = {z_of(order - 1, rows.begin), layout.z_row, 1, at(layout.w_hh) + panel * width * depth, width,
                           part_depth, part_depth * width, part_depth};
    T* to = h_of(rows.begin);
    if (parts == 4) add_product<T, 1, 4>(by, count, to, width, 0, true);
    else if (parts == 2) add_product<T, 3, 2>(by, count, to, width, 0, true);
    else add_product<T, kRows, 1>(by, count, to, width, 0, false);
  }

  // Apply a reset or a cut to the cotangent of the state before a step.
  void leave_step(int64_t order, int64_t row, int64_t unit) const {
    const int64_t flag = time(order) * sizes.batch + row, v = unit % width, units = sizes.hidden - unit;
    const bool reset = call.reset && call.reset[flag];
    if (!reset && !(call.cut && call.cut[flag])) return;
    if (reset) {
      const int64_t to = row * sizes.hidden + unit;
      store(call.ct_origin_h + to, load(call.ct_origin_h + to, units) + load(h_of(row) + v), units);
      store(call.ct_origin_c + to, load(call.ct_origin_c + to, units) + load(c_of(row) + v), units);
    }
    store(h_of(row) + v, Vector<T>{});
    store(c_of(row) + v, Vector<T>{});
  }

  // Compute z of a step and the cotangents of the state before it. `to` is the row of the block.
  void pull_step(int64_t order, int64_t to, int64_t row, int64_t unit) const {
    const int64_t t = time(order), v = unit % width, units = sizes.hidden - unit, step = t * sizes.batch + row;
    const T* gates = call.gates + step * 4 * sizes.hidden + unit;
    T *z = at(layout.z) + to * layout.z_row + unit, *h = h_of(row) + v, *c = c_of(row) + v;
    Vector<T> ct_h = load(h), ct_c = load(c);
    const int64_t place = t * call.h_strides.step + row * call.h_strides.row + unit;
    if (call.ct_h) ct_h += load(call.ct_h + place, units);
    if (call.ct_c) ct_c += load(call.ct_c + step * sizes.hidden + unit, units);
    const bool valid = !call.valid || call.valid[step];
    Pulled<T> pulled = {};
    if (valid) {
      const Gates<T> values = {load(gates, units), load(gates + sizes.hidden, units),
                               load(gates + 2 * sizes.hidden, units), load(gates + 3 * sizes.hidden, units)};
      pulled = pull<T>(values, load(call.c_before + place, units), ct_h, ct_c);
    }
    store(z, pulled.z.i, units);
    store(z + sizes.hidden, pulled.z.f, units);
    store(z + 2 * sizes.hidden, pulled.z.g, units);
    store(z + 3 * sizes.hidden, pulled.z.o, units);
    store(h, valid ? Vector<T>{} : ct_h);
    store(c, valid ? pulled.c_before : ct_c);
  }

  const T* h_before(int64_t t, int64_t row) const {  // the h that a step of the forward loop starts from
    if (call.reset && call.reset[t * sizes.batch + row]) return call.origin_h + row * sizes.hidden;
    const int64_t before = call.reverse ? t + 1 : t - 1;
    if (before < 0 || before == sizes.steps) return call.first_h + row * sizes.hidden;
    return call.h + before * call.h_strides.step + row * call.h_strides.row;
  }

  // Copy the left factors of the weights' gradients into the block: this item's panel of h, and its share of the panels
  // of x.
  void keep_factors(int64_t order, int64_t to, int64_t row) const {
    const int64_t t = time(order);
    if (call.ct_w_hh) keep_panel(h_before(t, row), sizes.hidden, panel, left(layout.h_before, panel, to));
    const T* x = call.x + t * call.x_strides.step + row * call.x_strides.row;
    for (int64_t n = panel; n < layout.x_panels && call.ct_w_ih; n += layout.panels)
      keep_panel(x, sizes.inputs, n, left(layout.x, n, to));
  }

  static void keep_panel(const T* from, int64_t columns, int64_t n, T* to) {
    for (int64_t v = 0; v < width; v += lanes) {
      const int64_t column = n * width + v;
      store(to + v, column < columns ? load(from + column, columns - column) : Vector<T>{});
    }
  }

  // Compute this item's share of the products of a block. The products are divided into pieces, which the items take in
  // turn.
  void multiply_block(int64_t block) const {
    const int64_t steps = end_of(block) - block * layout.block_steps, count = steps * sizes.batch;
    int64_t piece = 0;
    const auto own = [&] { return piece++ % layout.items == item; };
    for (int64_t n = 0; n < layout.x_panels && call.ct_x; ++n)
      for (int64_t row = 0; row < count; row += x_rows)
        if (own()) multiply_x(block, n, row, count - row < x_rows ? count - row : x_rows);
    for (int64_t gate = 0; gate < 4; ++gate) {
      for (int64_t n = 0; n < layout.x_panels && call.ct_w_ih; ++n)
        if (own()) add_gradient(gate, left(layout.x, n, 0), count, call.ct_w_ih, sizes.inputs, n);
      for (int64_t n = 0; n < layout.panels && call.ct_w_hh; ++n)
        if (own()) add_gradient(gate, left(layout.h_before, n, 0), count, call.ct_w_hh, sizes.hidden, n);
      if (call.ct_bias && own()) add_bias(gate, count);
    }
  }

  // Compute the gradient of x for some rows of a block and one panel of columns: z times W_ih.
  void multiply_x(int64_t block, int64_t n, int64_t first, int64_t count) const {
    const int64_t depth = 4 * sizes.hidden;
    T sums[x_rows * width] = {};
    add_product<T, kRows, 1>(
        {at(layout.z) + first * layout.z_row, layout.z_row, 1, at(layout.w_ih) + n * width * depth, width, depth}, count,
        sums, width, 0, false);
    for (int64_t row = 0; row < count; ++row) {
      const int64_t order = block * layout.block_steps + (first + row) / sizes.batch, of_batch = (first + row) % sizes.batch;
      T* to = call.ct_x + time(order) * call.x_strides.step + of_batch * call.x_strides.row;
      for (int64_t column = n * width; column < (n + 1) * width && column < sizes.inputs; column += lanes)
        store(to + column, load(sums + row * width + column - n * width), sizes.inputs - column);
    }
  }

  // Add z^T times `factor` to a weight's gradient [4H, columns], in the rows of one gate and one panel of columns.
  void add_gradient(int64_t gate, const T* factor, int64_t count, T* gradient, int64_t columns, int64_t n) const {
    T* to = gradient + gate * sizes.hidden * columns + n * width;
    Factors<T> by = {at(layout.z) + gate * sizes.hidden, 1, layout.z_row, factor, width, count};
    if ((n + 1) * width <= columns) {
      add_product<T, kRows, 1>(by, sizes.hidden, to, columns, 0, false);
      return;
    }
    for (int64_t row = 0; row < sizes.hidden; row += kRows) {  // the last columns do not fill a panel
      const int64_t height = sizes.hidden - row < kRows ? sizes.hidden - row : kRows;
      T sums[kRows * width] = {};
      add_product<T, kRows, 1>(by, height, sums, width, 0, false);
      for (int64_t r = 0; r < height; ++r)
        for (int64_t v = 0; v < width && n * width + v < columns; v += lanes) {
          T* place = to + (row + r) * columns + v;
          const int64_t left = columns - n * width - v;
          store(place, load(place, left) + load(sums + r * width + v), left);
        }
      by.rows += kRows;
    }
  }

  void add_bias(int64_t gate, int64_t count) const {
    constexpr int64_t few = 16;  // rows that are summed first, so that the rounding stays small
    for (int64_t unit = 0; unit < sizes.hidden; unit += lanes) {
      const int64_t units = sizes.hidden - unit, place = gate * sizes.hidden + unit;
      Vector<T> sum = {};
      for (int64_t first = 0; first < count; first += few) {
        Vector<T> of_few = {};
        for (int64_t row = first; row < count && row < first + few; ++row)
          of_few += load(at(layout.z) + row * layout.z_row + place, units);
        sum += of_few;
      }
      // A long sequence has so many blocks that a plain sum of them would lose digits. So the rounding error of each
      // addition is kept and subtracted in the next one.
      const Vector<T> before = load(call.ct_bias + place, units);
      const Vector<T> part = sum - load(at(layout.bias_rest) + place, units);
      const Vector<T> after = before + part;
      store(at(layout.bias_rest) + place, (after - before) - part, units);
      store(call.ct_bias + place, after, units);
    }
  }

  void finish() const {
    multiply_z(sizes.steps);
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t unit = first_unit(); unit < end_unit(); unit += lanes) {
        leave_step(sizes.steps - 1, row, unit);
        const int64_t v = unit % width, units = sizes.hidden - unit, to = row * sizes.hidden + unit;
        store(call.ct_first_h + to, load(h_of(row) + v), units);
        store(call.ct_first_c + to, load(c_of(row) + v), units);
      }
  }
};

}  // namespace jax_lstm::JAX_LSTM_WIDTH
