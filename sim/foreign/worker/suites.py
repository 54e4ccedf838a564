"""Environments of other projects: how they are made, and what they say of themselves."""

from __future__ import annotations

import importlib
import math
import re
import sys
from typing import Any

import numpy as np

SUITES = (
    ("Meta-World/", "metaworld", "metaworld"),
    ("robosuite/", "robosuite", "robosuite"),
    ("gym_pusht/", "gym_pusht", "gym-pusht"),
    ("gym_aloha/", "gym_aloha", "gym-aloha"),
    ("Panda", "panda_gym", "panda-gym"),
    *((name, "gymnasium_robotics", "gymnasium-robotics") for name in (
        "Fetch", "HandReach", "HandManipulate", "Adroit", "FrankaKitchen", "PointMaze_", "AntMaze_",
    )),
)  # fmt: skip
"""How an id begins, the module whose import registers it, and its name for pip."""
ROBOSUITE = {
    "robots": "Panda", "has_renderer": False, "has_offscreen_renderer": False, "use_camera_obs": False,
    "hard_reset": False, "reward_shaping": True,
}  # fmt: skip


MOST = 4096  # numbers in a signal: more is a picture


class Refused(Exception):
    """What the user can mend. `kind`: config, name (of a `what`, with `near`: what there is), missing (`install`)."""

    def __init__(self, kind: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.answer = {"error": text, "kind": kind, **more}


def make_env(name: str, kwargs: dict[str, Any], imports: list[str], attributes: dict[str, Any]) -> Any:
    """The environment of an id, of `module:function` or of `module:id`."""
    import gymnasium

    for module in imports:
        importlib.import_module(module)
    module, colon, attribute = name.partition(":")
    maker = getattr(importlib.import_module(module), attribute, None) if colon else None
    if maker is None and not colon:
        maker = _of_suite(name)
    try:
        env = maker(**kwargs) if maker else gymnasium.make(name, disable_env_checker=True, **kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        raise Refused("name", name, what="environment", near=sorted(gymnasium.registry)) from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise Refused("config", str(error)) from error
    for key, value in attributes.items():
        setattr(env.unwrapped, key, value)
    return env


def _of_suite(name: str) -> Any:
    """Imports the suite of an id, so that it is registered; its maker where Gymnasium does not have it."""
    for begin, module, package in SUITES:
        if name.startswith(begin):
            try:
                suite = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
                raise Refused("missing", module, install=f"{sys.executable} -m pip install {package}") from error
            if begin == "robosuite/":
                from_gym = importlib.import_module("robosuite.wrappers").GymWrapper
                return lambda **given: from_gym(suite.make(name[len(begin) :], **{**ROBOSUITE, **given}))
    return None


def parts_of(space: Any, path: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    """The parts of an observation space: name, path in the observation, shape (None: no array), entries by name."""
    kind = type(space).__name__
    if kind == "Dict":
        return [p for key in sorted(space.spaces) for p in parts_of(space.spaces[key], (*path, key))]
    if kind == "Tuple":
        return [p for i, inner in enumerate(space.spaces) for p in parts_of(inner, (*path, i))]
    name = re.sub("[^a-z0-9_]", "_", "_".join(map(str, path)).lower()) or "obs"
    return [
        {
            "name": name if name[0].isalpha() else f"obs_{name}",
            "path": path,
            "shape": tuple(space.shape) if kind == "Box" else None,
        }
    ]


def chosen_parts(space: Any, wanted: list[str]) -> list[dict[str, Any]]:
    """Those of the names wanted, in that order; all where nothing is said."""
    found = {p["name"]: p for p in parts_of(space)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Refused("name", missing[0], what="signal", near=list(found))
    good = [k for k, p in found.items() if p["shape"] is not None and np.prod(p["shape"]) <= MOST]
    bad = [name for name in wanted or found if name not in good]
    if bad:
        raise Refused("config", f"'{bad[0]}' of {space} cannot be a signal: only a Box of up to {MOST} numbers can. "
                      f"Choose by the option `signals` among: {', '.join(good) or 'none'}")  # fmt: skip
    return [found[name] for name in wanted or found]


def bounds_of(space: Any) -> tuple[Any, Any]:
    """Lower and upper limits (A,) of a Box of actions."""
    if type(space).__name__ != "Box" or not np.issubdtype(space.dtype, np.floating):
        raise Refused("config", f"actions are {space}; only a Box of continuous actions can be learnt here")
    low, high = (np.asarray(x, np.float64).reshape(-1) for x in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise Refused("config", f"actions are {space}; without finite limits nobody knows what -1 and 1 stand for: "
                      "make it in a function of your own, in a wrapper that gives it limits")  # fmt: skip
    return low, high


def flattened(obs: Any, parts: list[dict[str, Any]], row: Any) -> None:
    """Write an observation into `row` (D,), in the order of `parts`."""
    at = 0
    for part in parts:
        value = obs
        for key in part["path"]:
            value = value[key]
        value = np.asarray(value)
        if value.shape != part["shape"]:
            raise ValueError(f"observation '{part['name']}' has shape {value.shape}; its space {part['shape']}")
        row[at : at + value.size] = value.reshape(-1)
        at += value.size
    if not math.isfinite(row.sum()):
        _name_what_is_not_finite(row, parts)


def _name_what_is_not_finite(row: Any, parts: list[dict[str, Any]]) -> None:
    """A sum may also overflow although all numbers are finite."""
    at = 0
    for part in parts:
        size = int(np.prod(part["shape"]))
        bad = ~np.isfinite(row[at : at + size])
        if bad.any():
            where = f"observation '{part['name']}' is {row[at : at + size][bad][0]} at element {bad.argmax()}"
            raise ValueError(f"{where} (as float32)")
        at += size


def timing_of(env: Any) -> tuple[float | None, int | None]:
    """Seconds between steps and steps in an episode, where the environment says them."""
    bare, spec = env.unwrapped, getattr(env, "spec", None)
    fps = (getattr(env, "metadata", None) or {}).get("render_fps")
    rate = getattr(bare, "control_freq", None)
    dt = getattr(bare, "dt", None) or (1.0 / rate if rate else None) or (1.0 / fps if fps else None)
    steps = getattr(spec, "max_episode_steps", None)
    for name in ("_max_episode_steps", "max_path_length", "horizon"):
        steps = steps or getattr(bare, name, None)
    return (float(dt) if dt else None), (int(steps) if steps else None)


def limit_of(wanted: int, own: int | None) -> int:
    """Steps in an episode: those wanted (0: not said), at most the environment's own."""
    if not (wanted or own):
        raise Refused("config", "the environment does not say how long an episode lasts; set the option episode_steps")
    if own and wanted > own:
        raise Refused("config", f"episode_steps = {wanted}; the environment itself stops after {own}")
    return wanted or own or 0


def expert_of(reference: str, name: str, kwargs: dict[str, Any]) -> Any:
    """What makes the scripted policy for `module:Name`; without a name the suite's own, where it is known."""
    if not reference:
        own = importlib.import_module("metaworld.policies") if name.startswith("Meta-World/") else None
        table = getattr(own, "ENV_POLICY_MAP", {})
        if kwargs.get("env_name") not in table:
            raise Refused("config", "this task has no scripted expert that is known here; name it by the option "
                          "`expert`, for example expert=metaworld.policies:SawyerPushV3Policy")  # fmt: skip
        return table[kwargs["env_name"]]
    module, _, name = reference.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise Refused("config", f"expert '{reference}': module {module} does not define '{name}'")
    return found if isinstance(found, type) else lambda: found
