"""Attention as plain products: its fused kernels have no second derivatives."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel

from geomadv.classifier.precision import one_form_of_attention


@contextmanager
def plain_attention() -> Iterator[None]:
    """Inside, `scaled_dot_product_attention` and transformer layers are plain operations."""
    with one_form_of_attention(), sdpa_kernel([SDPBackend.MATH]):
        yield
