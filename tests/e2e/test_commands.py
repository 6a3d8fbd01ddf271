"""Help, completion, the wheel, and every training command that the README and docs/ show."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import TIMEOUT, Store, environment, restore_interrupt

from mnistlab.config.compose import check_command, parse_command_line
from mnistlab.runtime import processes

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))  # test_pages.py has those in folders
COMMANDS = list(
    dict.fromkeys(
        line.split("#")[0].strip()
        for page in PAGES
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("python -m mnistlab.train")
    )
)
# The README's commands at a size for tests: same options, few images, one epoch.
SMALL = ["source=mnist_5k", "data.limit=256", "fit.epochs=1"]
# Swept again elsewhere at this cost; here the whole suite would take too long.
SWEPT_ELSEWHERE = (
    *("sweep=optimizers", "sweep=learning_rate", "sweep=tuned", "sweep.seeds=5", "sweep.until=verdict"),
    "schedule=constant,cosine,one_cycle",
)
NOT_RUN = re.compile("--help|model=pretrained")  # the weights of a pretrained model would be downloaded


def test_help_explains_the_groups_and_gives_examples(train) -> None:
    done = train("--help")
    assert done.code == 0
    assert done.out.count("python -m mnistlab.train ") >= 3
    for word in ("optimizer: adadelta", "minibatch_gd", "model: cnn, layers, logistic, mlp", "source:", "epochs: 3"):
        assert word in done.out


def test_the_readme_is_short_and_has_commands() -> None:
    assert len(COMMANDS) >= 12
    assert README.count("\npython -m mnistlab.train") >= 9
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_are_valid(tmp_path, monkeypatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_example_option(tmp_path)
    arguments, _ = parse_command_line(shlex.split(command)[3:])
    if not arguments.help:
        assert check_command(arguments).configs


def write_example_option(folder: Path) -> None:
    """The YAML file that the README shows as an example."""
    (folder / "my_conf" / "optimizer").mkdir(parents=True)
    example = re.search(r"```yaml\n# my_conf/optimizer/(\w+)\.yaml\n(.*?)```", README, re.DOTALL)
    assert example is not None
    (folder / "my_conf" / "optimizer" / f"{example[1]}.yaml").write_text(example[2])


@pytest.mark.long_after(3)
@pytest.mark.long_after(2)
@pytest.mark.parametrize("command", [command for command in COMMANDS if not NOT_RUN.search(command)])
def test_documented_commands_run(train_here, tmp_path, make_npz, make_folder, command: str) -> None:
    words = shlex.split(command)[3:]
    words += ["sweep.dry_run=true"] if set(words) & set(SWEPT_ELSEWHERE) else []
    given = {word.split("=")[0] for word in words}
    small = [word for word in SMALL if word.split("=")[0] not in given]
    if "source=npz" in words:
        make_npz("mine.npz", num_classes=10)
    if "source=directory" in words:
        path = next(word for word in words if word.startswith("source.path=")).removeprefix("source.path=")
        make_folder(path, shape=(20, 30, 3) if path == "pets" else (28, 28))
    if "source=fashion_mnist" in words:  # its download is not for tests: arrays of its shape
        words.append(f"source.path={make_npz('fashion.npz', num_classes=10, shape=(28, 28))}")
    if "--config-dir" in words:
        write_example_option(tmp_path)
    done = train_here(*words, *small)
    assert done.code == 0, done.err


def test_tab_completion_offers_the_options(tmp_path) -> None:
    script = Path(sys.executable).with_name("mnistlab-train")
    answer = subprocess.run(
        [script, "-sc", "query=bash"],
        env={**os.environ, "COMP_LINE": "mnistlab-train optimizer=ada", "COMP_POINT": "28"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert {"optimizer=adam", "optimizer=adagrad"} <= set(answer.stdout.split())


def test_the_wheel_brings_the_groups_and_works_from_another_folder(train, tmp_path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, PROJECT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        opened.extractall(tmp_path / "site")
    assert "mnistlab/conf/optimizer/adam.yaml" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    done = train("--cfg", "job", PYTHONPATH=str(tmp_path / "site"))
    assert "epochs: 3" in done.out
    ran = train(*SMALL, "tracking=none", "paths.root=here", PYTHONPATH=str(tmp_path / "site"))
    assert ran.code == 0, ran.err
    log = next((tmp_path / "here" / "runs").glob("*/*/train.log"))
    assert "epoch 1/1" in log.read_text()


def test_an_installed_package_keeps_its_runs_in_one_place(tmp_path) -> None:
    program = "from mnistlab.config import project_root; print(project_root())"
    environment = {key: value for key, value in os.environ.items() if key != "MNISTLAB_ROOT"}
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for folder in (tmp_path, "/")
    }
    assert answers == {f"{PROJECT}\n"}


def listening_addresses(pid: int) -> set[tuple[str, int]]:
    """Host and port of all sockets on which this process and those that it started listen, as the system says."""
    inodes = set()
    for process in (pid, *processes.descendants(pid)):
        links = [str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()]
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for name in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = row.split()[:10]
            host, port = local.split(":")
            if state == "0A" and inode in inodes:
                address = socket.inet_ntoa(bytes.fromhex(host)[::-1]) if name == "tcp" else f"IPv6 {host}"
                found.add((address, int(port, 16)))
    return found


@pytest.mark.slow
def test_the_ui_prints_the_page_of_the_latest_run_and_ends_with_ctrl_c(train, commands_here, tmp_path) -> None:
    missing = train(module="mnistlab.ui")
    assert missing.code == 2
    assert f"There are no runs yet: the tracking store {tmp_path}/mlruns/mlflow.db does not exist." in missing.err
    assert not (tmp_path / "mlruns").exists()
    usage = train("--help", module="mnistlab.ui")
    assert (usage.code, "port=NUMBER" in usage.out) == (0, True)
    assert commands_here(tmp_path)("--multirun", *SMALL, "seed=0").code == 0
    (parent,) = Store(tmp_path).runs("parent")
    ui = subprocess.Popen(
        [sys.executable, "-u", "-m", "mnistlab.ui"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=restore_interrupt,
        start_new_session=True,
    )
    try:
        address = ui.stdout.readline().strip()
        assert address.endswith(f"/runs/{parent.info.run_id}?workflowType=machine_learning")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address.split("#")[0], timeout=TIMEOUT) as page:
            assert "MLflow" in page.read().decode()
        listening = listening_addresses(ui.pid)
        assert listening and all(host == "127.0.0.1" for host, _ in listening), listening
        assert urlsplit(address).port in {port for _, port in listening}
        os.killpg(ui.pid, signal.SIGINT)
        output = ui.communicate(timeout=TIMEOUT)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(ui.pid, signal.SIGKILL)
    assert (ui.returncode, "Traceback" in output) == (0, False)
