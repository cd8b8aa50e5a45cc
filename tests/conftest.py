"Fixtures that several test files share."
import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("PAINTSR_DATA", Path(__file__).resolve().parents[2]/"shared"/"data"))


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the real pictures of PAINTSR_DATA (default ../shared/data)")
    config.addinivalue_line("markers", "browser: needs Chromium")
    config.addinivalue_line("markers", "slow: only in `make test-all`")


def pytest_collection_modifyitems(items):
    if SHARED.is_dir(): return
    skip = pytest.mark.skip(reason=f"no folder {SHARED}: set PAINTSR_DATA to the folder of real pictures")
    for item in items:
        if "shared" in item.keywords: item.add_marker(skip)


@pytest.fixture(scope="session")
def data():
    "The folder of real pictures; ask for it only in tests marked `shared`."
    return SHARED
