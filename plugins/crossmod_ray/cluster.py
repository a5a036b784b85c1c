"""Start or join a Ray cluster.

Whoever reaches the ports of a Ray cluster can run anything there, by design (CVE-2023-48022). What
is started here listens on the loopback alone, asks for a token and has no dashboard.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from contextlib import chdir
from pathlib import Path
from typing import Any

from crossmod import MachineError
from crossmod.engines import cores, gpus, with_extra

FOREIGN_VARIABLES = ("RAY_ADDRESS", "RAY_REDIS_ADDRESS", "RAY_GCS_SERVER_PORT")
"""Would tie a private cluster to another one."""

ANSWER_S = 10.0
"""Timeout for a connection to an address."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray moves tasks and outcomes only; by default it would set aside a third of the memory."""


def connected(address: str | None, device: str, folder: Path) -> Any:
    """Ray, connected to a cluster.

    Args:
        address: of the cluster; None starts one.
        device: what a recipe wants to compute on.
        folder: an empty one of the user alone, for what Ray writes.

    Raises:
        MachineError: Ray or the cluster is not there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        terms = _running_cluster(address) if address else _own_cluster(device, folder)
        import ray  # reads the environment

        with chdir(folder):  # processes of Ray import from where the program is, before all else
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **terms)
    except ImportError as error:
        raise MachineError(
            "Ray is not installed", fix=f"on every machine, {with_extra('ray')}"
        ) from error
    except Exception as error:  # Ray has no class for these
        raise _no_cluster(address, error) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own
    return ray


def _running_cluster(address: str) -> dict[str, Any]:
    """How Ray joins a cluster; where nobody answers, it would try for a quarter of an hour."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
    return {"address": address}


def _own_cluster(device: str, folder: Path) -> dict[str, Any]:
    """How Ray starts a cluster that nobody else can reach."""
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # also on Linux: stay on the loopback
    }
    # Otherwise tasks get what every other program on the machine leaves.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Programs that a plugin has started end with a worker that dies, too.
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper", "true")
    if names := gpus(device):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    return {
        "address": "local",  # never one that happens to run here
        "num_cpus": cores(),
        "num_gpus": len(names),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder / "session"),  # Ray opens it to everybody, but not what is above
    }


def _no_cluster(address: str | None, error: Exception) -> MachineError:
    what = str(error).partition("\n")[0]
    if address is None:
        return MachineError(f"Ray does not start: {what}", fix="see the details with --traceback")
    return MachineError(
        f"cannot connect to the Ray cluster: {what}",
        where=address,
        fix="run crossmod on a machine of the cluster, with the same Python and Ray; if it asks "
        "for a token, set RAY_AUTH_MODE=token",
    )
