"""How a question is put to students, as generators without I/O (see `serve.calls`). One file per strategy."""

from collections.abc import Callable

from studium.serve.calls import Brief, Strategy
from studium.serve.strategies.cascade import cascade
from studium.serve.strategies.clone_dispatch import clone_dispatch
from studium.serve.strategies.committee import committee
from studium.serve.strategies.debate import debate
from studium.serve.strategies.everyone import everyone
from studium.serve.strategies.single import single

STRATEGIES: dict[str, Callable[[Brief], Strategy]] = {
    "single": single,
    "committee": committee,
    "cascade": cascade,
    "debate": debate,
    "clone_dispatch": clone_dispatch,
    "everyone": everyone,
}
