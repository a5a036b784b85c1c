"""The process of a contestant: `python -m racing.child '{"call": "ours.files:write", ...}'`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module

from racing.turns import Turns


def main() -> None:
    """Run the contestant that the command line names; the parent speaks through stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what others print must not come between the answers
    turns = Turns(sys.stdin, answers)
    job = json.loads(sys.argv[1])
    module, _, name = job["call"].partition(":")
    try:
        getattr(import_module(module), name)(turns, **job["settings"])
    except Exception as error:
        traceback.print_exc()
        turns.failed(error)


if __name__ == "__main__":
    main()
