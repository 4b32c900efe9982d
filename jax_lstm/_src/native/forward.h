// One item of the forward loop.
#pragma once

#include "gates.h"
#include "layout.h"
#include "pack.h"
#include "tile.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

// What an item works on: blocks of units, and rows of the batch.
struct Part {
  Range blocks, rows;
};

inline Part forward_part(const ForwardLayout& layout, int64_t item) {
  const int64_t first = item / layout.groups * layout.blocks_of_item;
  const int64_t end = first + layout.blocks_of_item;
  return {{first, end < layout.blocks ? end : layout.blocks},
          part(layout.sizes.batch, layout.groups, item % layout.groups)};
}

template <typename T>
class Forward {
 public:
  Forward(const ForwardCall<T>& call, int64_t item)
      : call(call), layout(call.layout), sizes(layout.sizes), part(forward_part(layout, item)) {}

  // Phase 0 packs the biases and, unless each step does it, the weights. Each later phase is a step.
  void run(int64_t phase) const {
    if (phase == 0) return prepare();
    const int64_t order = phase - 1;
    if (order % layout.sum_steps == 0) project(order);
    const int64_t step = time(order) - first_sum(order);
    multiply_h(order, step);
    for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
      for (int64_t row = part.rows.begin; row < part.rows.end; ++row) advance_row(order, step, block, row);
  }

 private:
  static constexpr int64_t lanes = kLanes<T>;
  const ForwardCall<T>& call;
  const ForwardLayout& layout;
  const Sizes& sizes;
  const Part part;

  T* at(int64_t place) const { return call.scratch + place; }
  T* h_of(int64_t order, int64_t row) const {  // the h that step `order` starts from
    return at(layout.h) + (order % 2 * sizes.batch + row) * layout.h_row;
  }
  T* c_of(int64_t row) const { return at(layout.c) + row * layout.padded; }

  // The steps that are projected together lie in the order of time, from `first_sum` on. A `step` is counted from there.
  int64_t first_sum(int64_t order) const {
    const int64_t begin = order / layout.sum_steps * layout.sum_steps;
    const int64_t end = begin + layout.sum_steps < sizes.steps ? begin + layout.sum_steps : sizes.steps;
    return call.reverse ? sizes.steps - end : begin;
  }
  int64_t time(int64_t order) const { return time_of(order, sizes.steps, call.reverse); }
  int64_t panel_of_sums() const { return layout.sum_steps * sizes.batch * 2 * lanes; }
  T* sums(int64_t panel, int64_t step, int64_t row) const {
    return at(layout.sums) + panel * panel_of_sums() + (step * sizes.batch + row) * 2 * lanes;
  }

  T* panel_of(int64_t place, int64_t depth, int64_t panel) const { return at(place) + panel * depth * 2 * lanes; }
  void pack(const T* w, int64_t depth, int64_t panel, Range columns, T* packed) const {
    pack_panel_of_block(w, sizes.hidden, depth, panel / 2, panel % 2 * 2, columns, packed);
  }

