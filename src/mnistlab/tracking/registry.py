"""Registered models: versions of a name in the tracking store's registry, and the aliases that point to them."""

import contextlib
import json
from typing import Any, NamedTuple

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.tracking.mlflow_models import fluent_store
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

VERSIONS_TAG = "mlflow.modelVersions"  # of a logged model: the UI shows them as links


class Version(NamedTuple):
    """A version of a registered model. model_id: of the logged model; run_id: of the run that trained it, or ''."""

    name: str
    number: str
    model_id: str
    run_id: str

    @property
    def address(self) -> str:
        return f"models:/{self.name}/{self.number}"


def register(store: StoreAddress, name: str, model_id: str, run_id: str) -> Version:
    """Make a logged model a version of a registered model, which is created if it does not exist.

    The same logged model is registered under a name once.
    """
    from mlflow.exceptions import MlflowException

    client, _ = open_store(store)
    with contextlib.suppress(MlflowException):  # it exists; any other error is raised by the next call
        client.create_registered_model(name)
    for found in versions(client, name):
        if found.model_id == model_id:
            return found
    with fluent_store(store.uri):  # MLflow looks the logged model up there
        made = client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
    known = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    listed = [*known, {"name": name, "version": made.version}]
    client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps(listed)})
    return _version(made)


def versions(client: Any, name: str) -> list[Version]:
    """The versions of a registered model, the newest first; empty if there is none of this name."""
    quoted = name.replace("'", "''")
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", 1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return [_version(one) for one in sorted(found, key=lambda one: -int(one.version))]


def names_of_run(store: StoreAddress, run_id: str) -> list[str]:
    """The registered models that have a version of this run."""
    client, _ = open_store(store)
    return sorted({one.name for one in client.search_model_versions(f"run_id='{run_id}'", 1000)})


def target_of_alias(store: StoreAddress, name: str, alias: str) -> Version | None:
    """The version that an alias points to; None if the alias, or the registered model, does not exist."""
    from mlflow.exceptions import MlflowException

    client, _ = open_store(store)
    try:
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException:
        return None


def set_alias(store: StoreAddress, version: Version, alias: str) -> None:
    """Point an alias to a version.

    Raises:
        ConfigError: MLflow does not take the alias ('latest' and 'v3' are reserved).
    """
    from mlflow.exceptions import MlflowException

    try:
        open_store(store)[0].set_registered_model_alias(version.name, alias, version.number)
    except MlflowException as error:
        raise ConfigError(f"alias={alias} cannot be set in {hide_secrets(store.uri)}: {error}.") from error


def _version(found: Any) -> Version:
    model_id = found.model_id or str(found.source).removeprefix("models:/")
    return Version(found.name, str(found.version), model_id, found.run_id or "")
