"""The pages of the real MLflow UI in headless Chromium, on a store with a sweep, single, failed and diverged runs.

It needs Playwright (`pip install -e '.[browser]'`) and Chromium or Chrome: Debian's package, or
`playwright install chromium`. MNISTLAB_TEST_PICTURES=FOLDER keeps a screenshot of each page.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Store, environment, restore_interrupt, run_command

playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")

pytestmark = pytest.mark.long

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = os.environ.get("MNISTLAB_TEST_PICTURES")
OWN_CODE = """
import keras

class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("the [measuring] device is_full")
"""
TRAIN = ("source=mnist_5k", "data.limit=400")
MILLISECONDS = 20_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "my_code.py").write_text(OWN_CODE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    for code, *words in (
        (0, *TRAIN, "sweep=optimizers", "sweep.seeds=2", "fit.epochs=3"),
        (0, *TRAIN, "run.name=diverged", "optimizer.learning_rate=1e30"),
        (1, *TRAIN, "run.name=failed", "trust=[my_code]", "+callbacks.own._target_=my_code.Failing"),
        (0, *TRAIN, "run.name=single", "fit.epochs=4", "save.register=digits"),
    ):
        done = run_command(folder, *words, PYTHONPATH=path)
        assert done.code == code, done.err
    return folder


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """What `python -m mnistlab.ui` prints."""
    words = [sys.executable, "-u", "-m", "mnistlab.ui"]
    ui = subprocess.Popen(
        words,
        env=environment(root),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=restore_interrupt,
        start_new_session=True,
    )
    try:
        yield ui.stdout.readline().strip()
    finally:
        os.killpg(ui.pid, signal.SIGINT)
        ui.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        try:
            found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"Chromium is not installed: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def show(browser, request: pytest.FixtureRequest):
    """Open a page in a new browser, wait for a text, and return the page."""
    context = browser.new_context(viewport={"width": 1700, "height": 1300})
    context.set_default_timeout(MILLISECONDS)
    page = context.new_page()

    def opened(url: str, wait_for: str):
        page.goto(url)
        page.get_by_text(wait_for).first.wait_for()
        return page

    yield opened
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(PICTURES) / f"{request.node.name}.png")
    context.close()


@pytest.fixture(scope="module")
def page_of(root: Path, address: str):
    """The address of a run's page; tab: 'model-metrics', 'artifacts/FILE'."""
    server = address.split("#")[0]
    runs = {run.info.run_name: run for run in Store(root).runs()}

    def url(name: str, tab: str = "") -> str:
        info = runs[name].info
        path = f"/experiments/{info.experiment_id}/runs/{info.run_id}{f'/{tab}' if tab else ''}"
        return f"{server}#{path}?workflowType=machine_learning"

    return url


def count(page, title: str) -> int:
    """The number behind a title, as in 'Parameters (14)'."""
    return int(re.search(rf"{title} \((\d+)\)", page.inner_text("body"))[1])


def description(page) -> str:
    """The whole text of the description."""
    more = page.get_by_text("Show more")
    if more.count():
        more.first.click()
    return page.inner_text("body").partition("Description")[2].partition("Metrics (")[0]


def opened_by(page, link: str):
    """The page that a link of the description opens in a new tab."""
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=link, exact=True).first.click()
    return opened.value


def test_the_address_is_that_of_the_latest_run_in_the_mode_of_training(show, address: str) -> None:
    page = show(address, "About this run")
    assert page.get_by_role("heading", name="single").count()
    text = page.inner_text("body")
    assert "Model registry" in text
    assert not {"Judges", "Prompts", "Evaluation runs"} & set(text.splitlines())


def test_the_table_of_runs_has_the_sweep_s_jobs_under_their_parent(show, address: str) -> None:
    page = show(address.split("/runs/")[0] + "/runs?workflowType=machine_learning", "sweep optimizer")
    rows = [
        line
        for line in page.inner_text("body").splitlines()
        if line in {"single", "failed", "diverged", "sweep optimizer"}
    ]
    assert sorted(rows) == ["diverged", "failed", "single", "sweep optimizer"]
    assert "adam-seed0" not in page.inner_text("body")
    assert page.get_by_text(re.compile("mnist_5k-train")).count() >= 4  # each has its data set
    page.locator("button[data-component-id*='runnamecellrenderer']").first.click()
    page.get_by_text("adam-seed0").first.wait_for()


