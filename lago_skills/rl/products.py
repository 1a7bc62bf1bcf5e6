"""What small networks spend their time on, in single precision, by the fastest library at hand.

Matrix products by oneDNN on AMD's processors, by MKL, which torch's own go to, elsewhere.

oneDNN compiles its kernels for the processor it finds; MKL leaves half of the width of AMD Zen 5's registers
idle (one thread, 128 x 256 x 256: 154 microseconds by MKL, 80 by oneDNN; on Zen 4 169 by either; on an Intel Xeon with AMX 120 and 135, and
55 and 68 for 256 x 64 x 256). oneDNN copies a left side that is transposed, as in the gradients of weights, before it multiplies:
on Zen 4 194 microseconds beside 174 by MKL, so that MKL has those on all processors but Zen 5. Both add up in float32; they differ in rounding alone.

The hyperbolic tangent by NumPy: a seventh of the time of torch's on AVX-512 (Zen 4, 250 x 256: 23 beside 163 microseconds), as exact (6e-8).
"""

# torch leaves the types of its operators open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lago_skills.artifacts.processor import is_amd, is_zen5

SMALLEST = 64
"""Where a side is shorter, nothing is gained."""
_TRANSPOSES = is_zen5()


def onednn() -> Any:
    """Its product with a bias; None where torch has none."""
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)


_pointwise: Any = onednn() if is_amd() else None


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(M, K), (K, N) and perhaps (N,) -> (M, N); not differentiable."""
    rows, inner = a.shape
    small = inner < SMALLEST or rows < SMALLEST or b.shape[1] < SMALLEST
    if small or _pointwise is None or a.dtype != torch.float32 or not (_TRANSPOSES or a.is_contiguous()):
        return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)
    return _pointwise(_dense(a), _dense(b).t(), bias, "none", [], "")


def tanh_(values: Tensor) -> Tensor:
    """The hyperbolic tangent of each number, in their place; not differentiable."""
    array = values.numpy()
    np.tanh(array, out=array)
    return values


def _dense(matrix: Tensor) -> Tensor:
    """Without gaps between rows or columns: over them, oneDNN falls back on a plain loop."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()
