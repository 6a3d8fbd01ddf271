"""What is recorded about a run besides its metrics: settings, data, code and libraries before the training, reports and
the model's files after it."""

import functools
import json
import logging
import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mnistlab.config import Config, parameters
from mnistlab.config.run_names import default_learning_rate, run_name
from mnistlab.config.secrets import hidden, hide_secrets
from mnistlab.runtime import files
from mnistlab.runtime.processes import process_name
from mnistlab.tracking import continuing, fingerprint, pages, provenance, stores
from mnistlab.tracking.interrupted import EarlierRun
from mnistlab.tracking.recorder import Recorder
from mnistlab.tracking.run_proxy import open_run

log = logging.getLogger("mnistlab")

TABLE_FILE = "reports/classification_report_table.json"  # as MLflow's `log_table` writes one
SOURCE_TAGS = {"mlflow.source.name": "mnistlab.train", "mlflow.source.type": "LOCAL"}


def open_record(config: Config, source: str, earlier: EarlierRun | None = None, epoch: int = 0) -> Recorder:
    """Open a run's record: its folder and, unless `tracking=none`, a run in the tracking store.

    It has the name that `run.name` gives, with the job's name in a sweep.

    Args:
        source: the data set that was loaded.
        earlier: the interrupted run that is continued after `epoch` epochs.

    Raises:
        ConfigError: the tracking store cannot be used.
    """
    folder = Path(config.paths.run or Path(config.paths.root) / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    name = hide_secrets("-".join(filter(None, [config.run.name, config.sweep_job.name])) or run_name(config, source))
    tags = {"run.folder": str(folder), "run.name": name, "run.process": process_name()}
    tags |= {"run.uid": uuid.uuid4().hex, **config.sweep_job.tags}
    if earlier:
        tags = continuing.tags_of(earlier.tags, tags, epoch)
        name = tags["run.name"]
    if config.tracking.backend == "none":
        return Recorder(folder, name, tags, continues=earlier is not None)
    store = stores.checked_address(config.tracking, config.paths.root)
    if store.from_environment:
        _tell_once(store.from_environment)
    run, problem = open_run(store, name, {**SOURCE_TAGS, **tags}, continues=earlier is not None)
    return Recorder(folder, name, {**SOURCE_TAGS, **tags}, run, store, problem, continues=earlier is not None)


@functools.cache
def _tell_once(variables: str) -> None:
    log.info("Recording where the environment variables say: %s", variables)


def write_description(
    record: Recorder, config: Config, dataset: Mapping[str, Any], tags: Mapping[str, Any], model_summary: str
) -> None:
    """Record everything that is known before the training.

    Args:
        dataset: as `data.describe` returns it; tags: of the training and the model, the fingerprint among them;
        model_summary: the text of Keras's `model.summary`.
    """
    settings = parameters(config)
    record.write_text("config.yaml", yaml.safe_dump(_nested(settings, config), sort_keys=False))
    record.log_parameters(settings)
    git = provenance.git_state(Path(config.config_dir or "."))
    diffs = {name: git.pop(name) for name in tuple(git) if name.endswith(".diff")}
    for name, diff in diffs.items():
        if diff:
            record.write_text(name, diff)
    commit = git.get("git.commit") or git.get("git.mnistlab.commit")
    digests = {split: facts["digest"] for split, facts in dataset["splits"].items()}
    rate = default_learning_rate(config)
    record.set_tags(
        {
            "source.used": dataset["name"],
            **tags,
            **({"default.learning_rate": str(rate)} if isinstance(rate, int | float) else {}),
            "hash.data": fingerprint.hash_of(digests),
            **{f"hash.{split}": digest for split, digest in digests.items()},
            "mlflow.note.content": repeat_command(config),
            **({"mlflow.source.git.commit": commit} if commit else {}),
            **git,
            **provenance.library_versions(),
        }
    )
    record.write_json("dataset.json", {key: value for key, value in dataset.items() if key != "manifest"})
    if dataset["manifest"]:
        record.write_text("manifest.csv", dataset["manifest"])
    record.submit("log_dataset", dataset["name"], dataset["origin"], digests, dataset["splits"])
    record.write_text("model_summary.txt", model_summary)


def repeat_command(config: Config) -> str:
    """The command that repeats a run, in Markdown."""
    given = [word for word in config.overrides if not word.lstrip("+").startswith("sweep.")]
    return repeat_words([*(["--config-dir", config.config_dir] if config.config_dir else []), *given])


def repeat_words(words: Sequence[str]) -> str:
    """The training command with these words, in Markdown; without the folder of the results."""
    kept = [word for word in words if not word.lstrip("+").startswith("paths.")]
    return f"Repeat: `{train_command(kept)}`"


def train_command(words: Sequence[str]) -> str:
    """The training command with these words, quoted for a shell, without secrets."""
    return hide_secrets(shlex.join(["python", "-m", "mnistlab.train", *words]))


def write_note(record: Recorder, config: Config, summary: str) -> None:
    """Describe a finished run in MLflow: summary, figures, and how to repeat it.

    summary: in Markdown.
    """
    links = []
    if record.store_run is not None and (record.folder / "model.json").is_file():
        page = functools.partial(pages.of_run, record.store_run.experiment_id, record.store_run.run_id)
        figures = ("learning_curves", "confusion_matrix", "wrong_images")
        links = [" · ".join(f"[{name.replace('_', ' ')}]({page(f'figures/{name}.png')})" for name in figures)]
    record.set_tags({"mlflow.note.content": "\n\n".join([summary, *links, repeat_command(config)])})


def _nested(settings: dict[str, Any], config: Config) -> dict[str, Any]:
    """The resolved configuration, nested as in conf/. Values of environment variables stay expressions."""
    nested = {key: value for key, value in asdict(config).items() if key in {name.split(".")[0] for name in settings}}
    for dotted, expression in config.from_environment.items():
        *parents, last = dotted.split(".")
        node: Any = functools.reduce(_entry, parents, nested)
        node[int(last) if isinstance(node, list) else last] = expression
    whole: dict[str, Any] = hidden({**nested, "choices": config.choices, "overrides": config.overrides})
    return whole


def _entry(node: Any, key: str) -> Any:
    return node[int(key) if isinstance(node, list) else key]


def write_reports(record: Recorder, reports: Mapping[str, Any], table: Mapping[str, list[Any]]) -> None:
    """Record the reports on the test set.

    Args:
        reports: file name -> content: text for .txt, what JSON can write for .json, arrays by name for .npz.
        table: column -> values of the classification report, shown as a table by MLflow.
    """
    for name, content in reports.items():
        if name.endswith(".npz"):
            with files.replacing(record.folder / "reports" / name) as half, half.open("wb") as file:
                np.savez_compressed(file, **content)
        elif name.endswith(".json"):
            record.write_json(f"reports/{name}", content)
        else:
            record.write_text(f"reports/{name}", content)
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    record.write_json(TABLE_FILE, {"columns": list(table), "data": rows})
    record.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": TABLE_FILE, "type": "table"}])})
