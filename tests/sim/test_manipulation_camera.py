"""Pictures: only on request, of what is there, varied looks; augmentations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.sim.manipulation.augment import Augmentation
from robot_rl.sim.task_spec import make_env

PLAIN: dict[str, Any] = {
    "camera.pos": 0.0,
    "camera.angle": 0.0,
    "camera.light": (1.0, 1.0),
    "camera.light_pos": 0.0,
    "camera.colour": 0.0,
}


def env_of(task: str, num_envs: int = 2, **overrides: Any) -> Any:
    return make_env(task, num_envs, 0, overrides={"threads": 1, "camera.size": 64, **overrides})


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    try:
        return env_of("panda-insert", 2, **PLAIN, **{"camera.names": ("front", "wrist")}).signals()
    except MissingDependency as error:
        pytest.skip(f"no software rendering here: {error}")


def test_pictures_are_signals_besides_those_of_the_policy(pictures: dict[str, torch.Tensor]) -> None:
    for name in ("image_front", "image_wrist"):
        image = pictures[name]
        assert image.shape == (2, 64, 64, 3) and image.dtype == torch.uint8
        assert float(image.float().std()) > 10.0, "something is to be seen"
    env = env_of("panda-reach")
    assert not any(s.name.startswith("image") for s in env.observer.signals)
    assert not torch.equal(pictures["image_front"][0], pictures["image_front"][1])  # the block stands elsewhere


def test_without_a_size_there_are_no_pictures() -> None:
    assert not any(name.startswith("image") for name in env_of("panda-reach", **{"camera.size": 0}).signals())


def test_a_picture_shows_the_present_and_looks_vary(pictures: dict[str, torch.Tensor]) -> None:
    del pictures  # skips where nothing can be rendered
    env = env_of("panda-pick", **PLAIN)
    before, again = env.signals()["image_front"], env.signals()["image_front"]
    assert torch.equal(before, again)
    for _ in range(10):
        env.step(torch.tensor([[0.0, 1.0, -1.0, 0.0, 1.0]] * 2))
    assert (env.signals()["image_front"].float() - before.float()).abs().mean() > 1.0
    varied = env_of("panda-pick")
    assert varied.looks.unique().numel() == varied.looks.numel() > 0
    changed = (varied.signals()["image_front"].float() - before.float()).abs().mean()
    assert changed > 2.0
    copy = env_of("panda-pick")
    copy.step(torch.zeros(2, 5))
    copy.load_state_dict(varied.state_dict())
    assert torch.equal(copy.signals()["image_front"], varied.signals()["image_front"])


def test_augmentations_change_pictures_a_little_and_keep_their_form() -> None:
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (6, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    copy = images.copy()
    out = Augmentation()(images, np.random.default_rng(1))
    assert out.shape == images.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(images, copy)
    np.testing.assert_array_equal(out, Augmentation()(images, np.random.default_rng(1)))
    assert all(not np.array_equal(a, b) for a, b in zip(images, out, strict=True))
    off = Augmentation(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(off(images, rng), images)
    moved = Augmentation(4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)(images, rng)
    inner = images[0, 8:-8, 8:-8]
    shifts = [moved[0, 8 + y : 56 + y, 8 + x : 56 + x] for x in range(-4, 5) for y in range(-4, 5)]
    assert any(np.array_equal(inner, s) for s in shifts), "a shift moves whole pixels"


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue", "blur", "cutout"])
def test_each_augmentation_does_something_by_itself(part: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "blur", "cutout"), 0.0)
    strong = 60.0 if part == "hue" else 2.0 if part == "blur" else 0.5
    out = Augmentation(shift=0, **{**none, part: strong})(images, rng)
    assert not np.array_equal(out, images)


def test_wrong_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected \(N, H, W, 3\) uint8"):
        Augmentation()(np.zeros((1, 8, 8, 3), np.float32), np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="shift"):
        Augmentation(shift=-1)
