"""A linear layer that oneDNN computes is the one that PyTorch computes."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad_and_value

from ppolab.learning.wide_layers import WideLinear, product, usable


def test_values_and_gradients_are_those_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    wide, plain = WideLinear(40, 30), torch.nn.Linear(40, 30)
    plain.load_state_dict(wide.state_dict())
    rows = torch.randn((7, 40), requires_grad=True)
    results = []
    for layer in (wide, plain):
        outputs = layer(rows)
        gradients = torch.autograd.grad(outputs.square().sum(), [rows, *layer.parameters()])
        results.append([outputs.detach(), *gradients])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_is_the_function_that_is_differentiated_whole() -> None:
    torch.manual_seed(0)
    layer, rows = WideLinear(5, 3), torch.randn((2, 5))

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = functional_call(layer, parameters, (rows,)).sum()
        return result

    gradients, _ = grad_and_value(loss)(dict(layer.named_parameters()))
    assert torch.allclose(gradients["weight"], rows.sum(0).expand(3, 5))
    assert gradients["bias"].tolist() == [2.0, 2.0, 2.0]


def test_its_second_derivative_is_right() -> None:
    rows, weights = torch.randn((2, 3), requires_grad=True), torch.randn((4, 3), requires_grad=True)
    slope = torch.autograd.grad(product(rows, weights).square().sum(), rows, create_graph=True)[0]
    second = torch.autograd.grad(slope.sum(), rows)[0]
    assert torch.allclose(second, (2 * weights.T @ weights).sum(0).expand(2, 3).detach(), rtol=1e-4, atol=1e-5)


def test_without_a_gradient_it_is_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("oneDNN was asked")

    monkeypatch.setattr("ppolab.learning.wide_layers.product", refuse)
    layer = WideLinear(4, 2)
    with torch.no_grad():
        assert layer(torch.zeros((1, 4))).equal(layer.bias[None])
    with pytest.raises(AssertionError, match="oneDNN was asked"):
        layer(torch.zeros((1, 4)))


def test_shorter_numbers_and_further_dimensions_are_left_to_pytorch() -> None:
    assert usable(torch.zeros((2, 3)))
    assert not usable(torch.zeros((2, 2, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert not usable(torch.zeros((2, 3)))
