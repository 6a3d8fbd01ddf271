"""A shared tracking server: a real MLflow with a login on a real PostgreSQL, sweeps of two users at once, a restart in
the middle of them, wrong passwords, missing permissions, a backup. It needs Debian's package postgresql."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from conftest import Started, run_command, wait_until
from mlflow import MlflowClient
from shared_servers import SharedServer, shared_server
from tracking_servers import front

from mnistlab.tracking import mlflow_runs, sync
from mnistlab.tracking.stored_names import stored_metric

pytestmark = [pytest.mark.slow, pytest.mark.faults]

QUICK = ("tracking=server", "source=mnist_5k", "data.limit=300", "fit.epochs=2")
PARALLEL = ("--multirun", *QUICK, "launch=joblib", "hydra.launcher.n_jobs=2")
SWEEPS = {"user": "optimizer=momentum,adam,rmsprop", "other": "optimizer=sgd,adagrad,minibatch_gd"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Any:
    with shared_server(tmp_path_factory.mktemp("server")) as started:
        yield started


def root_of(folder: Path, user: str) -> Path:
    """The project folder of a user, who may sit at another machine."""
    (folder / user).mkdir(exist_ok=True)
    return folder / user


def client_of(server: SharedServer, monkeypatch, user: str = "admin") -> MlflowClient:
    for name, value in server.login(user).items():
        monkeypatch.setenv(name, value)
    return MlflowClient(server.uri)


def runs_of(client: MlflowClient, experiment: str = "mnistlab") -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], max_results=1000)) if found else []


def artifacts_of(client: MlflowClient, run_id: str) -> dict[str, int]:
    """Path -> size of all files of a run in the store."""
    found, folders = {}, [""]
    while folders:
        for entry in client.list_artifacts(run_id, folders.pop() or None):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                found[entry.path] = entry.file_size
    return found


def check_that_the_store_has(folder: Path, client: MlflowClient, run: Any) -> None:
    """Each value, setting and file of a run's folder is in the store once."""
    tags = json.loads((folder / "tags.json").read_text())
    assert run.data.tags["run.uid"] == tags["run.uid"]
    expected = Counter(
        (stored_metric(name), row["step"], row["timestamp"], float(value))
        for row in sync.read_rows(folder / "metrics.jsonl")
        for name, value in row["metrics"].items()
    )
    assert set(expected.values()) == {1}
    found = Counter(
        (name, entry.step, entry.timestamp, entry.value)
        for name in run.data.metrics
        for entry in client.get_metric_history(run.info.run_id, name)
    )
    assert found == expected
    here = {file.relative_to(folder).as_posix() for file in mlflow_runs.artifact_files(folder)}
    there = artifacts_of(client, run.info.run_id)
    assert here <= set(there), sorted(here - set(there))
    same = [path for path in here if path != "tags.json" and (folder / path).stat().st_size != there[path]]
    assert same == []


def test_two_sweeps_at_once_outlive_a_restart_of_the_server(server, tmp_path, monkeypatch) -> None:
    client = client_of(server, monkeypatch)
    roots = {user: root_of(tmp_path, user) for user in SWEEPS}
    sweeps = {user: Started(roots[user], *PARALLEL, words, **server.login(user)) for user, words in SWEEPS.items()}
    wait_until(lambda: [run for run in runs_of(client) if run.data.tags.get("sweep.kind") == "job"])
    server.kill()
    states = [file for user in SWEEPS for file in (roots[user] / "runs").rglob("sync.json")]
    wait_until(lambda: [file for file in states if json.loads(file.read_text())["reason"]])  # one has noticed
    server.start()
    codes = {user: sweep.finish() for user, sweep in sweeps.items()}
    outputs = {user: sweep.output for user, sweep in sweeps.items()}
    assert codes == {"user": 0, "other": 0}, outputs
    for user, root in roots.items():
        delivered = run_command(root, module="mnistlab.sync", **server.login(user))
        assert delivered.code == 0, delivered.out + delivered.err
        outputs[user] += delivered.out + delivered.err

    runs = runs_of(client)
    assert Counter(run.data.tags["sweep.kind"] for run in runs) == {"parent": 2, "job": 6}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["run.uid"] for run in runs}) == 8
    by_uid = {run.data.tags["run.uid"]: run for run in runs}
    models = client.search_logged_models([runs[0].info.experiment_id])
    assert Counter(str(model.status) for model in models) == {"READY": 6}
    for user, root in roots.items():
        folders = sync.in_run_folders(root, "tags.json")
        (parent,) = [file.parent for file in folders if "sweeps" in file.parts]
        parent_run = by_uid[json.loads((parent / "tags.json").read_text())["run.uid"]]
        jobs = [file.parent for file in folders if "sweeps" not in file.parts]
        assert len(jobs) == 3
        assert {"report.html", "table.csv"} <= set(artifacts_of(client, parent_run.info.run_id))
        assert "sweep.verdict" in parent_run.data.tags
        for folder in jobs:
            run = by_uid[json.loads((folder / "tags.json").read_text())["run.uid"]]
            assert run.data.tags["mlflow.parentRunId"] == parent_run.info.run_id
            assert [entry.step for entry in client.get_metric_history(run.info.run_id, "epoch/val_loss")] == [1, 2]
            assert [output.model_id for output in run.outputs.model_outputs] == [
                model.model_id for model in models if model.source_run_id == run.info.run_id
            ]
            check_that_the_store_has(folder, client, run)
        again = run_command(root, *PARALLEL, SWEEPS[user], "sweep.dry_run=true", **server.login(user))
        assert "3 jobs, 3 of them done" in again.out, again.out + again.err
    check_that_no_secret_is_anywhere(server, tmp_path, outputs)
    check_a_backup(server, tmp_path, client, runs)