  void prepare() const {
    for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
      const int64_t unit = block * lanes, units = sizes.hidden - unit;
      for (int64_t panel = 2 * block; panel < 2 * block + 2 && part.rows.begin == 0; ++panel) {
        if (layout.packed) pack(call.w_ih, sizes.inputs, panel, {0, sizes.inputs}, panel_of(layout.w_ih, sizes.inputs, panel));
        if (layout.packed) pack(call.w_hh, sizes.hidden, panel, {0, sizes.hidden}, panel_of(layout.w_hh, sizes.hidden, panel));
        if (call.bias) pack(call.bias, 1, panel, {0, 1}, panel_of(layout.bias, 1, panel));
      }
      for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
        const bool reset = call.reset && call.reset[time(0) * sizes.batch + row];
        const int64_t from = row * sizes.hidden + unit;
        store(h_of(0, row) + unit, load((reset ? call.origin_h : call.first_h) + from, units));
        store(c_of(row) + unit, load((reset ? call.origin_c : call.first_c) + from, units));
      }
    }
  }

  // Compute the gate sums of the next steps without the recurrent product: the bias plus x times W_ih.
  void project(int64_t order) const {
    const int64_t begin = first_sum(order);
    const int64_t left = sizes.steps - order;
    const int64_t steps = left < layout.sum_steps ? left : layout.sum_steps;
    for (int64_t panel = 2 * part.blocks.begin; panel < 2 * part.blocks.end; ++panel) {
      Vector<T> bias[2] = {};
      if (call.bias)
        for (int v = 0; v < 2; ++v) bias[v] = load(at(layout.bias) + (2 * panel + v) * lanes);
      for (int64_t step = 0; step < steps; ++step)
        for (int64_t row = part.rows.begin; row < part.rows.end; ++row)
          for (int v = 0; v < 2; ++v) store(sums(panel, step, row) + v * lanes, bias[v]);
      const T* x = call.x + begin * call.x_strides.step + part.rows.begin * call.x_strides.row;
      const int64_t rows = part.rows.end - part.rows.begin;
      if (call.x_strides.step == rows * call.x_strides.row) {  // all rows of all steps are equally far apart
        project_rows(panel, x, call.x_strides.row, steps * rows, sums(panel, 0, part.rows.begin), 2 * lanes);
      } else if (rows > steps) {
        for (int64_t step = 0; step < steps; ++step)
          project_rows(panel, x + step * call.x_strides.step, call.x_strides.row, rows,
                       sums(panel, step, part.rows.begin), 2 * lanes);
      } else {
        for (int64_t row = 0; row < rows; ++row)
          project_rows(panel, x + row * call.x_strides.row, call.x_strides.step, steps,
                       sums(panel, 0, part.rows.begin + row), sizes.batch * 2 * lanes);
      }
    }
  }

  void project_rows(int64_t panel, const T* x, int64_t row_step, int64_t rows, T* to, int64_t to_step) const {
    if (!layout.packed) return multiply_unpacked(call.w_ih, sizes.inputs, panel, x, row_step, rows, to, to_step);
    const Factors<T> by = {x, row_step, 1, panel_of(layout.w_ih, sizes.inputs, panel), 2 * lanes, sizes.inputs};
    add_product<T, kRows, 1>(by, rows, to, to_step, 0, false);
  }

  // Pack a panel in parts, and multiply each part while it is in the nearest cache. The sums have the same bits as with
  // a panel that is packed as a whole.
  void multiply_unpacked(const T* w, int64_t depth, int64_t panel, const T* from, int64_t row_step, int64_t rows, T* to,
                         int64_t to_step) const {
    alignas(64) T packed[kDepth * 2 * lanes];
    const int64_t parts = parts_of_sum(depth);
    for (int64_t n = 0; n < parts; ++n) {
      const Range terms = jax_lstm::part(depth, parts, n);
      pack(w, depth, panel, terms, packed);
      add_product<T, kRows, 1>({from + terms.begin, row_step, 1, packed, 2 * lanes, terms.end - terms.begin}, rows, to,
                               to_step, 0, false);
    }
  }

  void multiply_h(int64_t order, int64_t step) const {
    const int64_t rows = part.rows.end - part.rows.begin, panel_step = 2 * lanes * sizes.hidden;
    if (!layout.packed) {
      for (int64_t panel = 2 * part.blocks.begin; panel < 2 * part.blocks.end; ++panel)
        multiply_unpacked(call.w_hh, sizes.hidden, panel, h_of(order, part.rows.begin), layout.h_row, rows,
                          sums(panel, step, part.rows.begin), 2 * lanes);
      return;
    }
    const int64_t together = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
    for (int64_t panel = 2 * part.blocks.begin; panel < 2 * part.blocks.end;) {
      const Factors<T> by = {h_of(order, part.rows.begin), layout.h_row, 1, panel_of(layout.w_hh, sizes.hidden, panel),
                             2 * lanes, sizes.hidden, panel_step};
      T* to = sums(panel, step, part.rows.begin);
      if (together == 4 && panel + 4 <= 2 * part.blocks.end) {
        add_product<T, 1, 4>(by, rows, to, 2 * lanes, panel_of_sums(), false);
        panel += 4;
      } else if (together > 1) {
        add_product<T, 3, 2>(by, rows, to, 2 * lanes, panel_of_sums(), false);
        panel += 2;
      } else {
        add_product<T, kRows, 1>(by, rows, to, 2 * lanes, 0, false);
        ++panel;
      }
    }
  }

  void advance_row(int64_t order, int64_t step, int64_t block, int64_t row) const {
    const int64_t t = time(order), unit = block * lanes, units = sizes.hidden - unit;
    const T *z_if = sums(2 * block, step, row), *z_go = sums(2 * block + 1, step, row);
    const Gates<T> gates = activate<T>({load(z_if), load(z_if + lanes), load(z_go), load(z_go + lanes)});
    T *h = h_of(order, row) + unit, *c = c_of(row) + unit;
    const State<T> before = {load(h), load(c)};
    const bool valid = !call.valid || call.valid[t * sizes.batch + row];
    const State<T> after = valid ? advance<T>(gates, before.c) : before;

    const int64_t place = t * call.h_strides.step + row * call.h_strides.row + unit;
    store(call.h + place, after.h, units);
    if (call.c) store(call.c + (t * sizes.batch + row) * sizes.hidden + unit, after.c, units);
    if (call.gates) {
      store(call.c_before + place, before.c, units);
      T* kept = call.gates + (t * sizes.batch + row) * 4 * sizes.hidden + unit;
      store(kept, gates.i, units);
      store(kept + sizes.hidden, gates.f, units);
      store(kept + 2 * sizes.hidden, gates.g, units);
      store(kept + 3 * sizes.hidden, gates.o, units);
    }
    if (order + 1 == sizes.steps) {
      store(call.last_h + row * sizes.hidden + unit, after.h, units);
      store(call.last_c + row * sizes.hidden + unit, after.c, units);
      return;
    }
    const bool reset = call.reset && call.reset[time(order + 1) * sizes.batch + row];
    const int64_t from = row * sizes.hidden + unit;
    store(h_of(order + 1, row) + unit, reset ? load(call.origin_h + from, units) : after.h);
    store(c, reset ? load(call.origin_c + from, units) : after.c);
  }
};

}  // namespace jax_lstm::JAX_LSTM_WIDTH
