"""How Hypothesis searches, and how golden files are made anew.

The same examples in every run, on machines of any speed; ``--hypothesis-profile=explore`` looks
at new examples, ten times as many. ``--regenerate`` writes the expected output of the scenarios
in ``tests/scenarios`` instead of comparing it; read the difference before you commit it.
"""

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write golden files anew")
