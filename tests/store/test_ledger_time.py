"""The ledger's time under clocks that are set, and over reboots."""

from studium.store.ledger_time import Anchor, Reading, advance, read_clocks

START = Anchor("one", 1_000.0, 50_000.0, 400.0)


def test_time_since_boot_counts_and_the_wall_clock_does_not():
    for wall_s in (0.0, 50_007.0, 9e9):
        assert advance(START, Reading("one", 1_007.0, wall_s)).ledger_s == 407.0


def test_it_never_runs_backwards():
    """Two processes may read the clocks in one order and book in the other."""
    moved = advance(START, Reading("one", 990.0, 49_990.0))
    assert moved.ledger_s == 400.0
    assert advance(moved, Reading("one", 1_003.0, 50_003.0)).ledger_s == 403.0


def test_over_a_reboot_it_goes_on_by_the_wall_clock_but_never_back():
    assert advance(START, Reading("two", 5.0, 50_090.0)).ledger_s == 490.0
    assert advance(START, Reading("two", 5.0, 20_000.0)).ledger_s == 400.0


def test_a_clock_that_was_wrong_until_the_reboot_is_not_taken_for_time_that_passed():
    behind = advance(START, Reading("one", 1_500.0, 10.0))
    assert advance(behind, Reading("two", 5.0, 50_600.0)).ledger_s == 1_000.0
    ahead = advance(START, Reading("one", 1_500.0, 9e9))
    assert advance(ahead, Reading("two", 5.0, 50_600.0)).ledger_s == 900.0


def test_without_a_boot_id_an_earlier_time_since_boot_is_a_reboot():
    start = START._replace(boot_id="")
    assert advance(start, Reading("", 1_010.0, 0.0)).ledger_s == 410.0
    assert advance(start, Reading("", 10.0, 50_100.0)).ledger_s == 500.0


def test_the_first_reading_begins_it():
    assert advance(None, Reading("one", 7.0, 8.0)) == Anchor("one", 7.0, 8.0, 0.0)


def test_this_machines_clocks_can_be_read_and_go_forward():
    first, second = read_clocks(), read_clocks()
    assert first.boot_id == second.boot_id and 0 < first.boot_s <= second.boot_s
