"""Hashes of everything that a run's result depends on. Of two runs with equal fingerprints, one is enough."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import FILLED_IN, Config
from mnistlab.config.build import MOVED
from mnistlab.tracking.provenance import library_versions

# Settings that do not change a run's result: where files are stored, how a sweep is run.
WITHOUT_EFFECT = ("paths", "tracking", "sweep")
PACKAGE = Path(__file__).resolve().parents[1]
# The code that produces results. A change in figures, reports or commands is no reason to train again.
PRODUCES_RESULTS = ("config", "data", "training", "evaluation", "experiment.py")
WITHOUT_RESULTS = ("config/compose.py", "config/run_names.py", "evaluation/drawing.py", "evaluation/figures.py")
LIBRARIES = ("version.python", "version.tensorflow", "version.keras", "version.numpy")


def fingerprint(config: Config, data_digests: Mapping[str, str]) -> dict[str, str]:
    """The parts of a run's fingerprint, and the whole of them under 'fingerprint'.

    Args:
        data_digests: split name -> digest, as in `Dataset.digests`.

    Returns:
        'fingerprint.config', '.data', '.libraries': hashes; '.code': JSON of file name -> hash.
    """
    versions = {name: version for name, version in library_versions().items() if name in LIBRARIES}
    parts = {
        "fingerprint.config": config_hash(config),
        "fingerprint.data": hash_of(dict(data_digests)),
        "fingerprint.libraries": hash_of(versions),
        "fingerprint.code": json.dumps(code_hashes(), sort_keys=True),
    }
    return {"fingerprint": hash_of(parts), **parts}


def config_hash(config: Config) -> str:
    """A hash of the resolved settings that have an effect on the result; the run's folder has none."""
    settings = {key: value for key, value in asdict(config).items() if key not in {*WITHOUT_EFFECT, *FILLED_IN}}
    text = json.dumps(settings, sort_keys=True, default=str)
    for old, new in MOVED.items():  # a callable that has moved is the same callable: earlier runs are still found
        text = text.replace(f'"{new}', f'"{old}')
    run_folder = json.dumps(config.paths.run or "")[1:-1]
    return hash_of(text.replace(run_folder, "") if run_folder else text)


@functools.cache
def code_hashes() -> dict[str, str]:
    """Path within the package -> hash, of each module that produces results."""
    files = [file for name in PRODUCES_RESULTS for file in (PACKAGE / name, *(PACKAGE / name).rglob("*.py"))]
    paths = sorted(file.relative_to(PACKAGE).as_posix() for file in files if file.is_file())
    return {
        path: hashlib.sha256((PACKAGE / path).read_bytes()).hexdigest()[:8]
        for path in paths
        if path not in WITHOUT_RESULTS
    }


def reason_to_run_again(planned: Mapping[str, str], earlier: Mapping[str, str]) -> str:
    """Why an earlier run with an equal configuration cannot be used: 'code changed: data/dataset.py', 'data changed'.

    Args:
        planned, earlier: what `fingerprint` returns for the planned run, and the tags of one that finished.
    """
    reasons = []
    if planned["fingerprint.data"] != earlier.get("fingerprint.data"):
        reasons.append("data changed")
    if planned["fingerprint.code"] != earlier.get("fingerprint.code"):
        before, now = json.loads(earlier.get("fingerprint.code", "{}")), json.loads(planned["fingerprint.code"])
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        more = f" and {len(changed) - 5} more files" if len(changed) > 5 else ""
        reasons.append(f"code changed: {', '.join(changed[:5])}{more}")
    if planned["fingerprint.libraries"] != earlier.get("fingerprint.libraries"):
        reasons.append("libraries changed")
    return "; ".join(reasons) or "new"


def hash_of(content: Any) -> str:
    """A hash of anything that JSON can write: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_of_arrays(arrays: Sequence[np.ndarray]) -> str:
    """A hash of arrays, their shapes, types and values: 16 hexadecimal digits of SHA-256."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(repr((array.shape, array.dtype.str)).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]
