"""What a command prints about an error, and the exit status that goes with it. No traceback for a user's mistake."""

import os
import sys
from collections.abc import Callable, Sequence

from mnistlab.config import ConfigError
from mnistlab.config.secrets import hide_secrets
from mnistlab.runtime import exits, space

MAX_PROBLEMS = 30


def run_command(command: Callable[[], int | None], usage: str = "") -> int:
    """Run a command, or print its usage for --help and versions for --version; print its problems, do not raise them.

    Returns:
        The command's own status; 2 for a user's mistake (ConfigError), 130 after Ctrl-C, 143 after SIGTERM, 129 after
        SIGHUP.
    """
    try:
        if "--version" in sys.argv[1:]:
            from mnistlab.runtime.versions import versions  # reading metadata takes as long as all of this package

            print(versions())
            return 0
        if usage and {"-h", "--help"} & set(sys.argv):
            print(usage)
            return 0
        return command() or 0
    except ConfigError as error:
        report_problems(error.problems)
        return exits.USER_MISTAKE
    except BrokenPipeError:  # the reader has ended, as in --help | head: there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except KeyboardInterrupt as error:
        exits.keep(error)
        print("\nStopped.", file=sys.stderr)
        return exits.stop_reason(error)[0]


def report_failures(failures: Sequence[tuple[str, BaseException]]) -> int:
    """Print why jobs failed, (overrides, error) each, and return the exit status: 0, 1, or 2 if all were mistakes."""
    for overrides, error in failures:
        if isinstance(error, ConfigError):
            report_problems(error.problems)
        else:
            print(f"Failed: {hide_secrets(overrides) or 'the run'}: {describe(error)[:300]}", file=sys.stderr)
    all_mistakes = all(isinstance(error, ConfigError) for _, error in failures)
    return (exits.USER_MISTAKE if all_mistakes else exits.FAILED) if failures else 0


def describe(error: BaseException) -> str:
    """An error in one line: its type and its message; for a lack of memory or of disk space what to change."""
    reason = hide_secrets(" ".join(str(error).split())) or "no message"
    if isinstance(error, SystemExit):
        return f"SystemExit: code of this run called sys.exit({error.code!r})"
    if is_out_of_memory(error):
        cause = f"{type(error).__name__}: {reason[:200]}"
        return f"out of memory: use a smaller fit.batch_size or a smaller model ({cause})"
    if full := space.disk_is_full(error):
        return full
    return f"{type(error).__name__}: {reason}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or TensorFlow could not get the memory that it asked for."""
    names = {kind.__name__ for kind in type(error).__mro__}  # without loading TensorFlow
    return bool(names & {"MemoryError", "ResourceExhaustedError"}) or "RESOURCE_EXHAUSTED" in str(error)


def report_problems(problems: Sequence[str]) -> None:
    """Print one problem on a line, several as a list, very many as the first ones."""
    shown = problems if len(problems) <= MAX_PROBLEMS else problems[:MAX_PROBLEMS]
    shown = [hide_secrets(problem) for problem in shown]
    listed = "".join(f"\n  - {problem}" for problem in shown)
    listed += f"\n  ... and {len(problems) - len(shown):,} more" if len(problems) > len(shown) else ""
    print(f"Error: {shown[0]}" if len(problems) == 1 else f"Errors:{listed}", file=sys.stderr)
