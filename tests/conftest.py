"""How Hypothesis searches, in which order the suite runs, and how golden files are made anew.

The same examples in every run, on machines of any speed; ``--hypothesis-profile=explore`` looks
at new examples, ten times as many. ``--regenerate`` writes the expected output of the scenarios
in ``tests/scenarios`` instead of comparing it; read the difference before you commit it.

What talks over real sockets waits most of its time, a simulation never. So the former begins, and
``-n auto`` takes two workers more than there are cores, but for the long tests, which compute.
``make test`` hands them whole files: what a module's fixture has built is built once.
"""

import gc
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("steady")

# Folders that take long, for they wait; but for the first of them, which is one file.
FIRST = ("notebooks", "interop", "udp", "agent", "experiments")
WAITING = 2  # workers beside those that keep a core busy


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write golden files anew")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """Of ``-n auto``."""
    cores = yield
    return cores if config.option.markexpr == "long" else cores + WAITING


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected is never garbage.

    So it is not looked through while it grows, nor each time that a test collects all garbage to
    see what it left: hundreds of them do.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits; files stay whole and in their order."""
    rank = {folder: place for place, folder in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.parent.name, len(FIRST)))
