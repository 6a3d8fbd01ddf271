"""`from mnistlab import train, sweep, load_run`, as a notebook uses them: one process, the blocks of the page first."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, Store, environment, run_command

from mnistlab.config import ConfigError
from mnistlab.notebook import SweepResult, load_run

pytestmark = pytest.mark.long

PAGE = PROJECT / "docs" / "notebooks.md"
SCRIPT = """
import logging, signal, sys, threading, time, _thread
from pathlib import Path

mine = logging.StreamHandler(sys.stdout)
logging.getLogger().addHandler(mine)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
argv = list(sys.argv)
facts = {}

BLOCKS
facts["handlers"] = logging.getLogger().handlers == [mine]
facts["sigterm"] = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
facts["sigint"] = signal.getsignal(signal.SIGINT) == signal.default_int_handler
facts["argv"] = sys.argv == argv
facts["run"] = str(run.folder)
facts["sweep"] = [str(compared.folder), [str(one.folder) for one in compared.runs], list(compared.names)]
elsewhere = Path("a folder").resolve()
apart = sweep("source=mnist_5k", "data.limit=200", "fit.epochs=1", seed=[0, 1], paths={"root": str(elsewhere)})
facts["apart"] = [str(run.folder.relative_to(elsewhere)) for run in apart.runs]
facts["latest"], facts["best"] = load_run().name, load_run("best").name
facts["model"] = run.model.predict(_images(), verbose=0).argmax(1).tolist()
facts["predicted"] = run.predictions["predicted"][:100].tolist()

def error_of(function, *words, **settings):
    try:
        function(*words, **settings)
    except BaseException as error:
        return [type(error).__name__, str(error)]

facts["mistake"] = error_of(train, "optimizer=nosuch", fit={"epoch": 3})
lost = train(source="mnist_5k", optimizer={"learning_rate": 1e30}, run={"name": "lost"}, **{"data.limit": 200})
facts["diverged"] = repr(lost)

def my_optimizer(learning_rate=0.01):
    import keras
    return keras.optimizers.SGD(learning_rate, momentum=0.8)

own = train("source=mnist_5k", "trust=[__main__]", "fit.epochs=1", **{"optimizer._target_": "__main__.my_optimizer"})
facts["own"] = own.settings["optimizer"]["_target_"]

def broken(learning_rate=0.01):
    raise RuntimeError("out of ideas")

facts["broken"] = error_of(
    train, "source=mnist_5k", "trust=[__main__]", "run.name=broken", **{"optimizer._target_": "__main__.broken"}
)
results = []
thread = threading.Thread(target=lambda: results.append(train(source="mnist_5k", seed=5, fit={"epochs": 1})))
thread.start()
thread.join()
facts["thread"] = results[0].status

def interrupt():
    while not list(Path(".").glob("runs/*/*/metrics.jsonl")) or not _has_begun():
        time.sleep(0.02)
    _thread.interrupt_main()

def _has_begun():
    return any('"run.name": "stopped"' in file.read_text() and (file.parent / "metrics.jsonl").exists()
               for file in Path(".").glob("runs/*/*/tags.json"))