def test_a_run_begins_with_its_summary(show, page_of) -> None:
    page = show(page_of("single"), "About this run")
    text = description(page)
    for needed in (
        "training",
        "validation",
        "test",
        "accuracy",
        "best epoch",
        "Repeat: python -m mnistlab.train",
        "run.name=single",
    ):
        assert needed in text, needed
    for figure in ("learning curves", "confusion matrix", "wrong images"):
        link = page.get_by_role("link", name=figure).first
        assert "workflowType=machine_learning" in link.get_attribute("href")
    assert count(page, "Parameters") <= 18
    tags = page.inner_text("body").partition("Tags\n")[2].partition("Registered models")[0]
    assert len(re.findall(r"^[\w.…]+\s*:?$|^[\w.…]+:", tags, re.MULTILINE)) <= 34
    body = page.inner_text("body")
    assert "digits" in body.partition("Registered models")[2]
    assert "mnist_5k-train" in body.partition("Datasets")[2].partition("Tags")[0]


def test_a_run_s_charts_begin_with_the_curves(show, page_of) -> None:
    page = show(page_of("single", "model-metrics"), "single (epoch/loss)")
    sections = re.findall(r"^(\w+)\s*\((\d+)\)$", page.inner_text("body"), re.MULTILINE)
    assert sections[0] == ("epoch", "5")
    assert {"summary", "test", "test_f1", "time"} <= {name for name, _ in sections}
    for name in ("accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"):
        assert page.get_by_text(f"single (epoch/{name})").count()


@pytest.mark.parametrize("figure", ["learning_curves", "confusion_matrix", "wrong_images"])
def test_a_figure_opens_in_the_page(show, page_of, figure: str) -> None:
    page = show(page_of("single", f"artifacts/figures/{figure}.png"), f"figures/{figure}.png")
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 500)")


def test_a_link_of_the_description_opens_its_figure(show, page_of) -> None:
    page = show(page_of("single"), "About this run")
    description(page)
    figure = opened_by(page, "confusion matrix")
    figure.get_by_text("figures/confusion_matrix.png").first.wait_for()
    assert "Model registry" in figure.inner_text("body")


def test_a_failed_run_says_why(show, page_of) -> None:
    page = show(page_of("failed"), "About this run")
    assert "Failed" in page.inner_text("body").partition("Status")[2].partition("Run ID")[0]
    text = description(page)
    assert "FAILED: RuntimeError: the [measuring] device is_full" in text
    assert "Repeat: python -m mnistlab.train" in text


def test_a_diverged_run_says_so(show, page_of) -> None:
    page = show(page_of("diverged"), "About this run")
    assert "diverged: the loss of epoch 1 is not a finite number" in description(page)
    assert "outcome" in page.inner_text("body")


def test_a_sweep_s_parent_has_verdict_data_source_and_jobs(show, page_of, root: Path) -> None:
    page = show(page_of("sweep optimizer"), "About this run")
    (parent,) = Store(root).runs("parent")
    text = description(page)
    assert parent.data.tags["sweep.verdict"] in text
    assert "Repeat: python -m mnistlab.train source=mnist_5k data.limit=400 sweep=optimizers" in text
    assert "rmsprop-seed1" in text
    body = page.inner_text("body")
    assert "mnistlab.train" in body.partition("Source")[2][:200]
    assert "mnist_5k-train" in body.partition("Datasets")[2].partition("Tags")[0]
    report = opened_by(page, "report")
    report.get_by_text("report.html").first.wait_for()
    report.frame_locator("iframe").first.get_by_text("Pairwise differences").first.wait_for()


def test_the_logged_model_has_its_signature_and_example(show, page_of, root: Path, address: str) -> None:
    (run,) = (run for run in Store(root).runs() if run.info.run_name == "single")
    model = run.data.tags["model.address"].removeprefix("models:/")
    server, experiment = address.split("#")[0], run.info.experiment_id
    page = show(
        f"{server}#/experiments/{experiment}/models/{model}?workflowType=machine_learning", "About this logged model"
    )
    assert "digits" in page.inner_text("body")
