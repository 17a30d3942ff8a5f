// Dense convolutions of [N, H, W, C], with bias, residual and activation.
//
// A convolution is a matrix product whose left operand is never written out: a tile of outputs reads
// its input pixels through one pointer each, and the kernel's taps are offsets that all pointers
// share. How weights are packed is told in __init__.py.

#pragma once

#include <array>
#include <cstring>
#include <utility>

#include "simd.h"
#include "threads.h"

namespace zoo {

struct Window {
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

struct Sizes {
  int64_t images, h, w, channels, out_h, out_w, outputs;
};

// Where a tile's input values are: at row pointers, plus each tap's offset, `run` values each.
struct Taps {
  std::vector<ptrdiff_t> offsets;
  int run;
};

template <int kRows, int kVectors>
void ComputeTile(const float* const* rows, const Taps& taps, const float* weights, float* out,
                 int64_t outputs, int64_t channel, const Epilogue& epilogue) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) {
    const Vector bias = Load(epilogue.bias + channel + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) sums[i][j] = bias;
  }
  const int run = taps.run;
  for (ptrdiff_t offset : taps.offsets) {
    const float* pointers[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) pointers[i] = rows[i] + offset;
#pragma GCC unroll 1
    for (int c = 0; c < run; ++c) {
      Vector w0 = Load(weights), w1 = kVectors > 1 ? Load(weights + kLanes) : w0;
      KeepInRegister(w0);
      KeepInRegister(w1);
      weights += kVectors * kLanes;
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vector x = Splat(pointers[i][c]);
        sums[i][0] += x * w0;
        if constexpr (kVectors > 1) sums[i][1] += x * w1;
      }
    }
  }
  const int last = static_cast<int>(
      std::min<int64_t>(outputs - channel - (kVectors - 1) * kLanes, kLanes));
  const auto for_each = [&](const auto& f) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j)
        f(sums[i][j], i * outputs + channel + j * kLanes, j + 1 < kVectors);
    }
  };
  if (const float* residual = epilogue.residual) {
    for_each([&](Vector& v, ptrdiff_t at, bool whole) {
      v += whole ? Load(residual + at) : LoadSome(residual + at, last);
    });
  }
  WithAct(epilogue.act, [&](auto act) {
    for_each([&](Vector& v, ptrdiff_t, bool) { v = Activate<act()>(v); });
  });
  for_each([&](Vector& v, ptrdiff_t at, bool whole) {
    if (whole) Store(out + at, v);
    else StoreSome(out + at, v, last);
  });
}

using Tile = void (*)(const float* const*, const Taps&, const float*, float*, int64_t, int64_t,
                      const Epilogue&);

template <int kVectors, int... kRows>
constexpr auto MakeTiles(std::integer_sequence<int, kRows...>) {
  return std::array<Tile, sizeof...(kRows)>{&ComputeTile<kRows + 1, kVectors>...};
}

constexpr auto kOneVector = MakeTiles<1>(std::make_integer_sequence<int, kTileRows>());
constexpr auto kTwoVectors = MakeTiles<2>(std::make_integer_sequence<int, kTileRows>());

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Outputs that a task computes: so many that packed weights, which stay in the cache for all of
// them, are not what the task waits for.
constexpr int64_t kBlockRows = 8 * kTileRows;
// Rows of a multiple of this many bytes compete for the same lines of the first cache.
constexpr int64_t kAlias = 2048;

// The rows of the next tile. GCC keeps the sums of 10 to 12 rows in memory, which takes twice as
// long, so that as many are computed in two tiles.
int64_t ChooseTile(int64_t rows) {
  if (rows >= kTileRows) return kTileRows;
  return rows > 9 && rows < 13 ? rows / 2 : rows;
}

// The outputs [first, last) of the channels [panels) of `outputs`, whose input pixels start at
// `row(pixel)`.
template <typename Row>
void ComputeBlock(int64_t first, int64_t last, int64_t panel_first, int64_t panel_last,
                  const Row& row, const Taps& taps, const float* weights, float* y,
                  const Sizes& sizes, const Epilogue& epilogue) {
  const int64_t count = last - first;
  const int64_t depth = static_cast<int64_t>(taps.offsets.size()) * taps.run;
  const float* pointers[kBlockRows * 2];
  for (int64_t i = 0; i < count; ++i) pointers[i] = row(first + i);
  for (int64_t panel = panel_first; panel < panel_last; ++panel) {
    const int64_t channel = panel * kTileVectors * kLanes;
    const float* packed = weights + channel * depth;
    const bool narrow = sizes.outputs - channel <= kLanes;
    const auto& compute = narrow ? kOneVector : kTwoVectors;
    for (int64_t begin = 0, rows; begin < count; begin += rows) {
      rows = ChooseTile(count - begin);
      Epilogue part = epilogue;
      const int64_t at = (first + begin) * sizes.outputs;
      if (part.residual) part.residual += at;
      compute[rows - 1](pointers + begin, taps, packed, y + at, sizes.outputs, channel, part);
    }
  }
}

