"""Every error Studium raises on purpose, arranged by who can act on it.

    StudiumError
    ├── ConfigurationError      the author of studium.yaml or of the command line
    ├── OperatorError           whoever runs the machine
    │   ├── EngineMissing           an engine is not installed or not reachable
    │   ├── ModelBroken             a model file cannot be read or loaded
    │   ├── DoesNotFit              no room for the model, now or ever
    │   ├── StoreUnavailable        the store cannot be read or written
    │   ├── SpendingLimit           the governor does not let a call be paid for
    │   └── LeaseLost               somebody else holds the lease under which a change was to be made
    ├── CallerError             whoever asked the question
    │   ├── UnknownModel            no model, student or role of that name
    │   ├── PromptTooLong           the prompt does not fit the context
    │   ├── Unsupported             the engine cannot do what was asked
    │   └── BadRequest              the request is malformed
    ├── EngineFailure           a model failed while it worked: data in a group, an error alone
    │   ├── EngineDied              the worker or server went away
    │   ├── EngineTimeout           no answer within the limit
    │   ├── EngineRefused           the server answered with an error of its own
    │   └── BadReply                the server's answer cannot be understood
    └── StudiumBug              us

A message has three parts: what happened, with the value; what was expected; what to try next.
"""

from functools import partial


class StudiumError(Exception):
    """Base of the family.

    `code` is the stable machine-readable name; `exit_code` what the command line returns.
    """

    code = "error"
    exit_code = 1

    def __init__(self, happened: str, *, expected: str = "", try_next: str = "") -> None:
        self.happened = happened
        self.expected = expected
        self.try_next = try_next
        super().__init__(happened, expected, try_next)

    def __reduce__(self) -> tuple[partial["StudiumError"], tuple[str]]:
        """Let another process raise it again: arguments by name do not travel by themselves."""
        return partial(type(self), expected=self.expected, try_next=self.try_next), (self.happened,)

    def __str__(self) -> str:
        return "; ".join(part for part in (self.happened, self.expected, self.try_next) if part)


class ConfigurationError(StudiumError):
    code = "bad_configuration"
    exit_code = 2


class OperatorError(StudiumError):
    code = "operator"
    exit_code = 3


class EngineMissing(OperatorError):
    code = "engine_missing"


class ModelBroken(OperatorError):
    code = "model_broken"


class DoesNotFit(OperatorError):
    code = "does_not_fit"


class StoreUnavailable(OperatorError):
    code = "store_unavailable"


class SpendingLimit(OperatorError):
    code = "spending_limit"


class LeaseLost(OperatorError):
    code = "lease_lost"


class CallerError(StudiumError):
    code = "bad_request"
    exit_code = 4


class UnknownModel(CallerError):
    code = "model_not_found"


class PromptTooLong(CallerError):
    code = "context_length_exceeded"


class Unsupported(CallerError):
    code = "unsupported"


class BadRequest(CallerError):
    code = "bad_request"


class EngineFailure(StudiumError):
    code = "engine_failure"
    exit_code = 5


class EngineDied(EngineFailure):
    code = "engine_died"


class EngineTimeout(EngineFailure):
    code = "timeout"


class EngineRefused(EngineFailure):
    code = "engine_refused"


class BadReply(EngineFailure):
    code = "bad_reply"


class StudiumBug(StudiumError):
    """A promise we made to ourselves was broken."""

    code = "internal"
    exit_code = 70
