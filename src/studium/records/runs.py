"""What the fleet measured: one row per run of a student, and one per request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudentRun:
    """One generation by one student (requirement SES-6).

    `memory_bytes` is the high-water mark of its model while it ran; None where it was not measured.
    `load_seconds` is what this run waited for its own load, 0.0 when the model was there already.
    """

    student: str
    model: str
    started_at: float
    seconds: float
    success: bool
    cycle: int = 0
    memory_bytes: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    load_seconds: float = 0.0
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as the log keeps it. Texts are not kept here: only what happened."""

    request_id: str
    at: float
    path: str
    model: str
    status: int
    seconds: float
    api_key_name: str = ""
    strategy: str = ""
    complexity: str = ""
    answer_status: str = ""
    chosen_model: str = ""
    students_asked: int = 0
    students_answered: int = 0
    agreement: float | None = None
    confidence: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    error_code: str = ""
