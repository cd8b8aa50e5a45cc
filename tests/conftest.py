"Fixtures and markers that several test files share."
import os
import signal
import tempfile
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("PAINTSR_DATA", Path(__file__).resolve().parents[2]/"shared"/"data"))


def pytest_addoption(parser): parser.addoption("--slow", action="store_true", help="run the tests marked `slow` too")


def pytest_configure(config):
    os.environ["PAINTSR_CACHE"] = tempfile.mkdtemp(prefix="paintsr_cache_")   # never the user's own
    signal.signal(signal.SIGINT, signal.default_int_handler)   # a shell ignores Ctrl-C for what runs in the background, and children inherit that
    config.addinivalue_line("markers", "shared: needs the real pictures of PAINTSR_DATA (default ../shared/data)")
    config.addinivalue_line("markers", "browser: needs Chromium")
    config.addinivalue_line("markers", "slow: runs with --slow, as in `make test-all`")


def pytest_collection_modifyitems(config, items):
    absent = pytest.mark.skip(reason=f"no folder {SHARED}: set PAINTSR_DATA to the folder of real pictures")
    slow = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "shared" in item.keywords and not SHARED.is_dir(): item.add_marker(absent)
        if "slow" in item.keywords and not config.getoption("--slow"): item.add_marker(slow)


@pytest.fixture(scope="session")
def data():
    "The folder of real pictures; ask for it only in tests marked `shared`."
    return SHARED


@pytest.fixture(scope="module")
def one_thread():
    "PyTorch on a single thread: tiny nets are quickest so, and sums come out the same."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    "A store of three small brush-stroke pictures, one of them for validation."
    import numpy as np
    from paintsr_nb.data.store import prepare
    from paintsr_nb.picture import write_picture
    from paintsr_nb.samples import samples
    folder = tmp_path_factory.mktemp("tiny")
    painting, = samples("dahlia")
    for number, (top, left) in enumerate([(300, 300), (900, 1200), (1500, 600)]):
        write_picture(folder/"high"/f"{number}.png", np.ascontiguousarray(painting.high[top:top+160, left:left+176]))
    return prepare(folder/"store", high=folder/"high", valid=0.34, num_workers=1).store