def check_that_no_secret_is_anywhere(server: SharedServer, folder: Path, outputs: dict[str, str]) -> None:
    """Neither in a file of the users or of the server, nor in a database, an output, or a command line."""
    logins = [base64.b64encode(f"{user}:{word}".encode()).decode() for user, word in server.passwords.items()]
    files = [file for place in (folder, server.folder) for file in place.rglob("*") if file.is_file()]
    assert len(files) > 200
    assert [file for file in files if file.name == "auth.ini"]
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in server.processes()]
    assert any(b"mlflow" in command for command in commands)
    places = {str(file): file.read_bytes() for file in files} | {name: text.encode() for name, text in outputs.items()}
    places |= {"dump": server.dump().encode(), "commands": b"\n".join(commands)}
    assert b"COPY public.metrics" in places["dump"]
    for secret in (*server.secrets, *logins):
        assert [place for place, content in places.items() if secret.encode() in content] == []


def check_a_backup(server: SharedServer, folder: Path, client: MlflowClient, runs: list[Any]) -> None:
    """The documented backup, restored beside the first server, has the same runs and files."""
    copy = SharedServer(folder / "restored", server.database, ("restored", "restored_auth"))
    copy.passwords, copy.key = server.passwords, server.key
    for name, copied in zip(server.names, copy.names, strict=True):
        server.database.run("pg_dump", "-Fc", "-f", str(folder / f"{name}.dump"), name)
        server.database.run("pg_restore", "--no-owner", "-d", copied, str(folder / f"{name}.dump"))
    shutil.copytree(server.artifacts, copy.artifacts)
    upgraded = copy.upgrade()
    assert (upgraded.returncode, "The tables of both databases are up to date." in upgraded.stdout) == (0, True)
    copy.start()
    try:
        there = MlflowClient(copy.uri)
        found = {run.info.run_id: run for run in runs_of(there)}
        assert {run_id: run.data.metrics for run_id, run in found.items()} == {
            run.info.run_id: run.data.metrics for run in runs
        }
        run_id = next(run.info.run_id for run in runs if run.data.tags["sweep.kind"] == "job")
        assert artifacts_of(there, run_id) == artifacts_of(client, run_id)
    finally:
        assert copy.stop() == 0


def is_untouched(root: Path) -> bool:
    """Whether a project folder has neither files nor folders of runs and sweeps."""
    found = [path.relative_to(root).as_posix() for path in root.rglob("*")]
    return {path for path in found if not path.startswith("keras")} <= {"runs", "runs/sweeps"}


@pytest.mark.parametrize("words", [QUICK, ("--multirun", *QUICK, "optimizer=momentum,adam")])
def test_a_wrong_password_is_one_line_and_makes_nothing(server, tmp_path, monkeypatch, words) -> None:
    wrong = {**server.login(), "MLFLOW_TRACKING_PASSWORD": "canary-wrong-password"}
    refused = run_command(tmp_path, *words, "tracking.experiment=never-made", **wrong)
    assert refused.code == 2
    assert refused.out == ""
    assert refused.err.count("\n") == 1
    assert refused.err.startswith(f"Error: The tracking server refuses the login of the user 'user': {server.uri}.")
    assert "canary" not in refused.err
    assert is_untouched(tmp_path)
    assert client_of(server, monkeypatch).get_experiment_by_name("never-made") is None


def test_other_commands_say_the_same_of_a_missing_password(server, tmp_path) -> None:
    for module, words in (("compare", ()), ("check", QUICK), ("evaluate", ("run=abcd",))):
        refused = run_command(tmp_path, *words, module=f"mnistlab.{module}", MLFLOW_TRACKING_URI=server.uri)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert refused.err.startswith(f"Error: The tracking server demands a login: {server.uri}.")
    assert is_untouched(tmp_path)


