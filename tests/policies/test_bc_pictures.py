"""Cloning what is seen: where things are must come from the picture alone, and one file carries all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import PointMass

from robot_rl.data.episode import DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.observer import Observer, WithPictures
from robot_rl.policies.algorithms.bc import Bc, BcConfig
from robot_rl.policies.imitation.pictures import Eyes, shifted
from robot_rl.signals import Signal

SIZE = 16
SMALL = {
    "hidden": (32, 32), "updates": 400, "updates_per_iteration": 100, "learning_rate": 3e-3, "batch_size": 64,
    "keypoints": 4, "shift": 0, "images": ("top",),
}  # fmt: skip


class Looking(PointMass):
    """The mass's place is only in the picture: a bright column where it is; the group has its velocity."""

    def __init__(self, num_envs: int = 1) -> None:
        super().__init__(num_envs)
        self.obs_dims = {"policy": 1}
        self.pictures = (Signal("image_top", (SIZE, SIZE, 3)),)

    def _obs(self):
        return {"policy": self.state[:, 1:].clone()}

    def signals(self):
        return {"image_top": drawn(self.state[:, 0])}


def drawn(place: torch.Tensor) -> torch.Tensor:
    """(N, SIZE, SIZE, 3) uint8: brightness falls off around the column of `place`, from −2 to 2."""
    column = (place / 4.0 + 0.5) * (SIZE - 1)
    bright = (255.0 * torch.exp(-(((torch.arange(SIZE) - column[:, None]) / 1.5) ** 2))).to(torch.uint8)
    return bright[:, None, :, None].expand(-1, SIZE, SIZE, 3).contiguous()


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> str:
    path, env, episodes = tmp_path_factory.mktemp("seen") / "a.rrl", Looking(12), 12
    env.reset(3)
    seen, pictures, done = [], [], []
    for t in range(51):
        seen.append(env.state[:, 1:].clone())
        pictures.append(env.signals()["image_top"])
        if t < 50:
            done.append(-(2.0 * env.state[:, :1] + 2.0 * env.state[:, 1:]).clamp(-1.0, 1.0))
            seen_last = env.step(done[-1])
    del seen_last
    features = {"obs/policy": Feature(shape=(1,)), "image/top": Feature("uint8", (SIZE, SIZE, 3))}
    with EpisodeStore.create(path, DataSpec(0.1, features | {"action": Feature(shape=(1,))})) as store:
        for i in range(episodes):
            rows = {"obs/policy": seen, "image/top": pictures, "action": done}
            arrays = {name: torch.stack(value)[:, i].numpy() for name, value in rows.items()}
            store.append(Episode(arrays, False, True, True))
    return str(path)


def trained(demos: str, **changes) -> tuple[Bc, list[dict[str, float]]]:
    env = Looking()
    learned, rows = Bc(env, BcConfig(demos=demos, **(SMALL | changes)), 0), []
    while learned.progress[0] < learned.progress[1]:
        rows.append(learned.step(env))
    return learned, rows


def test_a_clone_finds_in_the_picture_what_nothing_else_says(demos):
    learned, _ = trained(demos)
    blind, _ = trained(demos, images=())
    env, policy = Looking(200), learned.policy()
    assert policy.pictures == env.pictures
    totals = {}
    for name, actor in (("seeing", policy), ("blind", blind.policy())):
        obs, total = env.reset(99), torch.zeros(200)
        for _ in range(50):
            flat = [obs["policy"], *([env.signals()["image_top"].flatten(1).float()] if name == "seeing" else [])]
            step = env.step(actor(torch.cat(flat, 1)))
            total, obs = total + step.reward, step.obs
        totals[name] = total.mean().item()
    assert totals["seeing"] > 44.0 > 42.0 > totals["blind"], totals


