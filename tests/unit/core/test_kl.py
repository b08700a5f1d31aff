"""The three sample estimates of the KL divergence against the analytic one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ppolab.core.kl import kl_k1, kl_k2, kl_k3

SAMPLES = 200_000
PAIRS = [(Normal(0.0, 1.0), Normal(0.1, 1.0)), (Normal(0.0, 1.0), Normal(0.5, 1.3)), (Normal(1.0, 0.5), Normal(1, 0.6))]


def log_ratios(old: Normal, new: Normal) -> Tensor:
    torch.manual_seed(0)
    samples = old.sample((SAMPLES,)).double()
    return new.log_prob(samples) - old.log_prob(samples)


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("estimate", [kl_k1, kl_k3])
def test_k1_and_k3_are_unbiased(estimate, old: Normal, new: Normal) -> None:
    estimates = estimate(log_ratios(old, new))
    standard_error = estimates.std().item() / SAMPLES**0.5
    assert abs(estimates.mean().item() - kl_divergence(old, new).item()) < 4 * standard_error


def test_k2_is_close_for_policies_that_are_close_and_biased_for_others() -> None:
    near = kl_k2(log_ratios(*PAIRS[0])).mean().item()
    assert near == pytest.approx(kl_divergence(*PAIRS[0]).item(), rel=0.02)
    far = kl_k2(log_ratios(*PAIRS[1]))
    assert abs(far.mean().item() - kl_divergence(*PAIRS[1]).item()) > 10 * far.std().item() / SAMPLES**0.5


def test_k3_has_less_variance_than_k1() -> None:
    ratios = log_ratios(*PAIRS[0])
    assert kl_k3(ratios).std() < 0.2 * kl_k1(ratios).std()


@given(st.floats(-20, 20))
def test_k2_and_k3_are_never_negative(log_ratio: float) -> None:
    value = torch.tensor(log_ratio, dtype=torch.float32)
    assert kl_k3(value) >= 0 and kl_k2(value) >= 0


def test_k3_keeps_its_digits_for_tiny_ratios() -> None:
    assert kl_k3(torch.tensor(1e-3)).item() == pytest.approx(5.0017e-7, rel=0.05)  # x^2/2 + x^3/6; float32


def test_literal_values() -> None:
    log_two = torch.tensor(2.0, dtype=torch.float64).log()
    assert kl_k1(log_two).item() == pytest.approx(-0.6931471805599453)
    assert kl_k2(log_two).item() == pytest.approx(0.2402265069591007)
    assert kl_k3(log_two).item() == pytest.approx(0.3068528194400547)