def test_a_missing_permission_is_one_line_and_makes_nothing(server, tmp_path, monkeypatch) -> None:
    client = client_of(server, monkeypatch)
    client.create_experiment("of-the-administrator")
    server.default_permission = "READ"
    assert server.stop() == 0
    server.start()
    try:
        for words in (QUICK, ("--multirun", *QUICK, "optimizer=momentum,adam")):
            refused = run_command(tmp_path, *words, "tracking.experiment=of-the-administrator", **server.login())
            assert refused.code == 2, refused.out + refused.err
            assert refused.err.count("\n") == 1, refused.err
            assert refused.err.startswith("Error: The tracking server does not permit it, login of the user 'user'")
            assert is_untouched(tmp_path)
            assert runs_of(client, "of-the-administrator") == []
        assert server.users("permit", "user", "of-the-administrator", "EDIT").returncode == 0
        done = run_command(tmp_path, *QUICK, "tracking.experiment=of-the-administrator", **server.login())
        assert (done.code, len(runs_of(client, "of-the-administrator"))) == (0, 1), done.out + done.err
    finally:
        server.default_permission = "EDIT"
        server.stop()
        server.start()


def login_answer(server: SharedServer, user: str) -> int:
    """The status with which the server answers a request with this user's login."""
    word = base64.b64encode(f"{user}:{server.passwords[user]}".encode()).decode()
    request = Request(
        f"{server.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Authorization": f"Basic {word}"}
    )
    try:
        with urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        return int(error.code)


def listed(server: SharedServer) -> list[str]:
    shown = server.users("list")
    assert (shown.returncode, shown.stderr) == (0, "")
    return sorted(shown.stdout.splitlines())


def test_a_user_is_added_gets_another_password_and_is_removed(server, tmp_path, monkeypatch) -> None:
    before = listed(server)
    assert {"admin  (administrator)", "other", "user"} <= set(before)
    first, second = (f"canary-ada-{secrets.token_hex(6)}" for _ in range(2))
    server.passwords["ada"] = first
    assert login_answer(server, "ada") == 401

    added = server.users("add", "ada", password=first)
    assert (added.returncode, added.stdout, added.stderr) == (0, "The user ada can log in.\n", "")
    assert listed(server) == sorted([*before, "ada"])
    assert login_answer(server, "ada") == 200

    changed = server.users("password", "ada", password=second)
    assert (changed.returncode, changed.stdout, changed.stderr) == (0, "The user ada has another password.\n", "")
    refused = run_command(tmp_path, *QUICK, **server.login("ada"))
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert refused.err.startswith("Error: The tracking server refuses the login of the user 'ada'")
    assert is_untouched(tmp_path)
    server.passwords["ada"] = second
    assert login_answer(server, "ada") == 200
    done = run_command(tmp_path, *QUICK, "tracking.experiment=of-ada", **server.login("ada"))
    assert done.code == 0, done.out + done.err

    removed = server.users("remove", "ada")
    assert (removed.returncode, removed.stderr) == (0, "")
    assert removed.stdout == "The user ada is removed; the runs stay.\n"
    assert listed(server) == before
    assert login_answer(server, "ada") == 401
    del server.passwords["ada"]
    assert [run.info.status for run in runs_of(client_of(server, monkeypatch), "of-ada")] == ["FINISHED"]


MISTAKES_WITH_USERS = (
    (("add", "user"), 1, "Error: the server refused: RESOURCE_ALREADY_EXISTS"),
    (("password", "nobody"), 1, "Error: the server refused: RESOURCE_DOES_NOT_EXIST"),
    (("remove", "nobody"), 1, "Error: the server refused: RESOURCE_DOES_NOT_EXIST"),
    (("remove",), 2, "Error: this is no command."),
    (("list", "user"), 2, "Error: this is no command."),
    (("permit", "user", "Default", "OWN"), 2, "Error: RIGHT must be one of READ, USE, EDIT, MANAGE. Received: OWN."),
)


def test_mistakes_with_users_change_nothing(server) -> None:
    before = listed(server)
    for words, code, message in MISTAKES_WITH_USERS:
        refused = server.users(*words, password=f"canary-mistake-{secrets.token_hex(6)}")
        assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
        assert refused.stderr.startswith(message)
        assert "Traceback" not in refused.stderr
        assert "canary" not in refused.stderr
    assert listed(server) == before
    assert login_answer(server, "user") == 200


def test_only_the_administrator_changes_users(server) -> None:
    before = listed(server)
    for words in (("password", "other"), ("remove", "other"), ("add", "ada")):
        refused = server.users(*words, password="canary-not-permitted", **server.login("user"))
        assert (refused.returncode, refused.stdout) == (1, ""), refused.stdout
        assert refused.stderr.startswith("Error: the server refused: ")
        assert "Traceback" not in refused.stderr
    assert listed(server) == before
    assert login_answer(server, "other") == 200


@pytest.mark.parametrize("version", ["2.22.1", "4.0.0"])
def test_another_version_is_one_line_and_makes_nothing(server, tmp_path, monkeypatch, version: str) -> None:
    with front(server.port, {"/version": version}) as (uri, passed):
        refused = run_command(tmp_path, *QUICK, **{**server.login(), "MLFLOW_TRACKING_URI": uri})
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert refused.err.startswith(f"Error: The tracking server {uri} runs MLflow {version}. It must be 3.0 or later")
    assert is_untouched(tmp_path)
    assert passed == ["/health"]
