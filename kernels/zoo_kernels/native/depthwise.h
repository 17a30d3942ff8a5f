// Depthwise convolutions and max pooling of [N, H, W, C].

#pragma once

#include <limits>

#include "dense.h"

namespace zoo {

// Input rows of a few vectors of channels, with their padding: what one task filters. They are
// copied from the input, or computed by a 1x1 convolution before the depthwise one.
struct Rows {
  float* data;
  int64_t width;     // columns, with padding
  int64_t channels;  // values of a column
};

// Outputs of a row that are computed at once: they share weights, which stay in registers.
constexpr int kNeighbours = 4;

// A row of outputs for one vector of channels. A window may be followed by columns of no meaning.
template <int kKernel, int kStride, Act kAct>
void FilterRow(const float* rows, const Rows& layout, const float* weights, const Window& window,
               Vector bias, float* __restrict out, int64_t outputs, int64_t pitch, int lanes) {
  const int kernel_h = kKernel ? kKernel : window.kernel_h;
  const int kernel_w = kKernel ? kKernel : window.kernel_w;
  const int stride = kKernel ? kStride : window.stride_w;
  const int64_t step_h = layout.width * layout.channels * (kKernel ? 1 : window.dilation_h);
  const int64_t step_w = layout.channels * (kKernel ? 1 : window.dilation_w);
  // Weights that the registers hold beside the sums are loaded once.
  constexpr int kTaps = kKernel * kKernel;
  constexpr bool kHeld = kTaps > 0 && kTaps + kNeighbours + 2 <= kRegisters;
  Vector held[kHeld ? kTaps : 1];
  if constexpr (kHeld) {
#pragma GCC unroll 32
    for (int i = 0; i < kTaps; ++i) held[i] = Load(weights + i * kLanes);
  }
  const auto tap = [&](int i, int j) {
    if constexpr (kHeld) return held[i * kKernel + j];
    else return Load(weights + (i * kernel_w + j) * kLanes);
  };
  for (int64_t first = 0; first < outputs; first += kNeighbours) {
    const float* x = rows + first * stride * layout.channels;
    Vector sum0 = bias, sum1 = bias, sum2 = bias, sum3 = bias;
    const int64_t next = stride * layout.channels;
    if constexpr (kKernel > 0) {
#pragma GCC unroll 7
      for (int i = 0; i < kKernel; ++i) {
#pragma GCC unroll 16
        for (int j = 0; j < (kNeighbours - 1) * kStride + kKernel; ++j) {
          const Vector v = Load(x + i * step_h + j * step_w);
          if (j < kKernel) sum0 += v * tap(i, j);
          if (j >= kStride && j < kStride + kKernel) sum1 += v * tap(i, j - kStride);
          if (j >= 2 * kStride && j < 2 * kStride + kKernel) sum2 += v * tap(i, j - 2 * kStride);
          if (j >= 3 * kStride) sum3 += v * tap(i, j - 3 * kStride);
        }
      }
    } else {
      for (int i = 0; i < kernel_h; ++i) {
        for (int j = 0; j < kernel_w; ++j) {
          const float* from = x + i * step_h + j * step_w;
          const Vector w = tap(i, j);
          sum0 += Load(from) * w;
          sum1 += Load(from + next) * w;
          sum2 += Load(from + 2 * next) * w;
          sum3 += Load(from + 3 * next) * w;
        }
      }
    }
    const auto finish = [&](int64_t i, Vector v) {
      if (first + i >= outputs) return;
      float* to = out + (first + i) * pitch;
      if (lanes == kLanes) Store(to, Activate<kAct>(v));
      else StoreSome(to, Activate<kAct>(v), lanes);
    };
    finish(0, sum0);
    finish(1, sum1);
    finish(2, sum2);
    finish(3, sum3);
  }
}

using Filter = void (*)(const float*, const Rows&, const float*, const Window&, Vector, float*,
                        int64_t, int64_t, int);

template <Act kAct>
Filter ChooseFilter(const Window& w) {
  const bool square = w.kernel_h == w.kernel_w && w.dilation_h == 1 && w.dilation_w == 1;
  if (square && w.stride_w == 1) {
    if (w.kernel_h == 3) return &FilterRow<3, 1, kAct>;
    if (w.kernel_h == 5) return &FilterRow<5, 1, kAct>;
    if (w.kernel_h == 7) return &FilterRow<7, 1, kAct>;
  }
  if (square && w.stride_w == 2) {
    if (w.kernel_h == 3) return &FilterRow<3, 2, kAct>;
    if (w.kernel_h == 5) return &FilterRow<5, 2, kAct>;
  }
  return &FilterRow<0, 0, kAct>;
}

// The 1x1 convolution before a depthwise one.
struct Expansion {
  const float* weights;  // packed, or null: the input is filtered as it is
  const float* bias;
  Act act;
  int64_t channels;  // of its input
};

// Filters each channel by itself; before that, `expansion` may make the channels.
void DepthwiseConv(const float* x, const float* weights, float* y, const Sizes& sizes,
                   const Window& window, const Epilogue& epilogue, const Expansion& expansion) {
  Pool& pool = Pool::Get();
  const int64_t channels = sizes.outputs, vectors = CeilDiv(channels, kLanes);
  const int64_t panels = CeilDiv(vectors, kTileVectors), taps = window.kernel_h * window.kernel_w;
  const int64_t halo = (window.kernel_h - 1) * window.dilation_h + 1;
  // The last outputs of a row are computed together, where there may be fewer of them.
  const int64_t computed = CeilDiv(sizes.out_w, kNeighbours) * kNeighbours;
  const int64_t width = std::max<int64_t>(
      (computed - 1) * window.stride_w + (window.kernel_w - 1) * window.dilation_w + 1,
      sizes.w + window.pad_w);
  // As many rows as half of the second cache holds.
  constexpr int64_t kBufferBytes = 192 << 10;
  const int64_t row_bytes = width * kTileVectors * kLanes * sizeof(float);
  const int64_t rows = std::max<int64_t>(kBufferBytes / row_bytes - halo, 0) / window.stride_h + 1;
  int64_t blocks = CeilDiv(sizes.out_h, rows);
  while (sizes.images * blocks * panels < pool.threads() && blocks < sizes.out_h) ++blocks;
  const Filter filter = [&] {
    Filter chosen = nullptr;
    WithAct(epilogue.act, [&](auto act) { chosen = ChooseFilter<act()>(window); });
    return chosen;
  }();
  const Taps depth{{0}, static_cast<int>(expansion.channels)};
  pool.For(static_cast<int>(sizes.images * blocks * panels), [&](int task) {
    const int64_t panel = task % panels, rest = task / panels;
    const int64_t image = rest / blocks, block = rest % blocks;
    const int64_t top = sizes.out_h * block / blocks, bottom = sizes.out_h * (block + 1) / blocks;
    const int64_t channel = panel * kTileVectors * kLanes;
    const int64_t here = std::min<int64_t>(kTileVectors, vectors - panel * kTileVectors);
    const int64_t count = std::min<int64_t>(here * kLanes, channels - channel);
    const int64_t in_rows = (bottom - top - 1) * window.stride_h + halo;
    const Rows layout{Scratch(in_rows * width * here * kLanes), width, here * kLanes};
    const int64_t row_size = layout.width * layout.channels;
    for (int64_t i = 0; i < in_rows; ++i) {
      const int64_t h = top * window.stride_h - window.pad_h + i;
      float* row = layout.data + i * row_size;
      if (h < 0 || h >= sizes.h) {
        std::memset(row, 0, row_size * sizeof(float));
        continue;
      }
      std::memset(row, 0, window.pad_w * layout.channels * sizeof(float));
      float* inside = row + window.pad_w * layout.channels;
      float* right = inside + sizes.w * layout.channels;
      std::memset(right, 0, (row + row_size - right) * sizeof(float));
      const int64_t first = (image * sizes.h + h) * sizes.w;
      if (!expansion.weights) {
        for (int64_t w = 0; w < sizes.w; ++w) {
          const float* from = x + (first + w) * channels + channel;
          float* to = inside + w * layout.channels;
          if (count == kTileVectors * kLanes) {
            for (int j = 0; j < kTileVectors; ++j) Store(to + j * kLanes, Load(from + j * kLanes));
          } else {
            std::memcpy(to, from, count * sizeof(float));
            std::memset(to + count, 0, (layout.channels - count) * sizeof(float));
          }
        }
        continue;
      }
      const float* packed = expansion.weights + channel * expansion.channels;
      const auto& compute = here == 1 ? kOneVector : kTwoVectors;
      const Epilogue part{expansion.bias + channel, nullptr, expansion.act};
      const float* pointers[kTileRows];
      for (int64_t w = 0, tile; w < sizes.w; w += tile) {
        tile = ChooseTile(sizes.w - w);
        for (int64_t j = 0; j < tile; ++j) pointers[j] = x + (first + w + j) * expansion.channels;
        compute[tile - 1](pointers, depth, packed, inside + w * layout.channels, layout.channels, 0,
                          part);
      }
    }
    for (int64_t v = 0; v < here; ++v) {
      const int64_t at = channel + v * kLanes;
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, channels - at));
      const Vector bias = Load(epilogue.bias + at);
      for (int64_t oh = top; oh < bottom; ++oh) {
        const float* from = layout.data + (oh - top) * window.stride_h * row_size + v * kLanes;
        filter(from, layout, weights + at * taps, window, bias,
               y + ((image * sizes.out_h + oh) * sizes.out_w) * channels + at, sizes.out_w,
               channels, lanes);
      }
    }
  });
}



