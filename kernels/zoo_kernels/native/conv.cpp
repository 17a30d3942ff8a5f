// Convolutions for inference on a CPU: float32, NHWC, with bias, residual and activation.
//
// A dense convolution is a matrix product whose left operand is never written out: a tile of
// outputs reads its input pixels through one pointer each, and the kernel's taps are offsets that
// all pointers share. Weights are packed into panels of a few vectors of output channels. See
// __init__.py for the layout.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// ---------------------------------------------------------------------------------------- Vectors

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// A tile: kTileRows output pixels times kTileVectors vectors of output channels. Its sums, one row
// of weights and one broadcast value fill the registers.
constexpr int kTileVectors = 2;
constexpr int kTileRows = (kRegisters - kTileVectors - 2) / kTileVectors;

inline Vector Load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
inline void Store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
inline Vector Splat(float v) { return v - Vector{}; }

// The first `count` lanes of a vector, 0 to kLanes.
inline Vector LoadSome(const float* p, int count) {
#if defined(__AVX512F__)
  return Vector(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p));
#else
  Vector v{};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
#endif
}

inline void StoreSome(float* p, Vector v, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), __m512(v));
#else
  for (int i = 0; i < count; ++i) p[i] = v[i];
#endif
}

// Keeps the compiler from reading a vector from memory each time that it is used.
inline void KeepInRegister(Vector& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// What is done to the sums of a convolution.
enum Act : int32_t { kIdentity = 0, kRelu = 1, kRelu6 = 2, kHardSwish = 3 };

struct Epilogue {
  const float* bias;      // [out], padded to whole vectors
  const float* residual;  // as the output, or null
  Act act;
};

// The larger and the smaller of two; NaN where v is NaN.
inline Vector AtLeast(float low, Vector v) {
#if defined(__AVX512F__)
  return Vector(_mm512_max_ps(_mm512_set1_ps(low), __m512(v)));
#else
  return Splat(low) > v ? Splat(low) : v;
#endif
}

inline Vector AtMost(float high, Vector v) {
#if defined(__AVX512F__)
  return Vector(_mm512_min_ps(_mm512_set1_ps(high), __m512(v)));
#else
  return Splat(high) < v ? Splat(high) : v;
#endif
}

template <Act kAct>
inline Vector Activate(Vector v) {
  if constexpr (kAct == kRelu) return AtLeast(0.0f, v);
  if constexpr (kAct == kRelu6) return AtMost(6.0f, AtLeast(0.0f, v));
  if constexpr (kAct == kHardSwish)
    return v * AtMost(6.0f, AtLeast(0.0f, v + Splat(3.0f))) * Splat(1.0f / 6.0f);
  return v;
}

// Calls f with an activation as a constant.
template <typename F>
inline void WithAct(Act act, const F& f) {
  switch (act) {
    case kRelu:
      return f(std::integral_constant<Act, kRelu>());
    case kRelu6:
      return f(std::integral_constant<Act, kRelu6>());
    case kHardSwish:
      return f(std::integral_constant<Act, kHardSwish>());
    default:
      return f(std::integral_constant<Act, kIdentity>());
  }
}

// ---------------------------------------------------------------------------------------- Threads

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Threads that run the tasks of one parallel loop at a time, together with the loop's caller.
//
// A worker that has nothing to do spins for a while, since a model's layers follow each other
// closely, and then sleeps. Late workers find the loop closed: nobody waits for them to wake up.
class Pool {
 public:
  static Pool& Get() {
    static Pool* pool = new Pool;  // never destroyed: its threads may still run at exit
    return *pool;
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  template <typename F>
  void For(int tasks, const F& run) {
    if (tasks <= 1 || workers_.empty()) {
      for (int i = 0; i < tasks; ++i) run(i);
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    run_ = [](const void* f, int task) { (*static_cast<const F*>(f))(task); };
    context_ = &run;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    LeaveCallersCpu();
    state_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    RunTasks();
    state_.fetch_and(~kOpen, std::memory_order_acq_rel);
    while (state_.load(std::memory_order_acquire) != 0) Pause();
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;
  static constexpr int kSpins = 20000;

  Pool() {
    int count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    CPU_ZERO(&allowed_);
    if (sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0) count = CPU_COUNT(&allowed_);
#endif
    if (const char* text = std::getenv("ZOO_NATIVE_THREADS")) count = std::atoi(text);
    for (int i = 1; i < count; ++i) workers_.emplace_back([this] { Work(); });
    for (auto& worker : workers_) {
#if defined(__linux__)
      handles_.push_back(worker.native_handle());
#endif
      worker.detach();
    }
  }

  // Keeps the workers off the caller's core: some schedulers wake a thread where it was woken from,
  // and it would then wait for the caller while another core is idle.
  void LeaveCallersCpu() {
#if defined(__linux__)
    const int cpu = sched_getcpu();
    if (cpu < 0 || cpu == callers_cpu_ || !CPU_ISSET(cpu, &allowed_)) return;
    callers_cpu_ = cpu;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    for (pthread_t worker : handles_) pthread_setaffinity_np(worker, sizeof(others), &others);
#endif
  }

  void RunTasks() {
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) run_(context_, i);
  }

  void Work() {
    uint32_t seen = 0;
    for (;;) {
      uint32_t epoch = epoch_.load(std::memory_order_acquire);
      for (int i = 0; epoch == seen && i < kSpins; ++i) {
        Pause();
        epoch = epoch_.load(std::memory_order_acquire);
      }
      if (epoch == seen) {
        epoch_.wait(seen, std::memory_order_acquire);
        continue;
      }
      seen = epoch;
      uint32_t state = state_.load(std::memory_order_acquire);
      while ((state & kOpen) && !state_.compare_exchange_weak(state, state + 1,
                                                             std::memory_order_acq_rel)) {
      }
      if (!(state & kOpen)) continue;
      RunTasks();
      state_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  void (*run_)(const void*, int) = nullptr;
  const void* context_ = nullptr;
  int tasks_ = 0;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<uint32_t> state_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
#if defined(__linux__)
  cpu_set_t allowed_;
  int callers_cpu_ = -1;
  std::vector<pthread_t> handles_;
#endif
};

// Memory of a thread that grows and is kept.
float* Scratch(size_t count) {
  struct Buffer {
    float* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
  };
  thread_local Buffer buffer;
  if (buffer.size < count) {
    std::free(buffer.data);
    buffer.size = (count + 1023) / 1024 * 1024;
    buffer.data = static_cast<float*>(std::aligned_alloc(64, buffer.size * sizeof(float)));
  }
  return buffer.data;
}

// ----------------------------------------------------------------------------- Dense convolutions

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
  for (int64_t n = wanted; n <= 2 * blocks && n <= units; n += wanted)
    if (units % n == 0 && n * 2 >= blocks) return {n, 1};
  if (blocks % wanted && blocks < 4 * wanted) {
    const int64_t rounded = CeilDiv(blocks, wanted) * wanted;
    if (rounded <= units && blocks > 1) blocks = rounded;
    else groups = std::min<int64_t>(panels, wanted);
  }
  return {blocks, groups};
}

void DenseConv(const float* x, const float* weights, float* y, const Sizes& sizes,
               const Window& window, const Epilogue& epilogue) {
  Pool& pool = Pool::Get();
  const int64_t panels = CeilDiv(sizes.outputs, kTileVectors * kLanes);
  const int64_t pixels = sizes.images * sizes.out_h * sizes.out_w;
  const double flops = 2.0 * pixels * sizes.outputs * window.kernel_h * window.kernel_w *
                       sizes.channels;
  const bool pointwise = window.kernel_h == 1 && window.kernel_w == 1 && window.pad_h == 0 &&
                         window.pad_w == 0;
  const bool aliased = sizes.channels * sizeof(float) % kAlias == 0;
  const int64_t pitch = sizes.channels + (aliased ? kLanes : 0);
  if (pointwise) {
    const bool copied = aliased && panels > 2;
    const Split split = Choose(pixels, kBlockRows, panels, flops, pool.threads());
    const Taps taps{{0}, static_cast<int>(sizes.channels)};
    const bool strided = window.stride_h > 1 || window.stride_w > 1;
    const auto pixel = [&](int64_t i) {
      if (!strided) return x + i * sizes.channels;
      const int64_t ow = i % sizes.out_w, rest = i / sizes.out_w;
      const int64_t oh = rest % sizes.out_h, image = rest / sizes.out_h;
      return x + ((image * sizes.h + oh * window.stride_h) * sizes.w + ow * window.stride_w) *
                     sizes.channels;
    };
    pool.For(static_cast<int>(split.blocks * split.groups), [&](int task) {
      const int64_t block = task / split.groups, group = task % split.groups;
      const int64_t first = pixels * block / split.blocks;
      const int64_t last = pixels * (block + 1) / split.blocks;
      const int64_t from = panels * group / split.groups, to = panels * (group + 1) / split.groups;
      if (!copied) {
        ComputeBlock(first, last, from, to, pixel, taps, weights, y, sizes, epilogue);
        return;
      }
      float* copy = Scratch((last - first) * pitch);
      for (int64_t i = first; i < last; ++i)
        std::memcpy(copy + (i - first) * pitch, pixel(i), sizes.channels * sizeof(float));
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

// ------------------------------------------------------------------------- Depthwise convolutions

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
          const float* w = weights + i * kKernel * kLanes;
          if (j < kKernel) sum0 += v * Load(w + j * kLanes);
          if (j >= kStride && j < kStride + kKernel) sum1 += v * Load(w + (j - kStride) * kLanes);
          if (j >= 2 * kStride && j < 2 * kStride + kKernel)
            sum2 += v * Load(w + (j - 2 * kStride) * kLanes);
          if (j >= 3 * kStride) sum3 += v * Load(w + (j - 3 * kStride) * kLanes);
        }
      }
    } else {
      for (int i = 0; i < kernel_h; ++i) {
        for (int j = 0; j < kernel_w; ++j) {
          const float* from = x + i * step_h + j * step_w;
          const Vector w = Load(weights + (i * kernel_w + j) * kLanes);
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

// ------------------------------------------------------------------------------------------- XLA

ffi::Error Run(ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> weights, ffi::Buffer<ffi::F32> bias,
               ffi::Buffer<ffi::F32> residual, ffi::Buffer<ffi::F32> expansion, ffi::Buffer<ffi::F32> expansion_bias, ffi::Result<ffi::Buffer<ffi::F32>> y,
               ffi::Span<const int64_t> window, int64_t depthwise, int64_t act, int64_t expansion_act) {
  const auto in = x.dimensions(), out = y->dimensions();
  if (in.size() != 4 || out.size() != 4 || window.size() != 8)
    return ffi::Error::InvalidArgument("fused convolution: x and y have 4 dimensions");
  const Sizes sizes{in[0], in[1], in[2], in[3], out[1], out[2], out[3]};
  const Window w{(int)window[0], (int)window[1], (int)window[2], (int)window[3],
                 (int)window[4], (int)window[5], (int)window[6], (int)window[7]};
  const Epilogue epilogue{bias.typed_data(),
                          residual.element_count() ? residual.typed_data() : nullptr,
                          static_cast<Act>(act)};
  if (y->element_count() == 0) return ffi::Error::Success();
  if (depthwise) {
    const Expansion e{expansion.element_count() ? expansion.typed_data() : nullptr,
                      expansion_bias.typed_data(), static_cast<Act>(expansion_act), in[3]};
    DepthwiseConv(x.typed_data(), weights.typed_data(), y->typed_data(), sizes, w, epilogue, e);
  } else {
    DenseConv(x.typed_data(), weights.typed_data(), y->typed_data(), sizes, w, epilogue);
  }
  return ffi::Error::Success();
}

}  // namespace

extern "C" int zoo_lanes() { return kLanes; }

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoo_fused_conv, Run,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<ffi::Span<const int64_t>>("window")
                                  .Attr<int64_t>("depthwise")
                                  .Attr<int64_t>("act")
                                  .Attr<int64_t>("expansion_act"));
