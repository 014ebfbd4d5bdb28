"""What a training process sees to before heavy libraries are imported: their noise, and how many threads they take.

Threads follow the machine's real load: two threads that wait for each other on busy cores trained up to 45 times slower
than one.
"""

import logging
import os
import warnings
from typing import NamedTuple

# Under so many weights a matrix is done before a second thread has woken up.
SMALL_PARAMETERS = 5_000_000
LOOK_S = 0.5


class Threads(NamedTuple):
    """How many threads to take, and why, for people."""

    threads: int
    why: str


def quiet() -> None:
    """Keep progress bars, banners and warnings of libraries from the terminal. Call before they are imported."""
    for name, value in (
        ("OMP_WAIT_POLICY", "PASSIVE"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"),
        ("TQDM_DISABLE", "1"),
        ("WANDB_DISABLED", "true"),
    ):
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")
    for library in ("transformers", "trl", "peft", "datasets", "accelerate", "torch", "bitsandbytes"):
        logging.getLogger(library).setLevel(logging.ERROR)


def threads_for(cores: int, busy: float, parameters: int | None) -> Threads:
    """Choose threads for a model of so many weights, on so many cores of which `busy` are at work for others."""
    free = max(1, int(cores - busy + 0.25))
    seen = f"{busy:.1f} of {cores} cores are busy"
    if parameters is not None and parameters < SMALL_PARAMETERS:
        return Threads(1, f"{parameters:,} weights are too few to share; {seen}")
    return Threads(free, seen)


def choose_threads(parameters: int | None) -> Threads:
    """Look at the machine for half a second, and bind PyTorch to the threads chosen."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = psutil.cpu_percent(interval=LOOK_S) / 100 * (psutil.cpu_count() or cores)
    chosen = threads_for(cores, min(busy, cores), parameters)
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    import torch

    torch.set_num_threads(chosen.threads)
    return chosen
