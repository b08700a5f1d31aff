"""The Fisher matrix of a policy, written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from ppolab.learning.actor_critic import ActorCritic
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
    information = torch.stack([information_of(policy, row) for row in parameters])
    return torch.einsum("bpk,bpq,bql->kl", jacobians, information, jacobians) / len(parameters)


def information_of(policy: ActorCritic, parameters: Tensor) -> Tensor:
    """[P, P]: diag(1 / sd^2, 2) of a Gaussian's (mean, log sd); diag(p) - p p' of logits, component by component."""
    if policy.log_std is not None:
        log_std = parameters.chunk(2)[1]
        return torch.diag(torch.cat(((-2 * log_std).exp(), torch.full_like(log_std, 2.0))))
    sizes = getattr(policy.distribution, "sizes", None)
    if sizes is None:
        probability = parameters.sigmoid()
        return torch.diag(probability * (1 - probability))
    blocks = [part.softmax(0) for part in parameters.split(list(sizes))]
    return torch.block_diag(*(torch.diag(p) - torch.outer(p, p) for p in blocks))
