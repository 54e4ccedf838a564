"""Networks of actors and critics: perceptrons, with or without a GRU in front, called in one way.

Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder (2014), in the form of torch.nn.GRUCell.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.contract import Memory
from robot_rl.policies.networks import DeterministicActor, mlp, orthogonal_init

ACTOR_MEMORY = "actor_gru"
"""Name of the GRU's state in the contract of an exported policy."""


class PolicyNetwork(nn.Module):
    """Normalised observation → output. With `gru` > 0 a GRU of that size stands in front of the perceptron.

    States are (…, gru); without a GRU they have no elements, so that callers need not tell the two apart.

    Args:
        inputs, hidden, outputs: sizes of the perceptron.
        activation: name, see `networks.ACTIVATIONS`.
        gru: size of the GRU's state; 0: none.
        mixed_precision: matrix products in bfloat16. The last layer and the GRU's state stay float32, so that means
            and values keep their full resolution.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: str,
        gru: int = 0,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        self.gru_size, self.mixed_precision = gru, mixed_precision
        self.gru = nn.GRUCell(inputs, gru) if gru else None
        sizes = (gru or inputs, *hidden)
        self.body = mlp(sizes, activation, activation)
        self.head = nn.Linear(sizes[-1], outputs)

    def layers(self) -> nn.Sequential:
        """The perceptron alone, as plain layers (shared, not copied)."""
        return nn.Sequential(*self.body, self.head)

    @torch.no_grad()
    def initialise(self, gain: float, last_gain: float, generator: torch.Generator) -> None:
        """Orthogonal weights, gate by gate for the GRU; zero biases; `last_gain` for the last layer."""
        orthogonal_init(self.layers(), gain, last_gain, generator)
        if self.gru is not None:
            for gate in (*self.gru.weight_ih.chunk(3), *self.gru.weight_hh.chunk(3)):
                nn.init.orthogonal_(gate, generator=generator)
            self.gru.bias_ih.zero_()
            self.gru.bias_hh.zero_()

    def initial_state(self, count: int) -> Tensor:
        """State at the beginning of an episode, (count, gru)."""
        return self.head.weight.new_zeros(count, self.gru_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: x (N, n), state (N, gru) → output (N, m), next state (N, gru)."""
        if self.gru is None:
            return self._decoded(x), state
        with self._autocast(x):
            state = self._cell(F.linear(x, self.gru.weight_ih, self.gru.bias_ih), state)
        return self._decoded(state), state

    def sequence(self, x: Tensor, state: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """T steps with gradients through time. Without a GRU x may have any leading dimensions.

        Args:
            x: (T, B, n).
            state: (B, gru), before the first step.
            keep: (T, B), 0 where an episode begins at that step, else 1: what was before is forgotten there.

        Returns:
            output (T, B, m) and the state after each step (T, B, gru).
        """
        if self.gru is None:
            return self._decoded(x), x.new_zeros(*x.shape[:-1], 0)
        assert state is not None and keep is not None
        states: list[Tensor] = []
        with self._autocast(x):
            gates = F.linear(x, self.gru.weight_ih, self.gru.bias_ih)  # for all steps at once
            for gate, kept in zip(gates, keep.unsqueeze(-1), strict=True):
                state = self._cell(gate, state * kept)
                states.append(state)
        stacked = torch.stack(states)
        return self._decoded(stacked), stacked

    def _cell(self, gates: Tensor, state: Tensor) -> Tensor:
        """h′ = n + z (h − n) with reset gate r, update gate z and candidate n; `gates` is the input's part."""
        assert self.gru is not None
        r_x, z_x, n_x = gates.float().chunk(3, -1)
        r_h, z_h, n_h = F.linear(state, self.gru.weight_hh, self.gru.bias_hh).float().chunk(3, -1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        n = torch.tanh(n_x + r * n_h)
        return n + z * (state - n)

    def _decoded(self, x: Tensor) -> Tensor:
        with self._autocast(x):
            x = self.body(x)
        out: Tensor = self.head(x.float())
        return out

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.mixed_precision)


class RecurrentActor(nn.Module):
    """The deployed part of a recurrent policy: normaliser, GRU, perceptron, clamp; a frozen float32 copy.

    Attributes:
        memory: the GRU's state, which becomes `memory_in.actor_gru` and `memory_out.actor_gru` of the exported file.
    """

    def __init__(self, network: PolicyNetwork, normalizer: nn.Module | None = None) -> None:
        super().__init__()
        self.normalizer = copy.deepcopy(normalizer) if normalizer is not None else nn.Identity()
        self.network = copy.deepcopy(network)
        self.network.mixed_precision = False
        self.memory = (Memory(ACTOR_MEMORY, (network.gru_size,), (0.0,) * network.gru_size),)
        self.requires_grad_(False).eval()

    def forward(self, obs: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Map obs (N, n) and memory name → (N, gru) to the action (N, m) in [−1, 1] and the following memory."""
        action, state = self.network(self.normalizer(obs), memory[ACTOR_MEMORY])
        return action.clamp(-1.0, 1.0), {ACTOR_MEMORY: state}


def deployed_actor(network: PolicyNetwork, normalizer: nn.Module | None) -> nn.Module:
    """What `Algorithm.policy` gives back for a network: plain layers, or an actor with explicit memory; on the CPU."""
    if network.gru_size:
        return RecurrentActor(network, normalizer).cpu()
    return DeterministicActor(network.layers(), normalizer).cpu()
