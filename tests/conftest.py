"""What every test shares: whole folders whose tests take seconds are slow, and `make check` leaves them out."""

import signal
from pathlib import Path

import pytest

SLOW_FOLDERS = {"journeys", "reference", "train"}
HERE = Path(__file__).parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no child would ever hear of Ctrl-C


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow folders, so that nobody has to remember it."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
