"Commands where the terminal is not as usual: closed streams, a reader that goes away, Ctrl-C, names that harm."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import sys
from paintsr_nb.commands import command

@command
def speak(
    times:int=1, # How many lines
    wait:float=0, # Seconds after each
    fail:str=None, # Words of an error
):
    "Speak."
    import time
    if fail: raise ValueError(fail.encode().decode("unicode_escape"))
    for n in range(times):
        print("line", n, flush=True)
        print("and", n, file=sys.stderr)
        time.sleep(wait)

speak()
"""


def shell(line, code=0):
    "Run a line of the shell in which `SPEAK` is the command; the exit code is that of the command."
    line = line.replace("SPEAK", f"{sys.executable} speak.py")
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture(autouse=True)
def script(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"speak.py").write_text(COMMAND)


def test_closed_streams_are_no_error():
    assert shell("SPEAK --times 2 2>&-").stdout == "line 0\nline 1\n"
    assert shell("SPEAK >&-").stderr == "and 0\n"
    shell("SPEAK >&- 2>&-")
    shell("SPEAK --fail oh 2>&-", code=1)


def test_a_closed_error_stream_is_not_taken_by_a_file(tmp_path):
    (tmp_path/"speak.py").write_text(COMMAND.replace("import time\n", "import os, time\n    assert open(__file__).fileno() > 2\n"))
    shell("SPEAK 2>&-")


def test_a_reader_that_goes_away():
    done = shell("SPEAK --times 20000 | head -1", code=141)
    assert done.stdout == "line 0\n" and "Broken" not in done.stderr and "error" not in done.stderr


def test_interrupted_is_130():
    process = subprocess.Popen([sys.executable, "speak.py", "--times", "100", "--wait", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130 and told.endswith("interrupted\n") and "Traceback" not in told


def test_errors_are_seen_and_not_obeyed():
    told = shell(r"SPEAK --fail 'no file \x1b[31mred.png\nfailed: other'", code=1).stderr
    assert told == "error: no file \\x1b[31mred.png\nfailed: other\n"


def test_a_name_that_the_terminal_cannot_write():
    done = subprocess.run([sys.executable, "speak.py", "--fail", "r\\xe9.png"], capture_output=True, env=os.environ | dict(PYTHONIOENCODING="ascii"))
    assert done.returncode == 1 and done.stderr == b"error: r\\xe9.png\n"


def test_a_bar_whose_reader_goes_away_does_not_end_the_work(tmp_path):
    (tmp_path/"speak.py").write_text("import time\nfrom paintsr_nb import core\ncore._LOG_SECONDS = 0\n"
                                     "for n in core.progress(range(200)): time.sleep(0.002)\nopen('whole', 'w').close()\n")
    subprocess.run(["bash", "-c", f"{sys.executable} speak.py 2>&1 | head -1"], capture_output=True)
    until = time.monotonic() + 20
    while not Path("whole").exists() and time.monotonic() < until: time.sleep(0.02)
    assert Path("whole").exists()
