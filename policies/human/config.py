"""Who is in the loop, when a script that stands for a person takes over, and where episodes are recorded."""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.errors import ConfigError
from robot_rl.policies.guards import require_range

SCRIPTED = "scripted:"
DEVICES = ("keyboard", "gamepad", "spacemouse")
STALLED, VALUE, RANDOM, ASKED = "stalled", "value", "random", "asked"
RULES = (STALLED, VALUE, RANDOM, ASKED)


@dataclass(frozen=True)
class HumanConfig:
    """Settings of the human in the loop; set as `human.<name>`.

    Attributes:
        who: keyboard, gamepad or spacemouse, with `:PATH` for one device among several; or a script:
            `scripted:base:<name>` or `scripted:policy.onnx`.
        mapping: YAML file that says which axis of the device is which entry of the action; "": by their names.
        record: file of episodes that the training is written to, appended to; "": none.
        when: a script takes over where the task has stalled, where its own action is worth more by a critic, at random,
            or only where the policy asks.
        steps: for so many control steps.
        after: stalled: control steps without progress. progress: m that count as progress.
        critic: value: the run folder whose critics judge. gap: by how much the value of the policy's action must be
            below that of the script's; the judgement is turned round in a share `flips` of the steps.
        chance: random: of taking over in a step.
        pace: the script's actions are multiplied by it: people are careful. gripper: the last entry is its, and is not.
        noise: standard deviation of noise on the script's actions. bias: added to each entry of them, always the same;
            wander: ±, drawn anew with each episode. delay: control steps by which it reacts late.
    """

    who: str = ""
    mapping: str = ""
    record: str = ""
    when: str = STALLED
    steps: int = 10
    after: int = 10
    progress: float = 0.002
    critic: str = ""
    gap: float = 0.05
    flips: float = 0.05
    chance: float = 0.02
    pace: float = 1.0
    gripper: bool = False
    noise: float = 0.0
    bias: float = 0.0
    wander: float = 0.0
    delay: int = 0

    def __post_init__(self) -> None:
        device, _, _ = self.who.partition(":")
        if self.who and not self.who.startswith(SCRIPTED) and device not in DEVICES:
            raise ConfigError(
                f"human.who = '{self.who}'; allowed: {', '.join(DEVICES)} (with :PATH for one of several), "
                f"{SCRIPTED}base:<name>, {SCRIPTED}FILE.onnx"
            )
        if self.when not in RULES:
            raise ConfigError(f"human.when = '{self.when}'; allowed: {', '.join(RULES)}")
        for name in ("steps", "after"):
            require_range(f"human.{name}", getattr(self, name), 1, 10**6)
        for name in ("progress", "gap", "noise", "bias", "wander"):
            require_range(f"human.{name}", getattr(self, name), 0.0, 1e3)
        for name in ("flips", "chance", "pace"):
            require_range(f"human.{name}", getattr(self, name), 0.0, 1.0)
        require_range("human.delay", self.delay, 0, 1000)
