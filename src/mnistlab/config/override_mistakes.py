"""What is wrong with the form of an override: a `+` or `~` too many, no name, no value. From Hydra's messages."""

import re
import sys
from collections.abc import Callable, Sequence

from hydra.errors import HydraException

from mnistlab.config import suggest

NOT_A_KEY = ("Config group override must be", "Unexpected type for root")
REMOVABLE = "~ removes a callback (~callbacks.NAME) or an argument of a callable (~optimizer.momentum)."


def form_problem(error: Exception, overrides: Sequence[str], known: Callable[[], list[str]]) -> str:
    """The message for an override of a form that Hydra refuses, or '' for other errors.

    Args:
        error: what Hydra raised.
        overrides: those of the command.
        known: gives the dotted settings, for the choices.
    """
    message = str(error)
    if message.startswith(NOT_A_KEY):
        return _not_a_key(overrides)
    if "integer string conversion" in message:
        return f"A number may have at most {sys.get_int_max_str_digits():,} digits. Put a longer text in quotes."
    if not isinstance(error, HydraException):
        return ""
    if found := re.search(r"An item is already at '([^']+)'", message):
        given = _given(found[1], overrides)
        return f"{found[1]} is a setting already: + only adds new ones. Write {given.lstrip('+')}. Received: {given}."
    if found := re.match(r"Multiple values for (\S+)\. ", message):
        given = _given(found[1], overrides)
        write = given.lstrip("+") or f"{found[1]}=OPTION, once"
        received = f" Received: {given}." if given else ""
        return f"{found[1]} has an option already: + only adds new groups. Write {write}.{received}"
    if found := re.search(r"Could not delete from config\. '([^']+)' does not exist", message):
        return f"~{found[1]} removes nothing: there is no such setting.{_near(found[1], known())}"
    if found := re.search(r"Could not delete '([^'=]+)=?([^']*)'\. No match in the defaults", message):
        return f"~{found[1]}={found[2]} removes nothing: another option is chosen. To remove any: ~{found[1]}."
    if found := re.search(r"Error merging override ~(\S+)$", message):
        return f"{found[1]} cannot be removed: every run needs it. {REMOVABLE} Received: ~{found[1]}."
    if found := re.search(r"Could not find '([^']+)/'", message):
        options = re.findall(r"^\t(\w+)$", message, re.MULTILINE)
        return f"{found[1]} needs an option: {found[1]}=OPTION. Choices: {', '.join(options)}. Received: {found[1]}=."
    if found := re.match(r"Cannot find primary config '([^']+)'", message):
        return (
            f"--config-name must name a configuration, and mnistlab's is train. Received: {found[1]}. "
            "For settings of your own: --config-dir FOLDER experiment=NAME, with FOLDER/experiment/NAME.yaml."
        )
    return ""


def _not_a_key(overrides: Sequence[str]) -> str:
    """The message for an override without a name (=3), with a group's option that is no text (callbacks=5), or with a
    parameter of Hydra's sweeper that is no setting."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if not key:
            return f"An override is NAME=VALUE. Received: {override}, which has no name."
        if key.startswith("hydra.sweeper.params."):
            return (
                f"hydra.sweeper.params takes names of settings in quotes. Received: {override}. "
                f"Write --multirun {key.removeprefix('hydra.sweeper.params.')}={value or 'VALUE'}."
            )
    return (
        "A group needs an option: group=option, not null. For none use `callbacks=none`, `tracking=none`; leave out "
        "experiment, sweep, launch and debug."
    )


def _given(key: str, overrides: Sequence[str]) -> str:
    return next((one for one in overrides if one.startswith("+") and one.lstrip("+").partition("=")[0] == key), "")


def _near(key: str, known: Sequence[str]) -> str:
    """' Did you mean ...? Choices: ...' among the settings of the same parent, else what can be removed."""
    parent = f"{key.rpartition('.')[0]}."
    beside = {name.removeprefix(parent).partition(".")[0] for name in known if name.startswith(parent)}
    return suggest(key.removeprefix(parent), beside, f"~{parent}") if beside else f" {REMOVABLE}"
