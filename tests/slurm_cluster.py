"""A Slurm of one node as a user has one: Debian's munged, slurmctld and slurmd, with their own folder and ports.

There is no accounting, as on many small clusters: `sacct` fails there.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import wait_until
from tracking_servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
KillWait=15
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes={host} MaxTime=INFINITE State=DOWN
"""


class SlurmCluster:
    """The three servers, as the user who runs the tests. `variables`: what a user of this cluster has set."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # the path of a socket must be short
        self.folder.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o755)
        self.variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        host = socket.gethostname().partition(".")[0]
        filled = {"folder": self.folder, "host": host, "user": getpass.getuser()}
        ports = {"controller_port": free_port(), "node_port": free_port()}
        (self.folder / "slurm.conf").write_text(SETTINGS.format(**filled, **ports))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        self._servers: list[subprocess.Popen] = []
        self._start_munge()
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        wait_until(lambda: time.sleep(0.2) or self._state() == "idle")

    def run(self, *command: str) -> str:
        """Run one of Slurm's programs; returns what it prints."""
        done = subprocess.run(command, env={**os.environ, **self.variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """The state of each job that waits or runs, by its number."""
        return dict(line.split() for line in self.run("squeue", "-h", "-o", "%i %T").splitlines())

    def stop(self) -> None:
        """Cancel all jobs and stop the servers."""
        with contextlib.suppress(AssertionError):
            self.run("scancel", "--full", "--user", getpass.getuser())
            wait_until(lambda: time.sleep(0.2) or not self.jobs())
        for server in reversed(self._servers):
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self) -> str:
        shown = ["sinfo", "-h", "-p", "main", "-o", "%T"]
        done = subprocess.run(shown, env={**os.environ, **self.variables}, capture_output=True, text=True)
        broken = [server.args for server in self._servers if server.poll() is not None]
        assert not broken, (broken, self.logs())
        return done.stdout.strip()

    def logs(self) -> str:
        """What the servers have said."""
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(self.folder.glob("*.log")))

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o400)
        places = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        self._start("munged", "-F", "--force", *(f"--{name}={folder / file}" for name, file in places.items()))
        wait_until(lambda: (folder / "socket").exists())

    def _start(self, program: str, *words: str) -> None:
        with (self.folder / f"{program}.out.log").open("w") as log:
            command: Sequence[str] = [_path(program) or program, *words]
            environment = {**os.environ, **self.variables}
            self._servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))


def _path(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A cluster of this machine alone, until the block ends."""
    if missing := [program for program in PROGRAMS if _path(program) is None]:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)} (Debian's packages slurm-wlm and munge)")
    cluster = SlurmCluster()
    try:
        yield cluster
    finally:
        cluster.stop()