// What a 1x1 convolution reads: arrays of the same pixels side by side, as if concatenated, and
// what is done to them before: ReLU(x * scale + offset), and means of square cells.
struct Input {
  struct Part {
    const float* data;
    int64_t channels;
  };
  std::vector<Part> parts;
  const float* scale;   // or null
  const float* offset;  // or null
  int64_t cell;         // the side of the cells, 1 for none
  int64_t w;            // columns of an image

  bool plain() const { return parts.size() == 1 && !scale && cell == 1; }

  // Copies the cell that begins at a pixel.
  void Copy(int64_t pixel, float* to) const {
    if (cell == 1 && !scale) {
      for (const Part& part : parts) {
        std::memcpy(to, part.data + pixel * part.channels, part.channels * sizeof(float));
        to += part.channels;
      }
      return;
    }
    const float *s = scale, *b = offset;
    const float share = 1.0f / static_cast<float>(cell * cell);
    for (const Part& part : parts) {
      for (int64_t c = 0; c < part.channels; c += kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(kLanes, part.channels - c));
        const Vector times = scale ? LoadSome(s + c, lanes) : Splat(1.0f);
        const Vector plus = scale ? LoadSome(b + c, lanes) : Vector{};
        Vector sum{};
        for (int64_t i = 0; i < cell; ++i) {
          for (int64_t j = 0; j < cell; ++j) {
            const float* from = part.data + (pixel + i * w + j) * part.channels + c;
            const Vector v = LoadSome(from, lanes);
            sum += scale ? AtLeast(0.0f, v * times + plus) : v;
          }
        }
        StoreSome(to + c, sum * Splat(share), lanes);
      }
      to += part.channels;
      if (scale) s += part.channels, b += part.channels;
    }
  }
};

struct Split {
  int64_t blocks, groups;  // of outputs, and of panels of channels
};

// Splits work evenly over the threads: into blocks of about `block` outputs (of `units` that
// cannot be split), and into groups of panels where there are too few blocks.
Split Choose(int64_t units, int64_t units_per_block, int64_t panels, double flops, int threads) {
  const int64_t useful = std::max<int64_t>(1, static_cast<int64_t>(flops / 4e5));
  const int64_t wanted = std::min<int64_t>(threads, useful);
  int64_t blocks = CeilDiv(units, units_per_block);
  int64_t groups = 1;
  // Blocks of one size, if there are any that are not much larger or smaller.
  for (int64_t n = wanted; blocks > 1 && n <= 2 * blocks && n <= units; n += wanted)
    if (units % n == 0 && n * 2 >= blocks) return {n, 1};
  if (blocks % wanted && blocks < 4 * wanted) {
    const int64_t rounded = CeilDiv(blocks, wanted) * wanted;
    if (rounded <= units && blocks > 1) blocks = rounded;
    else groups = std::min<int64_t>(panels, wanted);
  }
  if (blocks * groups < wanted) blocks = std::min(units, CeilDiv(wanted, groups));
  return {blocks, groups};
}