def test_a_resumed_clone_with_pictures_is_the_same(demos):
    changes = {"updates": 40, "updates_per_iteration": 20, "shift": 2, "head": "flow", "horizon": 4, "width": 16}
    whole, _ = trained(demos, **changes)
    env, config = Looking(), BcConfig(demos=demos, **(SMALL | changes))
    first, second = Bc(env, config, 0), Bc(env, config, 0)
    first.step(env)
    second.load_state_dict(first.state_dict())
    second.step(env)
    for a, b in zip(whole.parameters, second.parameters, strict=True):
        assert torch.equal(a, b)


def test_eyes_say_where_something_is_and_shifting_moves_it():
    eyes = Eyes(1, 2)
    with torch.no_grad():  # brightness through: the place is where it is bright
        for layer in (eyes.each[0][0], eyes.each[0][2], eyes.each[0][4]):
            layer.weight.zero_()
            layer.bias.zero_()
            middle = layer.weight.shape[-1] // 2
            layer.weight[:, 0, middle, middle] = 4.0
    picture = torch.zeros(3, 1, 32, 32, 3)
    picture[0, 0, 4:8, 24:28] = 255.0  # above and to the right
    picture[1, 0, 24:28, 4:8] = 255.0
    picture[2, 0, 14:18, 14:18] = 255.0
    x, _, y, _ = eyes(picture).unbind(1)
    assert x[0] > 0.4 and y[0] < -0.4 and x[1] < -0.4 and y[1] > 0.4 and x[2].abs() < 0.2 and y[2].abs() < 0.2


def test_a_random_shift_repeats_the_border_and_moves_every_picture_by_itself():
    pictures = torch.randint(256, (20, 2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    moved = shifted(pictures, 2, torch.Generator().manual_seed(1))
    assert moved.dtype == torch.uint8 and torch.equal(shifted(pictures, 0, torch.Generator()), pictures)
    padded = np.pad(pictures.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    found = set()
    for i in range(20):
        for c in range(2):
            fits = [
                (y, x)
                for y in range(5)
                for x in range(5)
                if np.array_equal(padded[i, c, y : y + 8, x : x + 8], moved[i, c].numpy())
            ]
            assert len(fits) == 1
            found.add(fits[0])
    assert len(found) > 10


class Low(Observer):
    signals, obs_dim = (Signal("joint_pos", (2,), "rad"),), 2

    def forward(self, signals, memory):
        return 3.0 * signals["joint_pos"], {"seen": torch.ones(1)}

    def record(self, memory, action):
        return {"recorded": action}


def test_an_observer_with_pictures_adds_them_flat_and_remembers_as_before():
    observer = WithPictures(Low(), (Signal("image_a", (2, 2, 3)), Signal("image_b", (1, 1, 3))))
    assert observer.obs_dim == 17 and [s.name for s in observer.signals] == ["joint_pos", "image_a", "image_b"]
    a, b = torch.arange(12, dtype=torch.uint8).view(1, 2, 2, 3), torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    obs, memory = observer({"joint_pos": torch.tensor([[1.0, 2.0]]), "image_a": a, "image_b": b}, {})
    assert obs.tolist() == [[3.0, 6.0, *map(float, range(12)), 255.0, 255.0, 255.0]] and list(memory) == ["seen"]
    assert list(observer.record({}, torch.zeros(1, 1))) == ["recorded"]


def test_pictures_that_are_not_there_are_named(demos, tmp_path):
    with pytest.raises(ConfigError, match=r"images = \['front'\]: the environment gives top; .*task\.camera\.size=64"):
        Bc(Looking(), BcConfig(images=("front",)), 0)
    with pytest.raises(ConfigError, match="the environment gives no pictures"):
        Bc(PointMass(), BcConfig(images=("front",)), 0)
    env = Looking()
    env.pictures = (Signal("image_top", (8, 8, 3)),)
    with pytest.raises(ConfigError, match=r"'image/top' has rows of shape \(16, 16, 3\), this task needs \(8, 8, 3\)"):
        Bc(env, BcConfig(demos=demos, images=("top",)), 0).prepare(env)
