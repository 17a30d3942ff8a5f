"""Load tests of `zoo serve`, beside the same server around onnxruntime."""
