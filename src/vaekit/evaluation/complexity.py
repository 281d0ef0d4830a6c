"""How many bits a lossless compressor needs for an example: how complex it is, whatever a model thinks of it."""

# B batch, (C, H, W) image

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

# beyond that a level takes more than a byte
_BYTE = 256

Whole = npt.NDArray[Any]


def compressed_bits(x: Tensor, levels: int | None) -> Tensor:
    """Bits of each example in the shortest of the codes that we have for it, headers included.

    An image of one or three channels is written as PNG and, as every example, its bytes by zlib (DEFLATE), both at their highest
    level; one of 0 and 1 as PNG of one bit a pixel too. Each example is compressed by itself.

    Arguments:
        x: Examples as a model sees them, shape (B, *x).
        levels: M where every value is one of 0, 1/(M-1), ..., 1; None where values are counts.

    Returns:
        float64, shape (B,).

    References:
        | Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models (Serra et al., 2020), section 3
        | https://arxiv.org/abs/1909.11480
    """
    whole = _whole(x.detach().cpu(), levels)
    return torch.tensor([8.0 * min(map(len, _codes(example, levels))) for example in whole], dtype=torch.float64)


def _whole(x: Tensor, levels: int | None) -> Whole:
    scaled = x.double() if levels is None else x.double() * (levels - 1)
    kind = np.uint8 if levels is not None and levels <= _BYTE else np.uint32
    found: Whole = scaled.round().numpy().astype(kind)
    return found


def _codes(example: Whole, levels: int | None) -> list[bytes]:
    codes = [zlib.compress(example.tobytes(), 9)]
    if example.ndim == 3 and example.shape[0] in (1, 3) and example.dtype == np.uint8:
        pixels = example[0] if len(example) == 1 else np.ascontiguousarray(example.transpose(1, 2, 0))
        codes.append(_png(Image.fromarray(pixels)))
        if levels == 2 and len(example) == 1:
            codes.append(_png(Image.fromarray(pixels.astype(np.bool_))))
    return codes


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
