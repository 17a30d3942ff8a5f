// The functions that XLA calls.

#include "xla/ffi/api/ffi.h"

#include "depthwise.h"

namespace zoo {

namespace ffi = xla::ffi;

using Array = ffi::Buffer<ffi::F32>;

const float* DataOrNull(const Array& array) {
  return array.element_count() ? array.typed_data() : nullptr;
}

Window MakeWindow(ffi::Span<const int64_t> values) {
  const auto at = [&](int i) { return static_cast<int>(values[i]); };
  return {at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
}

Sizes MakeSizes(const Array& x, const Array& y) {
  const auto in = x.dimensions(), out = y.dimensions();
  return {in[0], in[1], in[2], in[3], out[1], out[2], out[3]};
}

ffi::Error RunConv(Array weights, Array bias, Array residual, Array scale, Array offset,
                   ffi::RemainingArgs parts, ffi::Result<Array> y,
                   ffi::Span<const int64_t> window, int64_t act, int64_t cell) {
  if (y->element_count() == 0) return ffi::Error::Success();
  Input input{{}, DataOrNull(scale), DataOrNull(offset), cell, 0};
  Sizes sizes{};
  int64_t channels = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto part = parts.get<Array>(i);
    if (part.has_error()) return part.error();
    sizes = MakeSizes(*part, *y);
    input.parts.push_back({part->typed_data(), sizes.channels});
    channels += sizes.channels;
  }
  sizes.channels = channels;
  input.w = sizes.w;
  const Epilogue epilogue{bias.typed_data(), DataOrNull(residual), static_cast<Act>(act)};
  DenseConv(input, weights.typed_data(), y->typed_data(), sizes, MakeWindow(window), epilogue);
  return ffi::Error::Success();
}

ffi::Error RunDepthwise(Array x, Array weights, Array bias, Array expansion, Array expansion_bias,
                        ffi::Result<Array> y, ffi::Span<const int64_t> window, int64_t act,
                        int64_t expansion_act) {
  if (y->element_count() == 0) return ffi::Error::Success();
  const Sizes sizes = MakeSizes(x, *y);
  const Epilogue epilogue{bias.typed_data(), nullptr, static_cast<Act>(act)};
  const Expansion before{DataOrNull(expansion), expansion_bias.typed_data(),
                         static_cast<Act>(expansion_act), sizes.channels};
  DepthwiseConv(x.typed_data(), weights.typed_data(), y->typed_data(), sizes, MakeWindow(window),
                epilogue, before);
  return ffi::Error::Success();
}

ffi::Error RunMaxPool(Array x, ffi::Result<Array> y, ffi::Span<const int64_t> window) {
  MaxPool(x.typed_data(), y->typed_data(), MakeSizes(x, *y), MakeWindow(window));
  return ffi::Error::Success();
}

}  // namespace zoo

extern "C" int zoo_lanes() { return zoo::kLanes; }

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoo_conv, zoo::RunConv,
                              xla::ffi::Ffi::Bind()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .RemainingArgs()
                                  .Ret<zoo::Array>()
                                  .Attr<xla::ffi::Span<const int64_t>>("window")
                                  .Attr<int64_t>("act")
                                  .Attr<int64_t>("cell"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoo_depthwise_conv, zoo::RunDepthwise,
                              xla::ffi::Ffi::Bind()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Arg<zoo::Array>()
                                  .Ret<zoo::Array>()
                                  .Attr<xla::ffi::Span<const int64_t>>("window")
                                  .Attr<int64_t>("act")
                                  .Attr<int64_t>("expansion_act"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(zoo_max_pool, zoo::RunMaxPool,
                              xla::ffi::Ffi::Bind().Arg<zoo::Array>().Ret<zoo::Array>().Attr<
                                  xla::ffi::Span<const int64_t>>("window"));