void MaxPool(const float* x, float* y, const Sizes& sizes, const Window& window) {
  Pool& pool = Pool::Get();
  const int64_t channels = sizes.channels, rows = sizes.images * sizes.out_h;
  const int64_t blocks = std::min<int64_t>(rows, 8 * pool.threads());
  pool.For(static_cast<int>(blocks), [&](int task) {
    for (int64_t row = rows * task / blocks; row < rows * (task + 1) / blocks; ++row) {
      const int64_t image = row / sizes.out_h, oh = row % sizes.out_h;
      for (int64_t ow = 0; ow < sizes.out_w; ++ow) {
        float* to = y + (row * sizes.out_w + ow) * channels;
        bool empty = true;
        for (int i = 0; i < window.kernel_h; ++i) {
          const int64_t h = oh * window.stride_h - window.pad_h + i * window.dilation_h;
          if (h < 0 || h >= sizes.h) continue;
          for (int j = 0; j < window.kernel_w; ++j) {
            const int64_t w = ow * window.stride_w - window.pad_w + j * window.dilation_w;
            if (w < 0 || w >= sizes.w) continue;
            const float* from = x + ((image * sizes.h + h) * sizes.w + w) * channels;
            if (empty) {
              std::memcpy(to, from, channels * sizeof(float));
            } else {
              for (int64_t c = 0; c < channels; ++c)
                to[c] = from[c] > to[c] || from[c] != from[c] ? from[c] : to[c];
            }
            empty = false;
          }
        }
        if (empty) std::fill(to, to + channels, -std::numeric_limits<float>::infinity());
      }
    }
  });
}

}  // namespace zoo
