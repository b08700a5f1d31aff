"""The Fisher matrix of a policy, written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from ppolab.core.distributions import ActionDistribution, DiagonalGaussian, Joint, MultiCategorical
from ppolab.learning.interface import LearnerContext, actor_parameters
from ppolab.learning.policy_step_learner import ActorOnBatch


def explicit_fisher(parts: LearnerContext, batch: ActorOnBatch, vector: Tensor) -> Tensor:
    """The mean over observations of J' I J: J by the network, I the family's Fisher matrix in its own parameters."""
    policy, actor, samples = parts.policy, actor_parameters(parts), batch._samples

    def outputs(point: Tensor) -> Tensor:
        named = {**dict(policy.named_parameters()), **actor.substitutes(point)}
        return functional_call(policy, named, (samples.observations,))[0]

    jacobians: Tensor = jacrev(outputs)(vector)  # [B, P, K]
    parameters = outputs(vector)
    information = torch.stack([information_of(policy.distribution, row) for row in parameters])
    return torch.einsum("bpk,bpq,bql->kl", jacobians, information, jacobians) / len(parameters)


def information_of(family: ActionDistribution, parameters: Tensor) -> Tensor:
    """[P, P]: diag(1 / sd^2, 2) of a Gaussian's (mean, log sd); diag(p) - p p' of logits, component by component."""
    if isinstance(family, Joint):
        own = parameters.split([part.parameter_size for part in family.parts])
        return torch.block_diag(*map(information_of, family.parts, own))
    if isinstance(family, DiagonalGaussian):
        log_std = parameters.chunk(2)[1]
        return torch.diag(torch.cat(((-2 * log_std).exp(), torch.full_like(log_std, 2.0))))
    if isinstance(family, MultiCategorical):
        blocks = [part.softmax(0) for part in parameters.split(list(family.sizes))]
        return torch.block_diag(*(torch.diag(p) - torch.outer(p, p) for p in blocks))
    probability = parameters.sigmoid()
    return torch.diag(probability * (1 - probability))
