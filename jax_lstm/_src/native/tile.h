// The product of a few rows and a panel of a packed matrix. It is all work of the kernels that grows with H * H.
//
// A panel has two vectors of columns. A tile keeps `Rows` rows of its result in registers during the whole sum. So a
// number of the panel is loaded once for all rows of the tile, and a number of a row once for both vectors.
#pragma once

#include "layout.h"
#include "vectors.h"

namespace jax_lstm::JAX_LSTM_WIDTH {

constexpr int kVectors = 2;                              // per panel
constexpr int64_t kDepth = 128;                          // the most terms per part of a sum
constexpr int kRows = JAX_LSTM_BYTES == 64 ? 12 : 6;     // the most rows per tile; registers hold kRows * kVectors sums

// The factors of a product. Number k of row r is at rows[r * row_step + k * depth_step]. The two vectors number k of a
// panel are at panels[k * vectors_step]. If there are several panels, number p is at p * panel_step, and its rows are
// at p * part_step.
template <typename T>
struct Factors {
  const T* rows;
  int64_t row_step, depth_step;
  const T* panels;
  int64_t vectors_step, depth;
  int64_t panel_step = 0, part_step = 0;
};

// Add the product of `Rows` rows and `Panels` panels to `sums`. With few rows, several panels are multiplied at once,
// since one panel has too few independent sums: a processor starts two such additions per cycle and finishes each one
// after four cycles.
template <typename T, int Rows, int Panels>
inline __attribute__((always_inline)) void multiply(const Factors<T>& by, Vector<T> (&sums)[Rows][Panels][kVectors]) {
  constexpr int lanes = kLanes<T>;
  for (int64_t k = 0; k < by.depth; ++k) {
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) {
      const T* panel = by.panels + p * by.panel_step + k * by.vectors_step;
      const Vector<T> left = load(panel), right = load(panel + lanes);
#pragma GCC unroll 12
      for (int r = 0; r < Rows; ++r) {
        const T a = by.rows[r * by.row_step + p * by.part_step + k * by.depth_step];
        sums[r][p][0] += a * left;
        sums[r][p][1] += a * right;
      }
    }
  }
}

// Add products to an array of sums, in which a row of a panel has 2 * lanes numbers. If `in_one`, the panels are the
// parts of one long sum, and all are added to the sums of the first panel. A product is summed from zero first. If its
// terms were added one by one to a large sum, each addition would be rounded to the precision of that sum.
template <typename T, int Rows, int Panels>
void add_tile(const Factors<T>& by, T* sums, int64_t row_step, int64_t panel_step, bool in_one) {
  constexpr int lanes = kLanes<T>;
  Vector<T> total[Rows][Panels][kVectors] = {};
  multiply<T, Rows, Panels>(by, total);
#pragma GCC unroll 12
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* place = sums + r * row_step + v * lanes;
      if (in_one) {
#pragma GCC unroll 4
        for (int p = 1; p < Panels; ++p) total[r][0][v] += total[r][p][v];
        store(place, load(place) + total[r][0][v]);
      } else {
#pragma GCC unroll 4
        for (int p = 0; p < Panels; ++p) store(place + p * panel_step, load(place + p * panel_step) + total[r][p][v]);
      }
    }
}

template <typename T, int Rows, int Panels>
inline void add_tile_of(int64_t rows, const Factors<T>& by, T* sums, int64_t row_step, int64_t panel_step, bool in_one) {
  if (rows == Rows) return add_tile<T, Rows, Panels>(by, sums, row_step, panel_step, in_one);
  if constexpr (Rows > 1) add_tile_of<T, Rows - 1, Panels>(rows, by, sums, row_step, panel_step, in_one);
}

// A long sum is computed in parts, so that the part of a panel stays in the nearest cache. Short parts also keep the
// rounding small.
inline int64_t parts_of_sum(int64_t depth) { return ceil_of(depth, kDepth); }

// Add the product of any number of rows, in tiles of equal height, and in parts of the sum.
template <typename T, int Rows, int Panels>
void add_product(const Factors<T>& by, int64_t rows, T* sums, int64_t row_step, int64_t panel_step, bool in_one) {
  const int64_t tiles = ceil_of(rows, Rows), parts = parts_of_sum(by.depth);
  for (int64_t n_part = 0; n_part < parts; ++n_part) {
    const Range terms = part(by.depth, parts, n_part);
    Factors<T> of_tile = by;
    of_tile.rows += terms.begin * by.depth_step;
    of_tile.panels += terms.begin * by.vectors_step;
    of_tile.depth = terms.end - terms.begin;
    T* to = sums;
    for (int64_t n = 0; n < tiles; ++n) {
      const int64_t height = rows / tiles + (n < rows % tiles);
      add_tile_of<T, Rows, Panels>(height, of_tile, to, row_step, panel_step, in_one);
      of_tile.rows += height * by.row_step;
      to += height * row_step;
    }
  }
}

}  // namespace jax_lstm::JAX_LSTM_WIDTH
