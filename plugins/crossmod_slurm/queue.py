"""The jobs of one run in Slurm's queue: submitted together, asked about, canceled by their name.

None of this needs accounting (`sacct`), which many clusters do not have.
"""

from __future__ import annotations

import io
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from crossmod import MachineError

ANSWER_S = 60.0

LATER = re.compile(
    r"MaxSubmit|[Uu]nable to contact|timed out|temporar|Zero Bytes|[Cc]onnection|[Cc]ommunication"
)
"""Messages of `sbatch` after which the same command may work later."""

HOPELESS = re.compile(
    r"BadConstraints|Invalid(Account|QOS)|Partition(Config|(Node|Time)Limit)|MaxMemPerLimit"
    r"|(QOS|Assoc).*PerJob(Limit)?|(Account|QOS)NotAllowed|(job )?launch failed.*"
)
"""Reasons to wait that never resolve by themselves."""

USUAL = re.compile(
    r"None|Priority|Resources|BeginTime|JobArrayTaskLimit|Dependency|Cleaning|Prolog|Licenses"
    r"|(QOS|Assoc).*(?<!Minutes)(Limit|PerUser|PerAccount)"
)
"""Reasons to wait that need no warning."""

ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
         "PREEMPTED", "REVOKED", "TIMEOUT")  # fmt: skip


class TryLater(Exception):
    """Slurm takes no jobs at the moment."""


class State(NamedTuple):
    """What Slurm says about a job; no name if it knows nothing."""

    name: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.name in ("", *ENDED)

    @property
    def hopeless(self) -> bool:
        """Whether it waits in vain."""
        return self.name == "PENDING" and HOPELESS.fullmatch(self.reason) is not None

    @property
    def unusual(self) -> bool:
        """Whether the user should know why it waits."""
        return self.name == "PENDING" and USUAL.fullmatch(self.reason) is None


class JobFiles(NamedTuple):
    """The files of a submitted job."""

    number: str
    log: Path
    result: Path


@dataclass
class Queue:
    """The jobs of one run.

    Attributes:
        name: of every job.
        folder: where they keep their files.
    """

    name: str
    folder: Path
    _states: dict[str, State] | None = field(default=None, init=False)
    _asked: float = field(default=-math.inf, init=False)

    def submit(
        self, jobs: Sequence[Callable[[], object]], parameters: Mapping[str, Any]
    ) -> list[JobFiles]:
        """Submit jobs, several as one array.

        Raises:
            TryLater: Slurm takes none at the moment.
            MachineError: it refuses them.
        """
        import submitit
        from submitit.core.utils import FailedJobError

        python = f"{shlex.quote(sys.executable)} -P"  # no module comes from the working folder
        executor = submitit.SlurmExecutor(self.folder, python=python)
        executor.update_parameters(job_name=self.name, **parameters)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files are unpickled
            with redirect_stderr(io.StringIO()), _outside_of_jobs():
                submitted = executor.submit_array(list(jobs))
        except FailedJobError as error:
            text = _last_line(str(error))
            if getattr(error.__cause__, "returncode", 1) < 0 or LATER.search(str(error)):
                raise TryLater(text) from error
            raise _refused(text) from error
        except OSError as error:
            text = f"cannot write the files of its jobs: {error.strerror}"
            raise MachineError(
                text, where=str(self.folder), fix="choose another --store"
            ) from error
        self._forget()
        return [
            JobFiles(job.job_id, job.paths.stdout, job.paths.result_pickle) for job in submitted
        ]

    def ask(self, every: float) -> bool:
        """Ask Slurm if it is time or something was changed; returns whether it answered."""
        if time.monotonic() - self._asked < every:
            return False
        self._asked = time.monotonic()
        shape = ("--noheader", "--array", "--states=all", "--format=%i|%T|%r")
        text = _answer("squeue", *shape, f"--user={os.getuid()}", f"--name={self.name}")
        self._states = None if text is None else parse(text)
        return text is not None

    def state(self, number: str) -> State | None:
        """The state of a job; None if Slurm has not said anything since the last change."""
        return None if self._states is None else self._states.get(number, State())

    def cancel(self, *selection: str) -> None:
        """Cancel or signal jobs.

        Args:
            selection: which, as options of `scancel`; without any, all.
        """
        _answer("scancel", f"--name={self.name}", *selection)
        self._forget()

    def _forget(self) -> None:
        self._states, self._asked = None, -math.inf


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job that this program itself may run in."""
    from submitit.helpers import clean_env

    wanted = {n: v for n, v in os.environ.items() if n.startswith(("SLURM_CONF", "SBATCH_"))}
    with clean_env():
        os.environ.update(wanted)  # what the user or the site has set
        yield


def parse(text: str) -> dict[str, State]:
    """Job -> state, from lines ``job|state|reason``."""
    rows = [line.strip().split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return {number: State(state, reason) for number, state, reason in rows}


def _answer(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("sbatch: error: ")


def _refused(text: str) -> MachineError:
    return MachineError(
        f"Slurm rejected the job: {text}",
        where="[slurm] in the profile",
        fix="`sinfo` shows partitions and limits; gpus_per_task = 0 asks for no GPU",
    )
