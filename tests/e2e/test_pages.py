"""The pages of the guide and the how-to pages: all their commands run, in their order, with the files that they show.

The commands are those of blocks marked `bash`. A block of YAML or Python that starts with a file's name is that file.
Trainings are small. They are real on pages that use a trained model, and where a command names a callable
(sweeps only list and check their jobs); all others run with a stand-in for the training. `make docs-commands`
(MNISTLAB_TEST_PAGES=train) trains for all. docs/_scripts/make_figures.py runs the commands of the guide's figures at
full size.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished, environment
from stand_in import REAL_RUN, Trainer, train_nothing

from mnistlab import check, evaluate, experiment, export, predict
from mnistlab.runtime import errors
from mnistlab.touring.photographs import write_photographs

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(page for name in ("guide", "how-to", "how-it-works") for page in (DOCS / name).glob("*.md"))
PAGES = [page for page in PAGES if "```bash\n" in page.read_text(encoding="utf-8")]
OTHER_COMMANDS: dict[str, Callable[[], int | None]] = {
    "check": check._check,
    "evaluate": evaluate._evaluate,
    "export": lambda: export.export_from_arguments(sys.argv[1:]),
    "predict": predict._predict,
}
MAX_EPOCHS = 2
USES_A_MODEL = re.compile(r"mnistlab\.predict|mnistlab\.evaluate|init\.from=\w")
NAMES_A_CALLABLE = re.compile(r"trust=\[my_|_target_: ")
ALL_TRAIN = os.environ.get("MNISTLAB_TEST_PAGES") == "train"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def write_files(page: Path, folder: Path) -> None:
    """The files that the page shows."""
    for block in (*blocks(page, "yaml"), *blocks(page, "python")):
        if named := re.match(r"# ([\w/]+\.(?:yaml|py))\n", block):
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(block.partition("\n")[2], encoding="utf-8")


def commands(page: Path) -> list[list[str]]:
    """The words of each command, from the name of its module on."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines() if line]
    assert all(line.startswith("python -m mnistlab.") for line in lines), page.name
    return [shlex.split(line.split(" > ")[0], comments=True)[2:] for line in lines]


def small(words: list[str], trains: bool) -> list[str]:
    """A training of few images and epochs, one seed. A sweep whose jobs would train only lists and checks them."""
    given = {word.partition("=")[0] for word in words}
    epochs = [int(word.partition("=")[2]) for word in words if word.startswith("fit.epochs=")]
    kept = [word for word in words if not word.startswith(("fit.epochs=", "sweep.seeds="))]
    more = {"source": "mnist_5k", "data.limit": "400"}
    dry = trains and not ALL_TRAIN and {"--multirun", "sweep"} & given and "sweep.dry_run" not in given
    kept += [f"{name}={value}" for name, value in more.items() if name not in given]
    kept += ["sweep.dry_run=true"] if dry else []
    return [*kept, f"fit.epochs={min([MAX_EPOCHS, *epochs]) if epochs else 1}"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run a command in this process, in tmp_path, which is also the folder of its results."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    trainer = Trainer(tmp_path, monkeypatch, capfd)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MNISTLAB_TRUST", raising=False)

    def command(module: str, *words: str, trains: bool = True) -> Finished:
        name = module.removeprefix("mnistlab.")
        if name in ("train", "compare"):
            monkeypatch.setattr(experiment, "run", REAL_RUN if trains else train_nothing)
            ended = trainer(*words, module=module)
            return Finished(ended.code, ended.out, ended.err)
        monkeypatch.setattr(sys, "argv", [module, *words])
        capfd.readouterr()
        code = errors.run_command(OTHER_COMMANDS[name])
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return command


def prepare(page: Path, run, folder: Path, make_npz) -> None:
    """What a page expects from the pages before it, or from its reader."""
    write_files(page, folder)
    if page.stem == "part-7-handwriting":
        assert run("mnistlab.export", "source=mnist_5k", "to=digits").code == 0
        write_photographs(folder / "digits" / "test", folder / "handwriting")
    make_npz("fashion.npz", num_classes=10, shape=(28, 28))  # the download of Fashion-MNIST is not for tests


@pytest.mark.slow
@pytest.mark.long_after(1)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, run, tmp_path: Path, make_npz, monkeypatch) -> None:
    prepare(page, run, tmp_path, make_npz)
    all_train = ALL_TRAIN or USES_A_MODEL.search(page.read_text(encoding="utf-8")) is not None
    for module, *words in commands(page):
        trains = all_train or any(map(NAMES_A_CALLABLE.search, words))
        arguments = small(words, trains) if module == "mnistlab.train" else words
        if "source=fashion_mnist" in words:
            arguments.append("source.path=fashion.npz")
        done = run(module, *arguments, trains=trains)
        assert done.code == 0, f"{module} {' '.join(arguments)}\n{done.out}\n{done.err}"
    if scripts := [block for block in blocks(page, "python") if not block.startswith("# ")]:
        run_script(scripts[0], tmp_path, monkeypatch)


def run_script(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the page, with the saved model of the first run."""
    model = min(folder.glob("runs/*/*/model_files/model.keras"), key=lambda file: file.stat().st_mtime_ns)
    monkeypatch.setattr(sys, "argv", ["script.py", str(model)])
    with contextlib.chdir(folder):
        exec(script, {})


def test_what_the_how_to_pages_add_has_an_effect(run, tmp_path: Path) -> None:
    """The optimizer of a class of one's own is the one that trains; what is not trusted is refused."""
    write_files(DOCS / "how-to" / "optimizer.md", tmp_path)
    words = ("--config-dir", "my_conf", "optimizer=sign_sgd", "source=mnist_5k", "data.limit=400", "fit.epochs=1")
    refused = run("mnistlab.train", *words)
    assert (refused.code, "trust=[my_optimizers]" in refused.err) == (2, True), refused.err
    done = run("mnistlab.check", *words, "trust=[my_optimizers]")
    assert (done.code, "; SignSGD" in done.out) == (0, True), done.out
