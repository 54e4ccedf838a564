"""Data sets of other projects, written with their container libraries alone, and a round trip of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_rl.cli import main
from robot_rl.data.episode import DataSpec, Episode, Feature
from robot_rl.data.store import EpisodeStore

SPEC = DataSpec(
    0.04,
    {
        "obs/joint_pos": Feature("float32", (3,), "rad", ("a", "b", "c")),
        "obs/grid": Feature("float64", (2, 3)),
        "obs/phase": Feature("float32"),
        "image/front": Feature("uint8", (32, 48, 3)),
        "action": Feature("float32", (2,)),
        "action_proposed": Feature("float32", (2,)),
        "reward": Feature(),
        "cost/force": Feature("float64"),
        "intervention": Feature("bool"),
    },
    task="panda-push",
    robot="panda",
    facts={"operator": "scripted"},
)


def picture(value: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A smooth picture whose blue tells its number, so that films hardly change it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, 2 * y, np.full_like(x, value % 256)], -1).astype(np.uint8)


def pictures(first: int, count: int, step: int = 6) -> np.ndarray:
    return np.stack([picture(first + step * k) for k in range(count)])


def episode(steps: int, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    arrays = {
        "obs/joint_pos": rng.normal(size=(steps + 1, 3)).astype(np.float32),
        "obs/grid": rng.normal(size=(steps + 1, 2, 3)),
        "obs/phase": np.arange(steps + 1, dtype=np.float32),
        "image/front": pictures(20 * seed, steps + 1),
        "action": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "action_proposed": rng.normal(size=(steps, 2)).astype(np.float32),
        "reward": np.arange(steps, dtype=np.float32),
        "cost/force": rng.random(steps),
        "intervention": rng.random(steps) < 0.5,
    }
    return Episode(arrays, seed == 0, seed > 0, None if seed == 2 else seed == 0, {"seed": seed, "by": {"who": "me"}})


def written(path: Path) -> list[Episode]:
    episodes = [episode(5 + i, i) for i in range(3)]
    with EpisodeStore.create(path, SPEC) as store:
        for one in episodes:
            store.append(one)
    return episodes


def read(path: Path) -> tuple[DataSpec, list[Episode]]:
    with EpisodeStore.open(path) as store:
        return store.spec, list(store)


def imported(source: Path, out: Path, *more: str) -> tuple[DataSpec, list[Episode]]:
    assert main(["data", "import", str(source), "-o", str(out), *more]) == 0
    assert main(["data", "check", str(out)]) == 0
    return read(out)


def refused(source: Path, folder: Path, *more: str) -> None:
    """The import says no and leaves nothing behind."""
    before = sorted(p.name for p in folder.iterdir())
    assert main(["data", "import", str(source), "-o", str(folder / "refused.rrl"), *more]) == 2
    assert sorted(p.name for p in folder.iterdir()) == before


def assert_round_trip(found: list[Episode], expected: list[Episode], films: bool = False) -> None:
    """The same to the last bit; with `films` pictures only nearly, and the last one is the one before it."""
    for one, other in zip(found, expected, strict=True):
        assert one.arrays.keys() == other.arrays.keys()
        for name, array in other.arrays.items():
            if films and name.startswith("image/"):
                assert np.abs(one.arrays[name][:-1].astype(int) - array[:-1]).mean() < 3
                np.testing.assert_array_equal(one.arrays[name][-1], one.arrays[name][-2])
            else:
                np.testing.assert_array_equal(one.arrays[name], array)
        assert (one.terminated, one.truncated, one.success) == (other.terminated, other.truncated, other.success)
        assert {k: v for k, v in one.facts.items() if k != "last_seen"} == other.facts
