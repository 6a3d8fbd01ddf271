"""Which array of a file holds what: by the names that Keras, scikit-learn, MedMNIST and others use, or by shapes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mnistlab.config import ConfigError, suggest
from mnistlab.data.arrays.files import Header

ROLES = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "class_names")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "te"), "test"),
}
KIND_WORDS = {
    **dict.fromkeys(("x", "images", "image", "imgs", "img", "data", "features", "pixels", "inputs"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
FILLERS = {"set", "arr", "array"}
CLASS_NAME_WORDS = ({"class", "names"}, {"label", "names"}, {"target", "names"}, {"classnames"})
KEYS = "source.keys='{x_train: NAME, y_train: NAME}'"


def assign(headers: Mapping[str, Header], keys: Mapping[str, Any] | None) -> tuple[dict[str, str], list[str]]:
    """Role -> array name, in the order of ROLES, and sentences on arrays that are not used.

    Args:
        keys: role -> array name that the user gives, or None to leave the role out.

    Raises:
        ConfigError: a role without an array or with several.
    """
    _check_arrays(headers)
    found = _given(headers, keys or {})
    rest = [name for name in headers if name not in found.values()]
    if not keys and rest and all(re.fullmatch(r"arr_\d+", name) for name in rest):
        found = _by_shape(headers, rest)
    else:
        found |= _by_name(rest, {role for role in ROLES if role not in (keys or {})}, headers)
    sentences = []
    for one, other in (("x_val", "y_val"), ("y_val", "x_val")):
        if one in found and other not in found:
            sentences.append(f"{found.pop(one)} is not used: there is no {other}.")
    _check_complete(found, headers)
    unused = [name for name in headers if name not in found.values() and name not in " ".join(sentences)]
    if unused:
        sentences.append(f"Not used: {', '.join(unused)}.")
    return {role: found[role] for role in ROLES if role in found}, sentences


def _given(headers: Mapping[str, Header], keys: Mapping[str, Any]) -> dict[str, str]:
    """The roles that `source.keys` gives an array."""
    unknown = [str(role) for role in keys if role not in ROLES]
    problems = [f"source.keys has an unknown key: {role}.{suggest(role, ROLES)}" for role in unknown]
    names = {role: str(name) for role, name in keys.items() if name is not None}
    problems += [
        f"source.keys={{{role}: {name}}} must name an array of the file.{suggest(name, headers)}"
        for role, name in names.items()
        if name not in headers
    ]
    problems += [
        f"source.keys must give each array one use. Received twice: {name}."
        for name in sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    ]
    if problems:
        raise ConfigError(problems)
    return names


def role_of(name: str) -> str:
    """The role that an array's name tells, or ''. An array of images or labels without a split is for training."""
    words = _words(name)
    if set(words) in CLASS_NAME_WORDS:
        return "class_names"
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    kinds = [KIND_WORDS[word] for word in words if word in KIND_WORDS]
    if len(kinds) != 1 or len(splits) > 1 or len(words) != len(splits) + 1:
        return ""
    return f"{kinds[0]}_{splits[0] if splits else 'train'}"


def _words(name: str) -> list[str]:
    """The words of an array's name, in lower case: train, x for train_x, trainX, train_set_x and xtrain."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    words = [word for word in re.split(r"[^a-z]+", spaced.casefold()) if word and word not in FILLERS]
    if len(words) == 1 and (joined := re.fullmatch(r"(x|y)(tr[a-z]*|te[a-z]*|val[a-z]*)|([a-z]+)(x|y)", words[0])):
        return [part for part in joined.groups() if part]
    return words


def _by_name(names: Iterable[str], roles: set[str], headers: Mapping[str, Header]) -> dict[str, str]:
    """The arrays that are named after their role; an array of exactly the role's name is preferred."""
    candidates: dict[str, list[str]] = {}
    for name in names:
        if (role := role_of(name)) in roles:
            candidates.setdefault(role, []).append(name)
    found = {}
    for role, several in candidates.items():
        with_split = [name for name in several if not SPLIT_WORDS.keys().isdisjoint(_words(name))]
        chosen = [role] if role in several else with_split or several
        if len(chosen) > 1:
            shown = ", ".join(f"{name} {headers[name]}" for name in chosen)
            raise ConfigError(
                f"Several arrays may be {role}: {shown}. Choose one: source.keys='{{{role}: {chosen[0]}}}'."
            )
        found[role] = chosen[0]
    return found


def _by_shape(headers: Mapping[str, Header], names: list[str]) -> dict[str, str]:
    """The roles of arrays that NumPy numbered (`arr_0`, ...): images and labels of equal length, training first."""
    names = sorted(names, key=lambda name: int(name.removeprefix("arr_")))
    shapes = [headers[name].shape for name in names]
    kinds = "".join(_kind(shape, shapes) for shape in shapes)
    lengths = [shape[0] if shape else 0 for shape in shapes]
    roles: tuple[str, ...] = ()
    if kinds in ("xy", "xyxy") and lengths[::2] == lengths[1::2]:
        roles = ("x_train", "y_train", "x_test", "y_test")
    elif kinds == "xxyy" and lengths[:2] == lengths[2:] and lengths[0] != lengths[1]:
        roles = ("x_train", "x_test", "y_train", "y_test")
    if roles:
        return dict(zip(roles, names, strict=False))
    shown = ", ".join(f"{name} {headers[name]}" for name in names)
    raise ConfigError(
        f"The arrays have no names, and their shapes do not tell which are the images and labels: {shown}. "
        f"Name them: {KEYS}, and x_test, y_test if there is a test set."
    )


def _kind(shape: tuple[int, ...], shapes: list[tuple[int, ...]]) -> str:
    """'x' for images, 'y' for labels, '?' if the shape could be either."""
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return "y"
    if len(shape) >= 3:
        return "x"
    if any(len(other) >= 3 for other in shapes):
        return "y"  # one-hot rows: the images are those with a height and a width
    return "x" if len(shape) == 2 and any(len(other) == 1 or other[1:] == (1,) for other in shapes) else "?"


def _check_complete(found: Mapping[str, str], headers: Mapping[str, Header]) -> None:
    missing = [role for role in ("x_train", "y_train") if role not in found]
    test = [role for role in ("x_test", "y_test") if role not in found]
    missing += test if len(test) == 1 else []
    if not missing:
        return
    held = ", ".join(f"{name} {header}" for name, header in headers.items()) or "nothing"
    advice = " To leave images without labels out: source.keys='{x_test: null}'." if missing == ["y_test"] else ""
    raise ConfigError(
        "The file must hold x_train, y_train and, unless a test set is to be held out, x_test, y_test. "
        f"Missing: {', '.join(missing)}; it holds: {held}. "
        f"If they have other names: source.keys='{{{', '.join(f'{role}: NAME' for role in missing)}}}'.{advice}"
    )


def _check_arrays(headers: Mapping[str, Header]) -> None:
    """Raise ConfigError if the file has nothing but one saved Python object."""
    if headers and all(header.shape == () and header.dtype.hasobject for header in headers.values()):
        raise ConfigError(
            f"The file must hold arrays. Received: {', '.join(headers)}, a Python object such as a dictionary, which "
            "is not read because unpickling may run code. Save its arrays: numpy.savez_compressed(path, **dictionary)."
        )
