"""Race crossmod against its peers on this machine; prints a page in Markdown.

    python benchmarks/race.py --only unet-step metrics-tumor
    python benchmarks/race.py --long --cyclegan DIR --singan DIR --consingan DIR --before DIR

benchmarks/README.md says what to install and how to read the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from racing import machine
from racing.contestants import Contestant
from racing.limits import Limits, measure
from racing.rounds import Result, race
from racing.table import BEFORE, OURS, Raced, page
from racing.works import Peer, Work, works

CHECKOUTS = ("cyclegan", "singan", "consingan")
TURN_S = 0.3


def main() -> None:
    """Race, and print the page."""
    asked = _asked()
    chosen = [work for work in works() if _is_chosen(work, asked)]
    with tempfile.TemporaryDirectory(prefix="race-") as folder:
        scratch = Path(folder)
        limits = _limits(chosen, scratch / "limits", small=asked.smoke)
        raced = []
        for work in chosen:
            _say(work.name)
            raced.append(_raced(work, asked, scratch))
            if asked.json:
                asked.json.write_text(json.dumps(list(map(_plain, raced)), indent=1))
    print("\n".join(page(raced, limits, small=asked.smoke)))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [work.name for work in works()]
    add = parser.add_argument
    add("--only", nargs="+", choices=names, default=(), metavar="NAME", help=", ".join(names))
    add("--long", action="store_true", help="race the works that take long, too")
    add("--rounds", type=int, help="samples of each contestant; by default what each work needs")
    add("--smoke", action="store_true", help="tiny sizes, one round, no peers: does it work?")
    for name in CHECKOUTS:
        add(f"--{name}", type=Path, metavar="DIR", help=f"a checkout of the authors' {name}")
    add("--before", type=Path, metavar="DIR", help="another checkout of crossmod to race")
    add("--before-python", type=Path, metavar="FILE", help="default: DIR/.venv/bin/python")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    return parser.parse_args()


def _is_chosen(work: Work, asked: argparse.Namespace) -> bool:
    if asked.only:
        return work.name in asked.only
    return asked.long or asked.smoke or not work.long


def _limits(chosen: Sequence[Work], scratch: Path, *, small: bool) -> Limits:
    """What the chosen works are compared with."""
    wanted = {(work.limit, work.threads or machine.cores()) for work in chosen if work.limit}
    if wanted:
        _say("limits")
    return measure(scratch, sorted(wanted), rounds=1 if small else 3, small=small)


def _raced(work: Work, asked: argparse.Namespace, scratch: Path) -> Raced:
    """Race one work."""
    threads = work.threads or machine.cores()
    entered, absent = dict[str, Contestant](), dict[str, Result]()
    folder = scratch / work.name
    ours = dict(work.settings) | (dict(work.small) if asked.smoke else {})
    if work.takes_threads:
        ours["threads"] = threads
    entered[OURS] = Contestant(work.call, ours, threads, folder / OURS)
    if asked.before:
        python = asked.before_python or asked.before / ".venv" / "bin" / "python"
        entered[BEFORE] = Contestant(work.call, ours, threads, folder / BEFORE, python.absolute())
    for number, peer in enumerate(() if asked.smoke else work.peers):
        checkout = getattr(asked, peer.checkout) if peer.checkout else None
        if peer.checkout and checkout is None:
            absent[peer.name] = Result(trouble=f"--{peer.checkout} not given")
            continue
        settings = _settings(peer, checkout, scratch / "shared")
        entered[peer.name] = Contestant(peer.call, settings, threads, folder / f"peer-{number}")
    counted = [OURS] if work.limit == "network" else []
    rounds = 1 if asked.smoke else asked.rounds or work.rounds
    results = race(entered, rounds, 0 if asked.smoke else TURN_S, counted, warm_up=not work.long)
    return Raced(work, threads, results | absent)


def _settings(peer: Peer, checkout: Path | None, shared: Path) -> dict[str, Any]:
    settings = dict(peer.settings)
    if checkout is not None:
        settings["checkout"] = str(checkout.absolute())
    if peer.call.startswith("peers.nnunet:") and "name" not in settings:
        shared.mkdir(exist_ok=True)
        settings["shared"] = str(shared)
    return settings


def _plain(raced: Raced) -> dict[str, Any]:
    """What is kept of a work."""
    results = {name: asdict(result) for name, result in raced.results.items()}
    return {"work": raced.work.name, "threads": raced.threads, "results": results}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