threading.Thread(target=interrupt).start()
facts["stopped"] = error_of(train, source="mnist_5k", run={"name": "stopped"}, fit={"epochs": 2000})
facts["after"] = load_run("stopped").status
import json
Path("facts.json").write_text(json.dumps(facts))
"""
IMAGES = """
def _images():
    import numpy as np
    from mnistlab.data import sources
    return np.asarray(sources.mnist_5k().test.images[np.arange(100)])
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    script = folder / "script.py"
    script.write_text(IMAGES + SCRIPT.replace("BLOCKS", "\n".join(blocks)), encoding="utf-8")
    variables = {**environment(folder), "MPLBACKEND": "Agg", "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder / "output.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def facts(root: Path) -> dict:
    return json.loads((root / "facts.json").read_text())


@pytest.fixture(scope="module")
def run(root: Path, facts: dict):
    return load_run(facts["run"])


@pytest.fixture(scope="module")
def compared(facts: dict) -> SweepResult:
    folder, runs, names = facts["sweep"]
    return SweepResult(Path(folder), tuple(map(load_run, runs)), tuple(names))


def test_a_run_is_that_of_the_command_to_the_bit(root: Path, run, tmp_path: Path) -> None:
    words = ("source=mnist_5k", "optimizer=momentum", "fit.epochs=3", "fit.batch_size=64", "tracking=none")
    assert run_command(tmp_path, *words).code == 0
    (folder,) = tmp_path.glob("runs/*/*")
    columns = run.history.columns.drop("epoch_seconds")
    assert list(run.history.index) == [1, 2, 3]
    assert {"loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"} == set(columns)
    assert run.history[columns].equals(load_run(folder).history[columns])


def test_it_is_recorded_as_by_the_command(root: Path, run) -> None:
    assert run.status == "FINISHED"
    stored = Store(root).client.get_run(run.id)
    assert stored.data.metrics["test/accuracy"] == pytest.approx(run.metrics["test_accuracy"])
    assert stored.data.metrics["epoch/val_loss"] == pytest.approx(run.history["val_loss"].iloc[-1])
    assert run.settings["fit"]["batch_size"] == 64
    assert set(run.figures) == {"learning_curves", "confusion_matrix", "wrong_images"}
    assert run.figures["learning_curves"]._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(KeyError, match="there is no figure 'nosuch'. Choices: confusion_matrix"):
        run.figures["nosuch"]


def test_its_model_predicts_what_it_recorded(facts: dict, run) -> None:
    assert facts["model"] == facts["predicted"]
    assert run.confusion_matrix.to_numpy().sum() == 1000
    right = np.trace(run.confusion_matrix.to_numpy()) / 1000
    assert right == pytest.approx(run.metrics["test_accuracy"], abs=1e-6)
    assert len(run.predictions) == 1000
    assert "precision" in run.report


def test_a_sweep_has_verdict_runs_and_tables(compared: SweepResult) -> None:
    assert len(compared.runs) == len(compared.jobs) == 4
    assert set(compared.table.index) == {"momentum", "adam"}
    for option in compared.table.index:
        values = [run.metrics["best_epoch_val_accuracy"] for run in compared.runs if run.name.startswith(option)]
        assert compared.table.loc[option, "mean"] == pytest.approx(np.mean(values))
    (pair,) = compared.pairs.to_dict("records")
    assert {pair["first"], pair["second"]} == {"momentum", "adam"}
    assert str(pair["first"]) in compared.verdict
    assert compared.best.metrics["best_epoch_val_accuracy"] == max(
        run.metrics["best_epoch_val_accuracy"] for run in compared.runs
    )
    assert compared.history.index.names == ["job", "epoch"]
    assert len(compared.history) == 8
    assert compared.report.is_file()


def test_the_same_sweep_again_trains_nothing(root: Path) -> None:
    assert len(Store(root).runs("job")) == 4


def test_load_run_finds_what_the_command_finds(root: Path, facts: dict) -> None:
    runs = [run for run in Store(root).runs("job") if run.info.run_name[-1] in "01"]
    assert facts["latest"] == max(runs, key=lambda run: run.info.start_time).info.run_name
    assert facts["best"] == max(runs, key=lambda run: run.data.metrics["summary/best_epoch_val_accuracy"]).info.run_name


def test_a_sweep_may_be_in_a_folder_with_a_space(facts: dict) -> None:
    assert len(facts["apart"]) == 2
    assert all(folder.startswith("runs/") for folder in facts["apart"])


@pytest.mark.parametrize("fact", ["handlers", "sigterm", "sigint", "argv"])
def test_the_process_is_as_before(facts: dict, fact: str) -> None:
    assert facts[fact]


def test_a_mistake_raises_all_problems(facts: dict) -> None:
    kind, text = facts["mistake"]
    assert kind == "ConfigError"
    assert "optimizer=nosuch is not an option" in text
    assert "Did you mean fit.epochs?" in text


def test_a_run_that_diverged_is_returned_and_has_no_model(root: Path, facts: dict) -> None:
    assert facts["diverged"].startswith("Run('lost', FINISHED")
    (folder,) = (file.parent for file in root.glob("runs/*/*/tags.json") if '"lost"' in file.read_text())
    with pytest.raises(ConfigError, match="The run lost saved no model: it diverged"):
        _ = load_run(folder).model
    assert "diverged" in load_run(folder)._repr_html_()


def test_a_function_of_the_notebook_is_used_if_it_is_trusted(facts: dict) -> None:
    assert facts["own"] == "__main__.my_optimizer"


def test_an_error_is_raised_as_it_was(facts: dict) -> None:
    kind, text = facts["broken"]
    assert "out of ideas" in text
    assert kind in ("ConfigError", "RuntimeError")


def test_a_thread_can_train(facts: dict) -> None:
    assert facts["thread"] == "FINISHED"


def test_an_interrupted_cell_ends_its_run_as_killed(root: Path, facts: dict) -> None:
    assert facts["stopped"] == ["Stopped", ""]
    assert facts["after"] == "KILLED"
    (stopped,) = (run for run in Store(root).runs() if run.info.run_name == "stopped")
    assert stopped.info.status == "KILLED"


class Tags(html.parser.HTMLParser):
    """Checks that tags are closed in order; counts images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images, self.text = 0, ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.images += tag == "img"
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_run_shows_itself(run) -> None:
    page = Tags(run._repr_html_())
    assert page.images == 3
    assert f"{run.metrics['test_accuracy']:.4f}" in page.text
    assert run.sentence in page.text
    assert repr(run) == (
        f"Run({run.name!r}, FINISHED, best_epoch_val_accuracy={run.metrics['best_epoch_val_accuracy']:.4f}, "
        f"test_accuracy={run.metrics['test_accuracy']:.4f}, epochs=3)"
    )


def test_a_sweep_shows_itself(compared: SweepResult) -> None:
    page = Tags(compared._repr_html_())
    assert compared.verdict in page.text
    assert page.images == len(compared.figures) >= 5
    assert str(compared.report) in page.text


def test_a_name_of_html_is_shown_as_text(run, tmp_path: Path) -> None:
    (tmp_path / "tags.json").write_text(json.dumps({"run.name": "<script>alert(1)</script>"}))
    (tmp_path / "config.yaml").write_text("overrides: []\n")
    page = load_run(tmp_path)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("named", "message"),
    [("nosuch", "nosuch"), ("0" * 32, "There is no run 0{32}"), ("models:/nosuch@champion", "nosuch")],
    ids=["a name", "an id", "a registered model"],
)
def test_a_run_that_does_not_exist_is_one_clear_line(root: Path, named: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_run(named, root=str(root))
    assert "\n" not in str(raised.value)


def test_a_run_without_its_folder_is_fetched_from_the_store(root: Path, run, tmp_path: Path) -> None:
    known = (run.id, run.history, run.metrics, set(run.figures))
    run.folder.rename(tmp_path / "elsewhere")
    try:
        fetched = load_run(known[0], root=str(root))
        assert fetched.folder == root / "runs" / "downloads" / known[0]
        assert fetched.history.equals(known[1])
        assert (fetched.status, fetched.id, fetched.metrics) == ("FINISHED", known[0], known[2])
        assert set(fetched.figures) == known[3]
        assert fetched.model.count_params() == 101_770
    finally:
        (tmp_path / "elsewhere").rename(run.folder)
