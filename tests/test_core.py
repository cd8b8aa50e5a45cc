"Progress on a terminal, in a notebook and in a log; many processes; what other libraries print."
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paintsr_nb import core
from paintsr_nb.core import progress, run_parallel

BIN = Path(sys.executable).parent
SLOW = """
import time
from paintsr_nb import core
core._LOG_SECONDS = {seconds}
for _ in core.progress(range(100), what="waiting", unit="tick"): time.sleep(0.01)
"""


def log_of(script, **environment):
    "What a script prints to an error stream that is a pipe."
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def seen_on_a_terminal(script, **environment):
    "What a script prints to an error stream that is a terminal."
    pty = pytest.importorskip("pty")
    import fcntl, struct, termios
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=terminal, env={**os.environ, "CI": "", **environment})
    os.close(terminal)
    seen = b""
    try:
        while (part := os.read(master, 4096)): seen += part
    except OSError: pass       # Linux: the other side has closed
    os.close(master)
    assert process.wait() == 0
    return seen.decode().replace("\r\n", "\n")


def test_a_log_gets_a_first_and_a_last_line():
    first, last = log_of(SLOW.format(seconds=core._LOG_SECONDS)).split("\n")[:-1]
    assert first.startswith("waiting:   0% 0/100 [") and last.startswith("waiting: 100% 100/100 [")
    assert core._LOG_SECONDS == 30


def test_a_log_gets_a_line_from_time_to_time():
    log = log_of(SLOW.format(seconds=0.25))
    assert "\r" not in log and "\x1b" not in log
    lines = log.splitlines()
    assert all(re.match(r"waiting: +\d+% \d+/100 \[", line) for line in lines)
    counts = [int(re.search(r"(\d+)/100", line)[1]) for line in lines]
    assert counts == sorted(counts) and counts[-1] == 100
    elapsed = 1 + int(re.search(r"\[(\d\d):(\d\d)<", lines[-1])[2])      # whole seconds, rounded up
    assert 4 <= len(lines) <= 2 + elapsed/0.25


def test_a_file_is_a_log_too(tmp_path):
    with open(tmp_path/"log.txt", "w") as file: subprocess.run([sys.executable, "-c", SLOW.format(seconds=30)], stderr=file, check=True)
    log = (tmp_path/"log.txt").read_bytes()
    assert log.count(b"\n") == 2 and b"\r" not in log


def test_a_terminal_gets_a_bar():
    seen = seen_on_a_terminal(SLOW.format(seconds=30))
    assert seen.count("\r") > 3 and "%|" in seen and "100/100" in seen


def test_a_ci_job_with_a_terminal_gets_lines():
    seen = seen_on_a_terminal(SLOW.format(seconds=30), CI="true")
    assert "\r" not in seen and len(seen.splitlines()) == 2


def test_a_notebook_gets_the_bar_of_notebooks(monkeypatch):
    from tqdm import auto

    class Bar(auto.tqdm): __module__ = "tqdm.notebook"
    monkeypatch.setattr(auto, "tqdm", Bar)
    monkeypatch.setenv("CI", "true")
    bar = progress(total=3)
    assert isinstance(bar, Bar) and bar.mininterval < 1 and not isinstance(bar.fp, core._Lines)
    bar.close()


def test_a_bar_moved_by_hand(capsys):
    bar = progress(total=4, what="training", unit="step")
    bar.update(1)
    bar.update(2)
    bar.set_postfix(loss="0.05", refresh=False)
    assert bar.n == 3
    bar.close()
    bar.close()
    with progress(what="counting") as open_end: open_end.update(5)
    lines = capsys.readouterr().err.splitlines()
    assert re.match(r"training:  75% 3/4 \[.*loss=0.05", lines[1]) and "counting: 5picture" in lines[3] and len(lines) == 4


def test_notes_beside_a_bar_do_not_fill_a_log(capsys):
    "The name of every picture stands beside a bar; in a log it would be a line per picture."
    with progress(total=50, what="upscaling") as bar:
        for number in range(50):
            bar.set_postfix_str(f"{number}.png")
            bar.update()
    first, last = capsys.readouterr().err.splitlines()
    assert "0/50" in first and "50/50" in last and "49.png" in last


def double(number): return 2*number


@pytest.mark.parametrize("num_workers", [1, 2, None])
def test_results_come_in_the_order_of_the_tasks(num_workers):
    assert list(run_parallel(double, list(range(12)), num_workers)) == list(range(0, 24, 2))
    assert list(run_parallel(double, [], num_workers)) == []


@pytest.mark.parametrize("command", [["paintsr_train", "nowhere"], ["paintsr_prepare", "nowhere"]])
def test_commands_print_no_warnings_of_other_libraries(command, tmp_path):
    done = subprocess.run([BIN/command[0], *command[1:]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("room", ["data.store", "challenge.score", "viewing.compare", "data.patches"])
def test_imports_print_nothing(room):
    assert log_of(f"import paintsr_nb.{room}") == ""
