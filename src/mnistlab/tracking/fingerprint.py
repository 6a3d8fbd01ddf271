"""What a run's result depends on, as hashes: two runs with equal fingerprints need not both be run."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import FILLED_IN, Config
from mnistlab.tracking.provenance import library_versions

# Settings that say where things lie or how a sweep is run, not what comes out.
WITHOUT_EFFECT = ("paths", "tracking", "sweep")
# Modules that look at results and do not make them: a new figure is no reason to train again.
ONLY_LOOKING = (
    "plots.py",
    "figures.py",
    "verdict.py",
    "history.py",
    "worker.py",
    "mirror.py",
    "startup.py",
    "compare.py",
    "naming.py",
    "tracking.py",
    "stores.py",
    "preflight.py",
    "sweep.py",
    "train.py",
    "provenance.py",
)
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
    """A hash of the resolved settings that have an effect on the result; the run's own folder has none."""
    settings = {key: value for key, value in asdict(config).items() if key not in {*WITHOUT_EFFECT, *FILLED_IN}}
    text = json.dumps(settings, sort_keys=True, default=str)
    own_folder = json.dumps(config.paths.run or "")[1:-1]
    return hash_of(text.replace(own_folder, "") if own_folder else text)


@functools.cache
def code_hashes() -> dict[str, str]:
    """File name -> hash of each of the package's modules that make results."""
    folder = Path(__file__).resolve().parent
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        for file in sorted(folder.glob("*.py"))
        if file.name not in ONLY_LOOKING
    }


def why_again(own: Mapping[str, str], earlier: Mapping[str, str]) -> str:
    """Why a run with an equal configuration is not good enough: 'code changed: fused.py', 'data changed'.

    Args:
        own, earlier: the parts that `fingerprint` gives, of the run to be and of one that finished.
    """
    reasons = []
    if own["fingerprint.data"] != earlier.get("fingerprint.data"):
        reasons.append("data changed")
    if own["fingerprint.code"] != earlier.get("fingerprint.code"):
        before, now = json.loads(earlier.get("fingerprint.code", "{}")), json.loads(own["fingerprint.code"])
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        reasons.append(f"code changed: {', '.join(changed)}")
    if own["fingerprint.libraries"] != earlier.get("fingerprint.libraries"):
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
