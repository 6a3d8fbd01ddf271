"""The digests of a run's model files: recorded when they are saved, compared before one is opened again."""

from collections.abc import Mapping
from pathlib import Path

from mnistlab.config import ConfigError
from mnistlab.runtime import files

FACTS, FOLDER = "model.json", "model_files"  # of a run: its facts on the model, with the digests; the model's files
NUM_SHOWN = 12  # letters of a digest in a message


def digest_tag(name: str) -> str:
    """The tag, of a run or of a logged model, that has the SHA-256 of a model file: model.sha256.weights.h5."""
    return f"model.sha256.{name.removeprefix('model.')}"


def check_file(file: Path, place: str) -> None:
    """Compare a file with what its run recorded, if it is in a run's folder.

    place: what named it, for the message: 'init.from=RUN'.

    Raises:
        ConfigError: the file is another than the run saved.
    """
    found = file.resolve()
    recorded = files.read_json(found.parents[1] / FACTS).get("sha256") if found.parent.name == FOLDER else None
    compare(file, recorded.get(found.name) if isinstance(recorded, Mapping) else None, place)


def compare(file: Path, recorded: object, place: str) -> None:
    """Compare a file with its recorded digest; None: it has none, as in runs of earlier versions.

    place: what named it, for the message: 'init.from=RUN'.

    Raises:
        ConfigError: they differ, or the file cannot be read.
    """
    if recorded is None:
        return
    try:
        found = files.sha256(file)
    except OSError as error:
        raise ConfigError(f"{place}: {file} cannot be read: {error.strerror}.") from error
    if found != recorded:
        raise ConfigError(
            f"{place}: {file.name} is not the file that the run saved; it was changed or damaged "
            f"afterwards. Recorded SHA-256: {str(recorded)[:NUM_SHOWN]}, found: {found[:NUM_SHOWN]}. Take another file "
            "of this run or another run. If you changed it yourself, name a copy that is in no run's folder."
        )
