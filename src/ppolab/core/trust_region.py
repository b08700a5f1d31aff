"""Measure steps by how far they move a distribution, on parameters that are one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""A matrix [P, P], as the function that multiplies it with a vector [P]."""


def conjugate_gradient(product: Product, target: Tensor, steps: int, tolerance: float = 1e-10) -> Tensor:
    """Return x [P] with A x = target, for a positive definite A.

    Hestenes & Stiefel 1952, section 3; Schulman et al. 2015 (arXiv:1502.05477), appendix C.1, use ten steps.

    Args:
        product: A.
        target: [P].
        steps: at most so many products.
        tolerance: it ends before, once the squared residual is this small beside that of x = 0.
    """
    solution, residual = torch.zeros_like(target), target.clone()
    direction = residual.clone()
    squared = residual @ residual
    enough = tolerance * float(squared)
    for _ in range(steps):
        if float(squared) <= enough:
            break
        image = product(direction)
        length = squared / (direction @ image)
        solution += length * direction
        residual -= length * image
        before, squared = squared, residual @ residual
        direction = residual + squared / before * direction
    return solution


def fisher_vector_product(divergence: Callable[[Tensor], Tensor], vector: Tensor) -> Product:
    """Return v -> F v for the Fisher matrix F of a distribution at the parameters `vector` [P], without computing F.

    F is the Hessian of KL(old || new) by the new parameters, where new = old (Schulman et al. 2015, appendix C): the
    gradient of (gradient of the KL, times v).

    Args:
        divergence: the mean KL(old || new) [] of new parameters [P] from those of `vector`.
    """
    point = vector.detach().requires_grad_()
    (slope,) = torch.autograd.grad(divergence(point), point, create_graph=True)

    def product(direction: Tensor) -> Tensor:
        (result,) = torch.autograd.grad(slope @ direction, point, retain_graph=True)
        return result

    return product


def damped(product: Product, damping: float) -> Product:
    """Return A + damping I, which keeps the solution short where A is nearly singular."""
    return lambda direction: product(direction) + damping * direction


def step_of_length(direction: Tensor, product: Product, max_kl: float) -> Tensor:
    """Return sqrt(2 max_kl / x'Fx) x: the step along x whose KL is `max_kl` by its quadratic model, x'Fx / 2.

    Schulman et al. 2015, appendix C. Where x'Fx is not positive, the step is 0.
    """
    curvature = direction @ product(direction)
    if float(curvature) <= 0:
        return torch.zeros_like(direction)
    return (2 * max_kl / curvature).sqrt() * direction


def backtracked(accepts: Callable[[float], bool], steps: int, backtrack: float) -> float:
    """Return the longest accepted of the fractions 1, backtrack, backtrack^2, ...; 0 if none of `steps` is accepted.

    Schulman et al. 2015, appendix C.
    """
    return next((backtrack**k for k in range(steps) if accepts(backtrack**k)), 0.0)
