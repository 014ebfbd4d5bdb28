"""The example package is built, put on the path, found by its entry point, and holds against junk."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_domain"
BUILD = (
    "import os, sys; os.chdir(sys.argv[1]); "
    "from flit_core.buildapi import build_wheel; print(build_wheel(sys.argv[2]))"
)
FAULTY = """
    def verify(self, problem, reply):
        return float(problem.expected in reply)
"""


@pytest.fixture
def install(tmp_path: Path):
    """Return a function that builds a package and returns the folder it is installed in."""

    def installed(package: Path, name: str) -> Path:
        wheels, site = tmp_path / f"{name}-wheels", tmp_path / name
        wheels.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", BUILD, package, wheels],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        with zipfile.ZipFile(wheels / done.stdout.strip()) as wheel:
            wheel.extractall(site)
        return site

    return installed


def studium(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STUDIUM_")}
    path = os.pathsep.join(filter(None, (str(site), environment.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "studium.cli.main", *arguments],
        cwd=site,
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_package_adds_a_domain_that_holds_and_is_evaluated(install):
    site = install(EXAMPLE, "good")
    listed = json.loads(studium(site, "domains", "list", "--json").stdout)
    (roman,) = [one for one in listed if one["name"] == "roman"]
    assert (roman["ships"], roman["reads_rows"], roman["levels"]) == (False, True, [1, 2, 3])
    stressed = studium(site, "domains", "stress", "roman", "--json")
    assert stressed.returncode == 0, stressed.stdout
    assert json.loads(stressed.stdout)["holds"]
    rows = ("--domain", "roman", "--file", str(EXAMPLE / "rows.jsonl"))
    done = studium(site, "eval", "run", "--model", "sprout", *rows, "--workspace", str(site / "ws"), "--json")
    told = json.loads(done.stdout)
    assert (told["asked"], told["scored"]) == (3, 3)


@pytest.mark.slow
def test_a_package_whose_check_falls_for_junk_is_refused_with_the_attack(install, tmp_path: Path):
    package = tmp_path / "faulty"
    shutil.copytree(EXAMPLE, package, ignore=shutil.ignore_patterns("__pycache__"))
    module = package / "studium_roman.py"
    module.write_text(module.read_text().replace("\n    def canonical", f"{FAULTY}\n    def canonical"))
    site = install(package, "bad")
    assert studium(site, "domains", "stress", "roman").returncode == 1
    done = studium(
        site, "eval", "run", "--model", "sprout", "--domain", "roman", "--workspace", str(site / "ws")
    )
    assert done.returncode == 2
    assert "the domain 'roman' gives junk a score" in done.stderr
    assert "gold buried in prose" in done.stderr
