"""What every error promises, whatever raised it."""

import pickle

from studium.errors import DoesNotFit


def test_an_error_keeps_its_parts_on_the_way_to_another_process() -> None:
    raised = DoesNotFit("2 GiB are missing", expected="8 GiB", try_next="unload a model")
    again = pickle.loads(pickle.dumps(raised))
    assert type(again) is DoesNotFit and str(again) == str(raised) and again.try_next == "unload a model"
