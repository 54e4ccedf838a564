"""What lands in the folder: contents, warnings-free compilation, atomicity, determinism, figures."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from robot_rl import registry
from robot_rl.errors import ExportError, UnknownName
from robot_rl.firmware_export import measure
from robot_rl.firmware_export.generate import generate
from robot_rl.firmware_export.host import HostModel
from robot_rl.firmware_export.interface import Defaults, Interface, c_names
from robot_rl.firmware_export.measure import deepest_stack
from robot_rl.firmware_export.status import Status
from robot_rl.firmware_export.toolchain import APT, WARNINGS, available
from robot_rl.policy_file import read_policy_file

POLICIES = pytest.mark.parametrize("which", ["compact", "with_history"])
needs_arm = pytest.mark.skipif(
    not available("arm-none-eabi-gcc"), reason=f"needs arm-none-eabi-gcc: {APT['arm-none-eabi-gcc']}"
)
ARM = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@POLICIES
def test_same_file_same_bytes_and_nothing_that_a_chip_lacks(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(which)
    first, second = (generate(path, tmp_path / name, board="stm32f405") for name in ("a", "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first == second
    assert sorted(contents(tmp_path / "a")) == list(first.files)
    code = (tmp_path / "a" / "policy.c").read_text()
    assert set(re.findall(r"#include [<\"](\S+)[>\"]", code)) == {
        "policy.h",
        "math.h",
        "stddef.h",
        "stdint.h",
        "string.h",
    }
    assert not re.search(r"\b(malloc|calloc|free|printf|double|constructor)\b", code)


@POLICIES
@pytest.mark.parametrize("compiler", [["cc"], ARM], ids=["host", "arm"])
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os", "-O3"])
def test_no_compiler_warning(
    which: str, compiler: list[str], level: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not available(compiler[0]):
        pytest.skip(f"needs {compiler[0]}: {APT[compiler[0]]}")
    generate(request.getfixturevalue(which), tmp_path / "c", name="nav2_policy")
    command = [*compiler, "-std=c99", level, "-Werror", *WARNINGS, "-Wshadow", "-c", "nav2_policy.c", "-o", "x.o"]
    done = subprocess.run(command, cwd=tmp_path / "c", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_arm
def test_board_project_builds_with_its_makefile(compact: Path, tmp_path: Path) -> None:
    generate(compact, tmp_path / "c", board="stm32f405", name="flight")
    done = subprocess.run(["make"], cwd=tmp_path / "c", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert (tmp_path / "c" / "flight.elf").stat().st_size > 10_000


@needs_arm
def test_header_carries_the_contract_and_the_measured_figures(compact: Path, tmp_path: Path) -> None:
    report = generate(compact, tmp_path / "c")
    contract = read_policy_file(compact).contract
    header = (tmp_path / "c" / "policy.h").read_text()
    assert contract.graph_sha256 in header
    positions = [header.index(f" {s.name}[{s.shape[0]}];") for s in contract.signals]
    assert positions == sorted(positions)
    for words in (
        "m/s^2",
        "body frame",
        "front_right, back_right, back_left, front_left",
        "0 to 2272.6",
        "POLICY_MAX_DT 0.02f",
    ):
        assert words in header
    assert f"Flash {report.flash_bytes} bytes, RAM {report.ram_bytes} bytes" in header
    assert f"stack at most {report.stack_bytes} bytes" in header
    weights = sum(
        v.size for v in map(onnx.numpy_helper.to_array, onnx.load(compact).graph.initializer) if v.dtype == np.float32
    )
    assert report.flash_bytes is not None
    assert 4 * weights < report.flash_bytes < 4 * weights + 16_000
    assert report.macs == 35 * 64 + 64 * 64 + 64 * 4 + 16
    state = 8 + 2 * 4 * sum(len(m.initial) for m in contract.memory)
    assert report.ram_bytes is not None
    assert state < report.ram_bytes < state + 2048


@needs_arm
def test_stack_of_our_own_functions_agrees_with_the_compiler(compact: Path, tmp_path: Path) -> None:
    """-fstack-usage sees one function at a time; the disassembly must say the same about a chain of them."""
    text = "volatile float a[9];\nvoid g(void);\n"
    text += "__attribute__((noinline)) void g(void) { volatile float b[20]; b[1] = a[1]; }\n"
    text += "int policy_init(void) { volatile float b[40]; b[0] = 1; g(); return (int)b[3]; }\n"
    text += "".join(f"void policy_{f}(void) {{ g(); }}\n" for f in ("reset", "step", "evaluate", "self_test"))
    (tmp_path / "chain.c").write_text(text)
    subprocess.run([*ARM, "-O2", "-fstack-usage", "-c", "chain.c"], cwd=tmp_path, check=True, capture_output=True)
    link = [*ARM, "-nostdlib", "-Wl,-e,policy_init", "chain.o", "-o", "chain.elf"]
    subprocess.run(link, cwd=tmp_path, check=True, capture_output=True)
    rows = [line.split("\t") for line in (tmp_path / "chain.su").read_text().splitlines()]
    used = {where.rsplit(":", 1)[1]: int(size) for where, size, _ in rows}
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", "chain.elf"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    assert deepest_stack(listing, "policy") == used["policy_init"] + used["g"]
    assert deepest_stack(listing.replace("bx\tlr", "bl\t8000 <policy_init>"), "policy") is None


def test_without_the_arm_compiler_the_header_says_so(
    compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = generate(compact, tmp_path / "c")
    assert report.flash_bytes is report.ram_bytes is report.stack_bytes is None
    assert "not measured: arm-none-eabi-gcc not found" in (tmp_path / "c" / "policy.h").read_text()
    assert report.measured_on == "not measured: arm-none-eabi-gcc not found"


def test_an_existing_folder_is_only_replaced_when_asked(compact: Path, with_history: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    generate(compact, folder)
    (folder / "mine.txt").write_text("kept")
    before = contents(folder)
    with pytest.raises(ExportError, match="not empty"):
        generate(with_history, folder)
    assert contents(folder) == before
    generate(with_history, folder, overwrite=True)
    assert "mine.txt" not in contents(folder)
    assert "history[128]" in (folder / "policy.h").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_failure_leaves_nothing_behind(compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "c"
    generate(compact, folder)
    before = contents(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(measure, "measured", full)
    with pytest.raises(ExportError, match="No space left on device"):
        generate(compact, folder, overwrite=True)
    assert contents(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    with pytest.raises(ExportError, match="is a file"):
        generate(compact, compact)
    with pytest.raises(UnknownName, match="stm32f405"):
        generate(compact, tmp_path / "d", board="stm32")
    assert not (tmp_path / "d").exists()


def test_only_generated_folders_are_replaced_and_links_stay(
    compact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ExportError, match="other things than generated firmware"):
        generate(compact, tmp_path / "thesis", overwrite=True)
    assert contents(tmp_path / "thesis") == {"chapter.txt": b"years of work"}
    monkeypatch.chdir(tmp_path / "thesis")
    for folder in (".", "..", tmp_path / "thesis"):
        with pytest.raises(ExportError, match="the folder you are in"):
            generate(compact, folder, overwrite=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    generate(compact, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert "policy.c" in contents(tmp_path / "real")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real", "thesis"]


@pytest.mark.parametrize("name", ["math", "stdint", "serve", "semihosting", "_fly", "x" * 41, "état", ""])
def test_names_that_would_hide_other_files_are_refused(name: str, compact: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"'{name}' "):
        generate(compact, tmp_path / "c", name=name, board="stm32f405")
    assert not list(tmp_path.iterdir())


TWO = r"""
#include "first.h"
#include "second.h"
#include <string.h>
static first_state a, b, alone;
static second_state other;
int main(void)
{
    first_signals x = {0}, y = {0};
    first_commands ca, cb, wanted;
    x.base_quat_wxyz[0] = y.base_quat_wxyz[0] = 1.0f;
    x.time_step[0] = y.time_step[0] = 0.01f;
    y.base_pos_w[2] = 0.3f;
    if (first_init(&a) || first_init(&b) || first_init(&alone) || second_init(&other)) return 1;
    for (int i = 0; i < 20; ++i) {
        second_signals z = {0};
        second_commands cz;
        z.base_quat_wxyz[0] = 1.0f;
        if (first_step(&a, &x, &ca) || second_step(&other, &z, &cz) || first_step(&b, &y, &cb)) return 2;
    }
    for (int i = 0; i < 20; ++i) if (first_step(&alone, &x, &wanted)) return 3;
    if (memcmp(&ca, &wanted, sizeof ca)) return 4;
    return memcmp(&ca, &cb, sizeof ca) ? 0 : 5;
}
"""


def test_two_policies_and_two_instances_live_in_one_program(compact: Path, with_history: Path, tmp_path: Path) -> None:
    for path, name in ((compact, "first"), (with_history, "second")):
        generate(path, tmp_path / name, name=name)
    (tmp_path / "two.c").write_text(TWO)
    flags = ["-std=c99", *WARNINGS, "-Wshadow", "-Werror", "-Ifirst", "-Isecond"]
    sources = ["two.c", "first/first.c", "second/second.c", "-o", "two", "-lm"]
    built = subprocess.run(["cc", *flags, *sources], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert subprocess.run([tmp_path / "two"]).returncode == 0


def test_a_folder_can_be_used_instead_of_the_onnx_file(compact: Path, tmp_path: Path) -> None:
    generate(compact, tmp_path / "c", name="fly")
    with HostModel(tmp_path / "c") as model:
        assert model.self_test() is Status.OK
        assert model.interface.prefix == "fly"
        assert Interface.from_json(model.interface.to_json()) == model.interface
        assert [s.unit for s in model.interface.signals][:2] == ["m", ""]
    with pytest.raises(ExportError, match=r"interface\.json"):
        HostModel(tmp_path)


def test_a_foreign_model_gets_names_defaults_and_a_warning(tmp_path: Path) -> None:
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 2)).eval()
    path = tmp_path / "foreign.onnx"
    torch.onnx.export(
        net, (torch.zeros(1, 6),), path, dynamo=True, input_names=["obs.0"], output_names=["int"], verbose=False
    )
    report = generate(path, tmp_path / "c", defaults=Defaults(control_dt=0.02, idle=0.25, units={"obs.0": "rad"}))
    assert any("no robot_rl contract" in w for w in report.warnings)
    header = (tmp_path / "c" / "policy.h").read_text()
    assert "float obs_0[6]; /* rad */" in header
    assert "float int_[2];" in header
    assert "POLICY_CONTROL_DT 0.02f" in header
    with HostModel(tmp_path / "c") as model:
        assert model.status is Status.OK
        x = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
        for row in x:
            wanted = net(torch.from_numpy(row)[None])[0].detach().numpy()
            assert np.allclose(model.evaluate({"obs.0": row}, {})[1]["int"], wanted, atol=2e-6)
        assert np.array_equal(model.step({"obs.0": np.full(6, np.nan)})[1]["int"], [0.25, 0.25])


def test_names_become_different_c_identifiers() -> None:
    names = c_names(["a.b", "a_b", "2d", "for", "état", "a/b", "_x", ""])
    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", n) for n in names.values())
    assert names["a.b"] == "a_b"


def test_boards_are_listed_and_described() -> None:
    names = registry.names("board")
    assert {"stm32f405", "mps2-an386", "rv32"} <= set(names)
    for name in names:
        board = registry.load("board", name)
        assert board.name == name
        assert len(board.description) > 5
