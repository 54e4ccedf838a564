"""Distillation: students of functions, runs and policy files; recurrent ones too."""

from __future__ import annotations

import pytest
import small_policy
import torch
from fakes import PointMass
from point_mass_run import QUIET, run

from robot_rl.errors import ConfigError, UnknownName
from robot_rl.observer import initial_memory
from robot_rl.policies.algorithm import load_algorithm
from robot_rl.policies.algorithms.distill import Distill, DistillConfig
from robot_rl.policies.deployed import DeployedPolicy
from robot_rl.policies.runner import RunInfo, load_policy, train
from robot_rl.policies.teacher import from_function, load_teacher
from robot_rl.sim.task_spec import make_env

SMALL = {"num_envs": 32, "steps_per_env": 16, "hidden": (32,), "beta_iterations": 5}


def controller(critic_obs: torch.Tensor) -> torch.Tensor:
    """A good teacher: it sees position and velocity."""
    return -(2.0 * critic_obs[:, :1] + 2.0 * critic_obs[:, 1:]).clamp(-1.0, 1.0)


class Blind(PointMass):
    """The student does not see the velocity."""

    def _obs(self):
        obs = super()._obs()
        return obs | {"policy": obs["policy"] * torch.tensor([1.0, 0.0, 1.0])}


def student(env: PointMass, iterations: int, **changes) -> tuple[Distill, list[dict]]:
    learned = Distill(env, DistillConfig(**(SMALL | changes)), 0, teacher=controller)
    return learned, [learned.step(env) for _ in range(iterations)]


def test_a_student_becomes_its_teacher_on_its_own_states():
    learned, rows = student(PointMass(32), 60)
    assert [row["dagger/beta"] for row in rows[:7]] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    assert rows[-1]["loss/imitation"] < 0.02 < 0.1 < rows[0]["loss/imitation"]
    assert rows[-1]["episode/return"] > 45.0
    env = PointMass(64)
    obs, total = env.reset(7), torch.zeros(64)
    for _ in range(50):
        step = env.step(learned.policy()(obs["policy"]))
        total, obs = total + step.reward, step.obs
    assert total.mean() > 46.0, "the student alone"


def test_a_recurrent_student_recovers_what_it_cannot_see():
    """From position and previous action alone the velocity must be estimated: memory does, a perceptron cannot."""
    _, plain = student(Blind(32), 40)
    learned, recurrent = student(Blind(32), 40, gru=16, learning_rate=3e-3)
    assert recurrent[-1]["loss/imitation"] < 0.6 * plain[-1]["loss/imitation"]
    assert learned.policy().memory[0].shape == (16,)


def test_the_teachers_memory_begins_anew_with_every_episode():
    class Counting(torch.nn.Module):
        memory = small_policy.Recurrent.memory

        def forward(self, obs, memory):
            count = memory["gru"] + 1.0
            return obs[:, :1] * 0 + count[:, :1] / 1000, {"gru": count}

    env = PointMass(4, max_episode_steps=10)
    teacher, obs, steps = from_function(Counting(), "critic", env), env.reset(0), torch.zeros(4)
    for _ in range(25):
        steps += 1
        assert torch.allclose(teacher.act(obs)[:, 0] * 1000, steps, atol=1e-2)
        step = env.step(torch.zeros(4, 1))
        done = step.terminated | step.truncated
        steps[done] = 0.0
        teacher.forget(done)
        obs = step.obs


def test_a_privileged_run_teaches_and_the_student_is_a_run_of_its_own(tmp_path):
    run("ppo", tmp_path / "teacher", changes={"actor_group": "critic", "iterations": 10})
    spec = load_algorithm("distill")
    config = DistillConfig(teacher=str(tmp_path / "teacher"), iterations=4, gru=4, **SMALL)
    info = RunInfo(task="point-mass")
    for stop, resume in ((2, False), (4, True)):  # interrupted by an error after the checkpoint of iteration 2
        env = PointMass(32)
        failing = _fails_after(env, stop * 16) if not resume else env
        try:
            result = train(spec, failing, tmp_path / "run", config, info=info, resume=resume, runner=_every(2))
        except RuntimeError:
            assert not resume
    whole = train(spec, PointMass(32), tmp_path / "whole", config, info=info, runner=_every(2))
    ours, theirs = (r.algorithm.state_dict()["student"] for r in (result, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "resumed exactly"
    (tmp_path / "teacher").rename(tmp_path / "gone")
    policy = load_policy(tmp_path / "whole", PointMass(32))
    action, memory = policy(torch.zeros(3, 3), initial_memory(policy.memory, 3))
    assert action.shape == (3, 1) and set(memory) == {"actor_gru"}


def _every(iterations: int):
    import dataclasses

    return dataclasses.replace(QUIET, checkpoint_every=iterations)


def _fails_after(env: PointMass, steps: int) -> PointMass:
    step, count = env.step, [0]

    def failing(action):
        count[0] += 1
        if count[0] > steps:
            raise RuntimeError("power cut")
        return step(action)

    env.step = failing
    return env


def test_a_policy_file_teaches_through_the_signals_of_the_environment(tmp_path):
    path = small_policy.export(tmp_path / "teacher.onnx")
    env = make_env("quadrotor-hover", 3, seed=0)
    teacher = load_teacher(path, "critic", env)
    deployed = DeployedPolicy(small_policy.History(), small_policy.mlp(), small_policy.Rotors())
    memory, obs = initial_memory(deployed.memory, 3), env.reset(0)
    for _ in range(4):
        action = teacher.act(obs)
        wanted, memory = deployed({s.name: env.signals()[s.name] for s in deployed.signals}, memory)
        assert torch.allclose(env.action_map(action)["rotor_speed_target"], wanted["rotor_speed_target"], atol=0.05)
        obs = env.step(action).obs
    learned = Distill(env, DistillConfig(teacher=str(path), num_envs=3, steps_per_env=4, minibatches=1), 0)
    assert learned.step(env)["loss/imitation"] > 0.0


def test_what_cannot_teach_is_refused(tmp_path):
    env = PointMass(32)
    with pytest.raises(ConfigError, match=r"needs a teacher.*--set teacher=PATH"):
        Distill(env, DistillConfig(**SMALL), 0).step(env)
    with pytest.raises(UnknownName, match="unknown observation group 'scan'"):
        Distill(env, DistillConfig(teacher_group="scan", **SMALL), 0, teacher=controller).step(env)
    run("ppo", tmp_path / "run", changes={"iterations": 1})
    with pytest.raises(ConfigError, match=r"reads the observation group 'policy', not 'critic'.*teacher_group=policy"):
        load_teacher(tmp_path / "run", "critic", env)
    with pytest.raises(ConfigError, match=r"PointMass gives no signals\(\)"):
        load_teacher(small_policy.export(tmp_path / "p.onnx"), "critic", env)
