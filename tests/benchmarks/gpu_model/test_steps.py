"""Kernels and bytes that are counted in compiled programs."""

import pytest

from benchmarks.gpu_model.steps import Kernel, count_bytes, list_kernels

HLO = """HloModule jit_step

%fused (param_0: bf16[8,4]) -> bf16[8,4] {
  %param_0 = bf16[8,4]{1,0} parameter(0)
  ROOT %max = bf16[8,4]{1,0} maximum(%param_0, %param_0)
}

ENTRY %main (x: bf16[8,4], w: f32[4,2]) -> (bf16[8,4], f32[8,2]) {
  %x = bf16[8,4]{1,0} parameter(0)
  %w = f32[4,2]{1,0} parameter(1)
  %fusion = bf16[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="a(b), c"}
  %convolution = (f32[8,2]{1,0}, u8[16]{0}) custom-call(%fusion, %w), custom_call_target="__cudnn$x"
  %element = f32[8,2]{1,0} get-tuple-element(%convolution), index=0
  %call = s32[3]{0} custom-call(%w), custom_call_target="__gpu$xla.gpu.triton", \
metadata={op_name="jit(f)/norm/batch_norm/pallas_call"}
  %bits = pred[5]{0} broadcast(%call), dimensions={}
  ROOT %tuple = (bf16[8,4]{1,0}, f32[8,2]{1,0}) tuple(%fusion, %element)
}
"""


def test_kernels_of_a_program():
    assert list(list_kernels(HLO)) == [
        Kernel("fusion", 64 + 64),
        Kernel("__cudnn$x", 64 + 16 + 64 + 32),
        Kernel("Triton: batch_norm", 12 + 32),
        Kernel("broadcast", 5 + 12),
    ]


def test_bytes_of_types():
    assert count_bytes("(bf16[2,3]{1,0}, f32[], s64[5]{0}, pred[7])") == 12 + 4 + 40 + 7
    assert count_bytes("token[]") == 0


def test_what_is_no_program():
    with pytest.raises(ValueError, match="expected the text of an HLO module"):
        list(list_kernels("func.func @main() {}"))
