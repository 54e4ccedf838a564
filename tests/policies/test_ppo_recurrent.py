"""Recurrent PPO: states through episode ends, the same likelihoods at collection and update, export with memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import small_policy
import torch
from fakes import PointMass

from robot_rl.errors import ConfigError
from robot_rl.observer import initial_memory
from robot_rl.policies import rollout_storage
from robot_rl.policies.algorithms.ppo import Ppo, PpoConfig
from robot_rl.policies.normalizer import RunningNormalizer
from robot_rl.policies.recurrent import ACTOR_MEMORY, PolicyNetwork, RecurrentActor
from robot_rl.policies.rollout_storage import Minibatches, kept
from robot_rl.policy import Policy

SMALL = {"num_envs": 16, "steps_per_env": 30, "actor_hidden": (16,), "critic_hidden": (16,), "minibatches": 2}


def learner(seed: int = 0, **changes) -> tuple[Ppo, PointMass]:
    config = PpoConfig(**(SMALL | {"gru": 8} | changes))
    env = PointMass(config.num_envs)
    return Ppo(env, config, seed), env


def network(**changes) -> PolicyNetwork:
    made = PolicyNetwork(3, (6,), 2, "tanh", **({"gru": 5} | changes))
    made.initialise(1.4, 1.0, torch.Generator().manual_seed(0))
    return made


def test_a_sequence_equals_torchs_gru_and_steps_one_by_one():
    net, x, start = network(), torch.randn(7, 4, 3), torch.randn(4, 5)
    reference = torch.nn.GRU(3, 5)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    torch.nn.init.normal_(net.gru.bias_ih)
    torch.nn.init.normal_(net.gru.bias_hh)
    reference.load_state_dict({f"{name}_l0": getattr(net.gru, name) for name in names})
    out, states = net.sequence(x, start, torch.ones(7, 4))
    assert torch.allclose(states, reference(x, start[None])[0], atol=1e-6)
    state = start
    for t in range(7):
        step, state = net(x[t], state)
        assert torch.allclose(step, out[t], atol=1e-6) and torch.allclose(state, states[t], atol=1e-6)


def test_a_sequence_with_an_episode_end_is_two_sequences():
    net, x, start = network(), torch.randn(6, 1, 3), torch.randn(1, 5)
    done = torch.zeros(6, 1, dtype=torch.bool)
    done[3] = True
    out, _ = net.sequence(x, start, kept(done))
    first, _ = net.sequence(x[:4], start, torch.ones(4, 1))
    second, _ = net.sequence(x[4:], torch.zeros(1, 5), torch.ones(2, 1))
    assert torch.allclose(out, torch.cat((first, second)), atol=1e-6)
    x.requires_grad_(True)
    net.sequence(x, start, kept(done))[0][4:].sum().backward()
    assert x.grad[:4].abs().max() == 0.0 and x.grad[4:].abs().min() > 0.0, "no gradient into the episode before"


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_the_first_minibatch_starts_from_ratio_one_although_episodes_end_within_rollouts(mixed_precision):
    learned, env = learner(epochs=1, minibatches=1, desired_kl=0.0, mixed_precision=mixed_precision)
    ended = 0
    for _ in range(4):
        metrics = learned.step(env)
        ended += int(learned.rollout.done[:-1].sum())
        assert metrics["policy/kl"] == pytest.approx(0.0, abs=1e-4 if mixed_precision else 1e-6)
        assert metrics["policy/clipped"] == 0.0
    assert ended > 20 and learned.rollout.actor_state.abs().max() > 0.01


def test_values_of_last_states_continue_the_episodes_own_memory():
    learned, env = learner(num_envs=6)
    for _ in range(2):
        learned.step(env)
    r = learned.rollout
    learned._collect(env)
    learned._evaluate()
    cuts = (r.done & ~r.terminated).nonzero().tolist()
    assert cuts
    for t, n in cuts:
        state = r.critic_state[n : n + 1]
        for s in range(t + 1):
            if s > 0 and r.done[s - 1, n]:
                state = torch.zeros(1, 8)
            _, state = learned._value(r.critic[s, n : n + 1], state)
        value, _ = learned._value(r.final[t, n : n + 1], state)
        assert r.next_value[t, n].item() == pytest.approx(value.item(), abs=1e-5)


def test_it_learns_without_seeing_the_velocity():
    class Blind(PointMass):
        def _obs(self):
            obs = super()._obs()
            return obs | {"policy": obs["policy"] * torch.tensor([1.0, 0.0, 1.0])}

    env = Blind(32)
    sizes = {"num_envs": 32, "steps_per_env": 16, "actor_hidden": (16,), "critic_hidden": (16,), "gru": 16}
    learned = Ppo(env, PpoConfig(epochs=4, minibatches=2, **sizes), 0)
    rows = [learned.step(env) for _ in range(35)]
    assert rows[-1]["episode/return"] > rows[6]["episode/return"] + 3.0


def test_state_round_trip_goes_on_bit_for_bit():
    learned, env = learner()
    learned.step(env)
    state, env_state = copy.deepcopy(learned.state_dict()), env.state_dict()
    expected = learned.step(env)
    again, other = learner(seed=5)
    again.load_state_dict(state)
    other.load_state_dict(env_state)
    assert again.step(other) == expected
    assert torch.equal(again.actor_state, learned.actor_state)


def test_an_exported_recurrent_policy_carries_its_state(tmp_path):
    """observer memory and the GRU's state side by side; onnxruntime agrees with PyTorch over a rollout."""
    torch.manual_seed(0)
    net = PolicyNetwork(small_policy.History.obs_dim, (16,), 4, "elu", gru=8)
    net.initialise(1.4, 0.5, torch.Generator().manual_seed(1))
    norm = RunningNormalizer(small_policy.History.obs_dim)
    norm.update(torch.randn(100, small_policy.History.obs_dim))
    actor = RecurrentActor(net, norm)
    policy = Policy.load(small_policy.export(tmp_path / "policy.onnx", actor=actor))
    names = [m.name for m in policy.contract.memory]
    assert names[-1] == ACTOR_MEMORY and policy.memory[ACTOR_MEMORY].shape == (1, 8)
    observer, memory = small_policy.History(), None
    state = initial_memory(actor.memory, 1)
    for signals in small_policy.rollout(10):
        signals = {k: np.asarray(v, dtype=np.float32)[None] for k, v in signals.items()}
        command = policy.act(signals, time_step=0.01)["rotor_speed_target"]
        tensors = {k: torch.from_numpy(v) for k, v in signals.items()} | {"time_step": torch.full((1, 1), 0.01)}
        obs, memory = observer(tensors, memory or initial_memory(observer.memory, 1))
        action, state = actor(obs, state)
        memory = observer.record(memory, action)
        assert np.allclose(command, small_policy.Rotors()(action)["rotor_speed_target"].numpy(), atol=0.01)
    assert np.abs(policy.memory[ACTOR_MEMORY]).max() > 0.01


