"The proofs of this folder are proofs: each turns red when its defect is planted in a copy of the package."
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_mutant_survives():
    done = subprocess.run([sys.executable, Path(__file__).resolve().parents[1]/"tools"/"mutate.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
