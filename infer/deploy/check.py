#!/usr/bin/env python3
"""Checks the files of infer/deploy with the tools that read them.

    python infer/deploy/check.py [--all]

The manifests are held against the schemas of Kubernetes, the unit against systemd and the rules
against promtool, with their unit tests. A tool that is not installed is skipped, and named; with
--all that is an error.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The exposure that `systemd-analyze security` may report, of 100.
EXPOSURE_LIMIT = 15


def sh(*command: str, cwd: Path = HERE) -> None:
    """Runs `command`; its failure is ours."""
    print("+", " ".join(command), flush=True)
    subprocess.run(command, cwd=cwd, check=True)


def manifests() -> None:
    """Every document is a resource of Kubernetes, without unknown fields."""
    sh(sys.executable, "-m", "kubernetes_validate", "--strict", "kubernetes/infer.yaml")


def rules() -> None:
    """The alerts are rules, and raise what their tests say."""
    sh("promtool", "check", "config", "prometheus/prometheus.yml")
    sh("promtool", "check", "rules", "prometheus/alerts.yml")
    sh("promtool", "test", "rules", "prometheus/alerts_test.yml")


def unit() -> None:
    """systemd reads the unit, and finds it hardened."""
    with tempfile.TemporaryDirectory() as scratch:
        text = (HERE / "systemd/infer.service").read_text()
        copy = Path(scratch) / "infer.service"
        # The program need not be installed for its unit to be checked.
        copy.write_text(text.replace("/usr/local/bin/infer", "/bin/true"))
        sh("systemd-analyze", "verify", "--man=no", str(copy))
        limit = f"--threshold={EXPOSURE_LIMIT}"
        sh("systemd-analyze", "security", "--offline=true", "--no-pager", limit, str(copy))


def main() -> int:
    """Runs every check whose tool is there."""
    missing = []
    for tool, check in [("promtool", rules), ("systemd-analyze", unit)]:
        if shutil.which(tool):
            check()
        else:
            missing.append(tool)
    manifests()
    if missing:
        print(f"skipped, for want of: {', '.join(missing)}", file=sys.stderr)
    return 69 if missing and "--all" in sys.argv[1:] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode or 1)
