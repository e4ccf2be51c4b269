"""Examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import waveedge

_FEWEST = 12
"""A walk that finds fewer examples than there are has lost its way."""


def test_the_examples_of_all_docstrings() -> None:
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for module in pkgutil.walk_packages(waveedge.__path__, "waveedge."):
        if not module.name.endswith("__main__"):
            for test in finder.find(import_module(module.name)):
                runner.run(test)
    assert runner.failures == 0, "what differs is printed above"
    assert runner.tries >= _FEWEST