void DenseConv(const Input& input, const float* weights, float* y, const Sizes& sizes,
               const Window& window, const Epilogue& epilogue) {
  Pool& pool = Pool::Get();
  const int64_t panels = CeilDiv(sizes.outputs, kTileVectors * kLanes);
  const int64_t pixels = sizes.images * sizes.out_h * sizes.out_w;
  const double flops = 2.0 * pixels * sizes.outputs * window.kernel_h * window.kernel_w *
                       sizes.channels;
  // Padding may be below and to the right alone.
  const bool padded = window.pad_h > 0 || window.pad_w > 0 ||
                      (sizes.out_h - 1) * window.stride_h >= sizes.h ||
                      (sizes.out_w - 1) * window.stride_w >= sizes.w;
  const bool pointwise = window.kernel_h == 1 && window.kernel_w == 1 && !padded;
  const bool aliased = sizes.channels * sizeof(float) % kAlias == 0;
  const int64_t pitch = sizes.channels + (aliased ? kLanes : 0);
  const float* x = input.parts[0].data;
  if (pointwise) {
    const bool copied = !input.plain() || (aliased && panels > 2);
    const int64_t tiles = CeilDiv(pixels, kTileRows);
    const Split split = Choose(tiles, kBlockRows / kTileRows, panels, flops, pool.threads());
    const Taps taps{{0}, static_cast<int>(sizes.channels)};
    const bool strided = sizes.out_h != sizes.h || sizes.out_w != sizes.w;
    const int64_t step_h = window.stride_h * input.cell, step_w = window.stride_w * input.cell;
    const auto place = [&](int64_t i) {
      if (!strided) return i;
      const int64_t ow = i % sizes.out_w, rest = i / sizes.out_w;
      const int64_t oh = rest % sizes.out_h, image = rest / sizes.out_h;
      return (image * sizes.h + oh * step_h) * sizes.w + ow * step_w;
    };
    pool.For(static_cast<int>(split.blocks * split.groups), [&](int task) {
      const int64_t block = task / split.groups, group = task % split.groups;
      const int64_t first = tiles * block / split.blocks * kTileRows;
      const int64_t last = std::min(tiles * (block + 1) / split.blocks * kTileRows, pixels);
      const int64_t from = panels * group / split.groups, to = panels * (group + 1) / split.groups;
      if (!copied) {
        const auto row = [&](int64_t i) { return x + place(i) * sizes.channels; };
        ComputeBlock(first, last, from, to, row, taps, weights, y, sizes, epilogue);
        return;
      }
      float* copy = Scratch((last - first) * pitch);
      for (int64_t i = first; i < last; ++i) input.Copy(place(i), copy + (i - first) * pitch);
      const auto row = [&](int64_t i) { return copy + (i - first) * pitch; };
      ComputeBlock(first, last, from, to, row, taps, weights, y, sizes, epilogue);
    });
    return;
  }
  // A task copies the input rows that its output rows need, with their padding.
  const int64_t width = (sizes.out_w - 1) * window.stride_w +
                        (window.kernel_w - 1) * window.dilation_w + 1;
  const int64_t rows_per_block = std::max<int64_t>(1, kBlockRows / sizes.out_w);
  const int64_t halo = (window.kernel_h - 1) * window.dilation_h + 1;
  Taps taps;
  const bool merged = window.dilation_w == 1 && pitch == sizes.channels;
  taps.run = static_cast<int>(merged ? window.kernel_w * sizes.channels : sizes.channels);
  for (int i = 0; i < window.kernel_h; ++i)
    for (int j = 0; j < (merged ? 1 : window.kernel_w); ++j)
      taps.offsets.push_back((i * window.dilation_h * width + j * window.dilation_w) * pitch);
  Split split = Choose(sizes.out_h, rows_per_block, panels, flops / sizes.images, pool.threads());
  if (sizes.images >= pool.threads()) split.groups = 1;
  const int64_t tasks = sizes.images * split.blocks * split.groups;
  pool.For(static_cast<int>(tasks), [&](int task) {
    const int64_t group = task % split.groups, rest = task / split.groups;
    const int64_t image = rest / split.blocks, block = rest % split.blocks;
    const int64_t from = panels * group / split.groups, to = panels * (group + 1) / split.groups;
    const int64_t top = sizes.out_h * block / split.blocks;
    const int64_t bottom = sizes.out_h * (block + 1) / split.blocks;
    const int64_t in_rows = (bottom - top - 1) * window.stride_h + halo;
    float* copy = Scratch(in_rows * width * pitch);
    const int64_t left = std::min<int64_t>(window.pad_w, width);
    const int64_t right = std::min<int64_t>(width, window.pad_w + sizes.w);
    for (int64_t i = 0; i < in_rows; ++i) {
      const int64_t h = top * window.stride_h - window.pad_h + i;
      float* to_row = copy + i * width * pitch;
      if (h < 0 || h >= sizes.h) {
        std::memset(to_row, 0, width * pitch * sizeof(float));
        continue;
      }
      const float* from_row = x + (image * sizes.h + h) * sizes.w * sizes.channels;
      std::memset(to_row, 0, left * pitch * sizeof(float));
      if (pitch == sizes.channels) {
        std::memcpy(to_row + left * pitch, from_row, (right - left) * pitch * sizeof(float));
      } else {
        for (int64_t j = left; j < right; ++j)
          std::memcpy(to_row + j * pitch, from_row + (j - left) * sizes.channels,
                      sizes.channels * sizeof(float));
      }
      std::memset(to_row + right * pitch, 0, (width - right) * pitch * sizeof(float));
    }
    const int64_t origin = (image * sizes.out_h + top) * sizes.out_w;
    const auto row = [&](int64_t i) {
      const int64_t oh = (i - origin) / sizes.out_w, ow = (i - origin) % sizes.out_w;
      return copy + (oh * window.stride_h * width + ow * window.stride_w) * pitch;
    };
    // A row that is longer than a block is computed in several.
    const int64_t end = (image * sizes.out_h + bottom) * sizes.out_w;
    const int64_t parts = CeilDiv(end - origin, 2 * kBlockRows);
    for (int64_t part = 0; part < parts; ++part)
      ComputeBlock(origin + (end - origin) * part / parts, origin + (end - origin) * (part + 1) / parts,
                   from, to, row, taps, weights, y, sizes, epilogue);
  });
}

}  // namespace zoo
