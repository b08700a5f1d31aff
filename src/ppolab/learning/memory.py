"""Remember what an episode has shown so far: recurrent layers between hidden layers and heads.

A state is [K, B, H]: K rows of H numbers for each of B environments or sequences. A layer has one row, an LSTM's two:
its output and its cell. Before an episode's first observation a state is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppolab.config.schema import Config, ModelConfig


class GruLayer(nn.Module):
    """A gated recurrent unit: Cho et al. 2014 (arXiv:1406.1078), in the form of `torch.nn.GRU`.

        r_t = sigmoid(W_r x_t + U_r h_{t-1})         z_t = sigmoid(W_z x_t + U_z h_{t-1})
        n_t = tanh(W_n x_t + r_t * (U_n h_{t-1}))    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Each product has a bias. `inputs` holds W_r, W_z, W_n one below the other, `recurrent` the same of U.
    """

    rows = 1
    gates = 3

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, self.gates * size)
        self.recurrent = nn.Linear(size, self.gates * size)

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """Return the state [1, B, H] after a step.

        Args:
            projected: [B, 3H], `inputs` of x_t. state: [1, B, H] before it.
        """
        before = state[0]
        size = before.shape[-1]
        products: Tensor = self.recurrent(before)
        reset, keep = (projected[:, : 2 * size] + products[:, : 2 * size]).sigmoid().chunk(2, dim=-1)
        new = torch.tanh(projected[:, 2 * size :] + reset * products[:, 2 * size :])
        after: Tensor = new + keep * (before - new)
        return after.unsqueeze(0)


class LstmLayer(nn.Module):
    """Long short-term memory: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.

        i_t, f_t, o_t = sigmoid(W x_t + U h_{t-1} + b) each with its own    g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t                                     h_t = o_t * tanh(c_t)

    `inputs` holds the W of i, f, g, o one below the other, and their biases; `recurrent` the same of U.
    """

    rows = 2
    gates = 4

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, self.gates * size)
        self.recurrent = nn.Linear(size, self.gates * size, bias=False)

    def step(self, projected: Tensor, state: Tensor) -> Tensor:
        """Return the state [2, B, H], h and c, after a step; arguments as in `GruLayer.step`."""
        enter, forget, new, leave = (projected + self.recurrent(state[0])).chunk(4, dim=-1)
        cell = forget.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
        return torch.stack((leave.sigmoid() * cell.tanh(), cell))


OverSteps = Callable[[GruLayer | LstmLayer, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""What `one_by_one` is."""
LAYERS: dict[str, type[GruLayer | LstmLayer]] = {"gru": GruLayer, "lstm": LstmLayer}


class Memory(nn.Module):
    """Recurrent layers, one after another.

    Attributes:
        size: H. rows: K.
        over_steps: makes the steps of a layer, faster than one by one; used where nobody differentiates twice.
    """

    over_steps: OverSteps | None

    def __init__(self, kind: str, inputs: int, size: int, layers: int) -> None:
        super().__init__()
        made = [LAYERS[kind](inputs if index == 0 else size, size) for index in range(layers)]
        self.layers = nn.ModuleList(made)
        self.size = size
        self.rows = sum(layer.rows for layer in made)
        self.over_steps = None

    def forward(self, features: Tensor, state: Tensor, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs [T, B, H] of all steps, and the state [K, B, H] after the last.

        Args:
            features: [T, B, F].
            state: [K, B, H] before the first step.
            starts: [T, B] bool, where a step is the first of an episode: the state before it is 0. None: nowhere.
        """
        keep = None if starts is None else (~starts).to(features.dtype).unsqueeze(-1)
        is_once = self.training or not torch.is_grad_enabled()
        over_steps = self.over_steps if self.over_steps and is_once and len(features) > 1 else one_by_one
        last = []
        parts = torch.split(state, [layer.rows for layer in self._made])
        for layer, own in zip(self._made, parts, strict=True):
            features, own = over_steps(layer, layer.inputs(features), own, keep)
            last.append(own)
        return features, torch.cat(last)

    def initialize_orthogonally(self) -> None:
        """Draw an orthogonal matrix for every gate; biases are 0."""
        for layer in self._made:
            for linear in (layer.inputs, layer.recurrent):
                for gate in linear.weight.detach().chunk(layer.gates):
                    nn.init.orthogonal_(gate)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    @property
    def _made(self) -> list[GruLayer | LstmLayer]:
        return list(self.layers)  # type: ignore[arg-type]


def one_by_one(
    layer: GruLayer | LstmLayer, projected: Tensor, state: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return outputs [T, B, H] and last state of one layer.

    Args:
        projected: [T, B, G], `inputs` of all steps.
        keep: [T, B, 1], 0 where the state before a step is forgotten, else 1.
    """
    outputs = []
    kept = [None] * len(projected) if keep is None else keep.unbind()
    for products, share in zip(projected.unbind(), kept, strict=True):
        state = layer.step(products, state if share is None else state * share)
        outputs.append(state[0])
    return torch.stack(outputs), state


def note_on_memory(config: Config) -> str | None:
    """Return a line on settings of memory that a policy without it does not read; None where there are none."""
    if config.model.has_memory:
        return None
    given = {
        "model.memory_size": (config.model.memory_size, ModelConfig.memory_size),
        "model.memory_layers": (config.model.memory_layers, ModelConfig.memory_layers),
        "sequence_length": (config.sequence_length, Config.sequence_length),
    }
    changed = [f"{name}={value}" for name, (value, default) in given.items() if value != default]
    return f"{', '.join(changed)}: not read, since model.memory=none; set model.memory=gru or lstm" if changed else None


def make_memory(model: ModelConfig, inputs: int) -> Memory | None:
    """Return the memory that the configuration asks for; None: none."""
    if model.memory == "none":
        return None
    return Memory(model.memory, inputs, model.memory_size, model.memory_layers)
