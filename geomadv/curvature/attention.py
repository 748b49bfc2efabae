"""Attention as plain products: its fused kernels have no second derivatives."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain_attention() -> Iterator[None]:
    """Inside, `scaled_dot_product_attention` and transformer layers are made of plain operations.

    In evaluation mode and without gradients (as in a trace) `nn.TransformerEncoderLayer` and
    `nn.MultiheadAttention` would otherwise be one fused operation each.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel([SDPBackend.MATH]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
