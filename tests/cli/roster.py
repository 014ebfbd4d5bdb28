"""A workspace whose students follow a script, for commands run in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
models:
  adder:
    resident_bytes: 8000000
    rules: [{contains: "47 + 58", answer: "105"}]
    default: "I cannot answer that."
  doubter:
    resident_bytes: 8000000
    rules: [{contains: "47 + 58", answer: "105"}]
    default: "I cannot answer that."
"""
CONFIG = """
workspace: state
fleet: {{memory_budget: 2GiB}}
models:
  - {{name: adder, engine: scripted, source: "{script}#adder"}}
  - {{name: doubter, engine: scripted, source: "{script}#doubter"}}
students:
  - {{name: alpha, model: adder, speciality: sums, priority: 2}}
  - {{name: beta, model: doubter, tier: balanced}}
"""


def write_roster(folder: Path) -> Path:
    """Write a script and a studium.yaml into `folder`; return the latter."""
    script, config = folder / "script.yaml", folder / "studium.yaml"
    script.write_text(SCRIPT)
    config.write_text(CONFIG.format(script=script))
    return config


def studium(*arguments: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`, as a user would, with a home of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STUDIUM_")}
    return subprocess.run(
        [sys.executable, "-m", "studium.cli.main", *arguments],
        cwd=folder,
        env=environment | {"HOME": str(folder), "COLUMNS": "100"},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
