"""The launcher behind launch=ray, launch=slurm and launch=submitit_local, as Hydra finds it.

Hydra loads this file at every start, so it imports nothing else. The work is in `mnistlab.sweep.remote`.
"""

from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher


class MnistlabLauncher(Launcher):
    """Runs the jobs of a sweep in processes of a cluster or of this machine."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Hydra tells what to run."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Run these jobs; returns when all have ended, with Hydra's result of each."""
        from mnistlab.sweep import remote

        request = remote.Request(self.hydra_context, self.task_function, self.config)
        return remote.launch(request, job_overrides, initial_job_idx)
