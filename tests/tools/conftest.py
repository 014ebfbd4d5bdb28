"""Every sandbox this machine has; one that does not work here is skipped with its reason."""

import pytest

from studium.tools.backends import Backend, backends
from studium.tools.outcome import Fate
from studium.tools.sandbox import run_in


@pytest.fixture(params=backends(), ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    tried = run_in(request.param, "print(1)")
    if tried.fate is not Fate.DONE:
        pytest.skip(f"{request.param.name} does not work here: {tried.reason}")
    return request.param
