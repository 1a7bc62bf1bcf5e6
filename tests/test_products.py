"""Products and tangents by whichever library, beside double precision."""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false

from __future__ import annotations

import pytest
import torch

from lago_skills.artifacts import processor
from lago_skills.rl import products


@pytest.mark.parametrize("amd", [True, False])
@pytest.mark.parametrize("transposes", [True, False])
@pytest.mark.parametrize("layout", ["rows", "columns", "transposed", "part"])
@pytest.mark.parametrize("inner", [8, 96])  # below and above the size from which products are oneDNN's
def test_products_are_right_in_every_layout(
    inner: int, layout: str, transposes: bool, amd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_TRANSPOSES", transposes)
    monkeypatch.setattr(products, "_pointwise", products.onednn() if amd else None)
    torch.manual_seed(0)
    a = torch.randn(inner, 80).T if layout == "transposed" else torch.randn(80, 2 * inner)[:, :inner]
    a = a if layout in ("transposed", "part") else a.contiguous()
    b = torch.randn(70, inner).T if layout == "columns" else torch.randn(inner, 70)
    bias = torch.randn(70)
    for found, added in ((products.product(a, b), 0.0), (products.product(a, b, bias), bias.double())):
        torch.testing.assert_close(found.double(), a.double() @ b.double() + added, rtol=1e-4, atol=1e-4)


def test_the_tangent_is_taken_in_place() -> None:
    values = torch.linspace(-12.0, 12.0, 10_001)
    expected = values.double().tanh()
    assert products.tanh_(values) is values
    assert float((values.double() - expected).abs().max()) < 2e-7


@pytest.mark.parametrize(
    ("found", "zen5", "name"),
    [
        ({"vendor_id": "AuthenticAMD", "cpu family": "26", "model": "2", "model name": "A"}, True, "A, family 26, model 2"),
        ({"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "model name": "B"}, False, "B, family 25, model 17"),
        ({"vendor_id": "GenuineIntel", "cpu family": "26", "model": "1", "model name": "C"}, False, "C, family 26, model 1"),
        ({}, False, ""),
    ],
)  # fmt: skip
def test_processors_are_told_apart(
    found: dict[str, str], zen5: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_first", lambda: found)
    assert processor.is_zen5() is zen5
    assert processor.is_amd() is (found.get("vendor_id") == "AuthenticAMD")
    assert name in processor.processor()
