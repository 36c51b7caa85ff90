"""The Open Inference Protocol, `/v2`: metadata, statistics and inference with JSON and binary tensors.

The protocol is Triton's and KServe's (https://github.com/kserve/open-inference-protocol), with Triton's extensions for
binary tensors and statistics. What answers is the same as for `/v1`.
"""