def test_pieces_of_a_minibatch_give_its_gradient(monkeypatch):
    """The memory of a CPU's cache must not change what is learnt: sequences and rows."""
    for changes in ({}, {"gru": 0}):
        results = []
        for rows in (10**6, 64):
            monkeypatch.setattr(rollout_storage, "CPU_ROWS", rows)
            learned, env = learner(**changes)
            learned.step(env)
            results.append(torch.cat([p.detach().reshape(-1) for p in learned.actor_parameters]))
        assert torch.allclose(*results, atol=1e-4) and not torch.equal(*results)


def test_minibatches_are_a_permutation_of_rows_or_of_whole_sequences():
    T, N = 5, 12
    number = torch.arange(T * N).reshape(T, N).float()
    fields = {"a": number, "b": torch.stack((number, -number), -1)}
    for states in ({}, {"s": torch.arange(N).float()[:, None]}):
        batches = Minibatches(fields, states)
        seen = []
        for pieces in batches.epoch(3, torch.Generator().manual_seed(0)):
            shares = 0.0
            for batch, share in pieces:
                shares += share
                assert torch.equal(batch["b"], torch.stack((batch["a"], -batch["a"]), -1))
                if states:
                    assert torch.equal(batch["a"], number[:, batch["s"][:, 0].long()])
                seen += batch["a"].flatten().tolist()
            assert shares == pytest.approx(1.0)
        assert sorted(seen) == number.flatten().tolist() and seen != sorted(seen)


def test_mixed_precision_rounds_the_hidden_layers_only():
    for gru in (0, 5):
        exact, rounded, x = network(gru=gru), network(gru=gru, mixed_precision=True), torch.randn(50, 3)
        rounded.load_state_dict(exact.state_dict())
        full, _ = exact(x, exact.initial_state(50))
        low, state = rounded(x, rounded.initial_state(50))
        assert low.dtype == state.dtype == torch.float32
        assert 0.0 < (full - low).abs().max() < 0.05
        low.sum().backward()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in rounded.parameters())
    learned, env = learner(gru=0, mixed_precision=True)
    for _ in range(3):
        learned.step(env)
    assert learned.rollout.logp.dtype == learned.actor_norm.mean.dtype == torch.float32


def test_groups_are_chosen_by_name():
    learned, env = learner(actor_group="critic", critic_group="policy", gru=0)
    learned.step(env)
    assert learned.policy()(torch.zeros(4, 2)).shape == (4, 1) and learned.rollout.critic.shape[-1] == 3
    from robot_rl.errors import UnknownName

    with pytest.raises(UnknownName, match=r"unknown observation group 'teacher'.*critic, policy"):
        learner(actor_group="teacher")
    with pytest.raises(ConfigError, match="minibatches"):
        learner(minibatches=17)
