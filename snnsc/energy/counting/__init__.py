"""From a plan and samples to exact counts: the counting runs inside onnxruntime."""
