// Vectors of float32 as wide as the processor's, and activations.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace zoo {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
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
  asm("" : "+v"(v));
}

// What is done to the sums of a convolution.
enum Act : int32_t { kIdentity = 0, kRelu = 1, kRelu6 = 2, kHardSwish = 3, kHardSigmoid = 4 };

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
    return v * (AtMost(6.0f, AtLeast(0.0f, v + Splat(3.0f))) * Splat(1.0f / 6.0f));
  if constexpr (kAct == kHardSigmoid)
    return AtMost(6.0f, AtLeast(0.0f, v + Splat(3.0f))) * Splat(1.0f / 6.0f);
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
    case kHardSigmoid:
      return f(std::integral_constant<Act, kHardSigmoid>());
    default:
      return f(std::integral_constant<Act, kIdentity>());
  }
}

}  // namespace zoo
