"""Which stages there are: each a module with `Options`, its recipe's dataclass, and `run(options, folder, say)`."""

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from studium.errors import BadRequest

if TYPE_CHECKING:  # the command line reads the names at every start
    from studium.train.config import Recipe
    from studium.train.course import Checkpoint
    from studium.train.run_folder import RunFolder

STAGES = ("sft", "weighted_sft", "srl", "rlvr", "dpo", "kto", "distil")

ON_PROCESSOR = ("weighted_sft", "srl", "rlvr")
"""Those whose batches are made on the processor, and the model with them, also where there is a GPU."""


class Run(Protocol):
    def __call__(self, options: Any, folder: "RunFolder", say: Callable[[str], None]) -> "Checkpoint":
        """Train as the options say into the folder; go on where it holds an unfinished run of theirs."""
        ...


class StageCode(NamedTuple):
    options: "type[Recipe]"
    run: Run


def stage(name: str) -> StageCode:
    """Return a stage by name; heavy libraries are imported when it runs. Raises BadRequest for a name that is none."""
    if name not in STAGES:
        near = get_close_matches(name, STAGES, n=1)
        raise BadRequest(
            f"there is no stage {name!r}",
            expected=f"one of {', '.join(STAGES)}",
            try_next=f"did you mean {near[0]!r}?" if near else "",
        )
    module = import_module(f"studium.train.stages.{name}")
    return StageCode(module.Options, module.run)
