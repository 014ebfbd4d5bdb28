"""Numbers as people write them in recipes."""

import pytest

from studium.config.document import Scalar
from studium.config.kinds import Expected, Number


@pytest.mark.parametrize(("text", "value"), [("2e-4", 2e-4), ("1E3", 1000.0), ("-1.5e+2", -150.0)])
def test_a_power_of_ten_without_a_point_is_a_number_though_yaml_calls_it_text(
    text: str, value: float
) -> None:
    assert Number(-1e4, 1e4).read(Scalar(text, text, "a:1")) == value


@pytest.mark.parametrize("text", ["2e", "e4", "2e-4x", "2e9999", "1e5", ""])
def test_what_only_looks_like_one_is_refused(text: str) -> None:
    with pytest.raises(Expected):
        Number(-1e4, 1e4).read(Scalar(text, text, "a:1"))
