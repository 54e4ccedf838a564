"""A small package with the interface of LeRobot's inference, as its sources (0.4 to 0.6) describe it; not LeRobot.

Processors normalise by mean and deviation, the post-processor takes (B, A) only, queues belong to the whole batch, and
whatever the real ones would refuse is refused here.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

MEAN, STD = 0.5, 2.0


class PreTrainedConfig(SimpleNamespace):
    @classmethod
    def from_pretrained(cls, path: str) -> PreTrainedConfig:
        data = json.loads((Path(path) / "config.json").read_text())
        features = {k: SimpleNamespace(**v) for k, v in data.pop("input_features").items()}
        return cls(**data, input_features=features, device="cuda")


class Linear(nn.Module):
    """Chunk k = k / 10 + weights · normalised state, in normalised units; one observation, queue of the batch."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        size = config.input_features["observation.state"].shape[0] if config.input_features else 1
        self.weight = nn.Parameter(torch.linspace(-0.3, 0.3, size * config.action_dim).view(size, config.action_dim))
        self.reset()

    @classmethod
    def from_pretrained(cls, path: str, *, config: PreTrainedConfig | None = None) -> Linear:
        assert config is not None and Path(path).is_dir()
        return cls(config)

    def reset(self) -> None:
        self.queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self.seen: deque[Tensor] = deque(maxlen=self.config.n_obs_steps)

    def predict_action_chunk(self, batch: dict[str, Any]) -> Tensor:
        state = batch["observation.state"]
        for key in self.config.input_features:
            assert key in batch, key
        if self.config.n_obs_steps > 1:
            assert self.seen, "online prediction needs select_action"
            state = torch.stack(list(self.seen), 1).mean(1)
        steps = torch.arange(self.config.chunk_size)[None, :, None] / 10.0
        return (state @ self.weight)[:, None] + steps

    def select_action(self, batch: dict[str, Any]) -> Tensor:
        state = batch["observation.state"]
        while True:
            self.seen.append(state)
            if len(self.seen) == self.config.n_obs_steps:
                break
        if not self.queue:
            chunk = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            self.queue.extend(chunk.transpose(0, 1))
        return self.queue.popleft()


def get_policy_class(name: str) -> type[Linear]:
    if name != "linear":
        raise ValueError(f"Policy type '{name}' is not available.")
    return Linear


def make_pre_post_processors(
    policy_cfg: PreTrainedConfig, pretrained_path: str | None = None, **overrides: Any
) -> tuple[Any, Any]:
    assert pretrained_path and overrides["preprocessor_overrides"]["device_processor"]["device"] == policy_cfg.device

    def before(batch: dict[str, Any]) -> dict[str, Any]:
        count = len(batch["observation.state"])
        assert isinstance(batch["task"], list) and len(batch["task"]) == count
        for key, value in batch.items():
            if key.startswith("observation.images."):
                assert value.shape == (count, *policy_cfg.input_features[key].shape) and value.dtype == torch.float32
                assert float(value.min()) >= 0.0 and float(value.max()) <= 1.0
        return {**batch, "observation.state": (batch["observation.state"] - MEAN) / STD}

    def after(action: Tensor) -> Tensor:
        assert action.ndim == 2, "one action per environment"
        return action * 0.5

    return before, after


def install(monkeypatch: Any) -> None:
    """Make it importable as `lerobot`."""
    parts = {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": {"PreTrainedConfig": PreTrainedConfig},
        "lerobot.policies": {},
        "lerobot.policies.factory": {
            "get_policy_class": get_policy_class,
            "make_pre_post_processors": make_pre_post_processors,
        },
    }
    for name, content in parts.items():
        module = ModuleType(name)
        module.__path__ = []
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


def write(folder: Path, state: int, action_dim: int, picture: int = 0, **changes: Any) -> str:
    """A pretrained folder of such a policy."""
    features = {"observation.state": {"type": "STATE", "shape": [state]}}
    if picture:
        features["observation.images.front"] = {"type": "VISUAL", "shape": [3, picture, picture]}
    config = {"type": "linear", "n_obs_steps": 1, "chunk_size": 6, "n_action_steps": 3, "action_dim": action_dim}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"input_features": features, **config, **changes}))
    return str(folder)
