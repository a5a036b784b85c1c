"""Process state that all steps share, and that a plugin should leave unchanged."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

MIXED = "mixed"


def _all(state: Any) -> Any:
    return state


class Setting(NamedTuple):
    """A part of the state of the process; what is judged of states can be compared."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    judged: Callable[[Any], Any] = _all


@contextmanager
def kept(who: str, seed: int, warn: Callable[[str], None]) -> Iterator[None]:
    """Seed the global random numbers, and restore the state that this block changes.

    Args:
        who: the plugin in warnings.
        seed: for the random numbers.
        warn: takes a line that names what was restored. The random numbers of torch are not
            reported: training uses them.
    """
    torch = sys.modules.get("torch")  # if not imported, nothing in it has changed
    settings = [*_settings(), *(_torch_settings(torch) if torch else ())]
    before = [setting.read() for setting in settings]
    with ExitStack() as stack:
        if torch:
            # Those of GPUs need no restoring: whoever uses them seeds them.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        given = [setting.read() for setting in settings]
        try:
            yield
        finally:
            found = [setting.read() for setting in settings]
            for setting, old, new in zip(settings, before, found, strict=True):
                if setting.judged(new) != setting.judged(old):
                    setting.write(old)
            changes = zip(settings, given, found, strict=True)
            if changed := [s.name for s, old, new in changes if _differs(s, new, old)]:
                warn(f"{who} changed {', '.join(changed)}; crossmod restored it")


def _differs(setting: Setting, new: Any, old: Any) -> bool:
    if isinstance(old, dict):  # libraries add variables when they are imported
        return any(new.get(name) != value for name, value in old.items())
    return bool(setting.judged(new) != setting.judged(old))


def _settings() -> list[Setting]:
    handlers = [
        Setting(
            f"the handler of {number.name}",
            partial(signal.getsignal, number),
            partial(signal.signal, number),
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    return [
        Setting("Python's global random numbers", random.getstate, random.setstate),
        Setting("numpy's global random numbers", _numpy_random, np.random.set_state),
        Setting("numpy's error handling", np.geterr, lambda state: np.seterr(**state)),
        Setting("the working folder", _folder, os.chdir),
        Setting("environment variables", lambda: dict(os.environ), _set_environment),
        Setting("the umask", _umask, os.umask),
        Setting("sys.path", _module_folders, _set_module_folders, _without_vendored),
        Setting(
            "the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit, _without_compiler
        ),
        *handlers,
    ]


def _torch_settings(torch: Any) -> list[Setting]:
    def determinism() -> tuple[bool, bool]:
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.are_deterministic_algorithms_enabled(), warns

    def set_determinism(state: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(state[0], warn_only=state[1])

    def device() -> str | None:
        name = str(torch.get_default_device())
        return None if name == "cpu" else name  # to set it, even to the CPU, slows torch down

    def precision() -> str:
        try:
            return str(torch.get_float32_matmul_precision())
        except RuntimeError:  # set for one kind of device only
            return MIXED

    def set_precision(state: str) -> None:
        if state != MIXED:
            torch.set_float32_matmul_precision(state)

    return [
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("torch's default device", device, torch.set_default_device),
        Setting("torch's matmul precision", precision, set_precision),
        Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        Setting("torch's deterministic mode", determinism, set_determinism),
    ]


def _numpy_random() -> tuple[Any, ...]:
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return (kind, tuple(keys.tolist()), *rest)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # somebody has removed it
        return os.curdir


def _umask() -> int:
    mask = os.umask(0o077)  # the only way to read it
    os.umask(mask)
    return mask


def _without_compiler(limit: int) -> int:
    """Take the limit that torch.compile sets for Python's default."""
    return 1000 if limit == 2000 else limit


def _module_folders() -> list[str]:
    return [*map(str, sys.path)]


def _without_vendored(folders: list[str]) -> list[str]:
    """Leave out the folders that setuptools adds when it is imported."""
    return [folder for folder in folders if not folder.endswith("_vendor")]


def _set_module_folders(folders: list[str]) -> None:
    sys.path[:] = folders


def _set_environment(state: Mapping[str, str]) -> None:
    for name in os.environ.keys() - state.keys():
        del os.environ[name]
    os.environ.update(state)
