"The Colab badges and install cells of the tutorials: in step with settings.ini, and harmless where they run."
import json, re, shutil, subprocess, sys, types
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT/"nbs"/"tutorials").glob("*.ipynb"))


def badges(*flags, root=ROOT):
    return subprocess.run([sys.executable, ROOT/"tools"/"badges.py", "--root", root, *flags], capture_output=True, text=True)


def cells(notebook):
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def install_cell(notebook):
    return next("".join(one["source"]) for one in cells(notebook) if one["id"] == "colab-install")


@pytest.fixture
def moved(tmp_path):
    "A copy of the tutorials whose home has moved to another owner."
    shutil.copytree(ROOT/"nbs"/"tutorials", tmp_path/"nbs"/"tutorials")
    lines = (ROOT/"settings.ini").read_text(encoding="utf-8").splitlines()
    lines = ["git_url = https://github.com/someone/else.git" if line.startswith("git_url") else line for line in lines]
    lines = ["branch = stable" if line.startswith("branch") else line for line in lines]
    (tmp_path/"settings.ini").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_the_tutorials_are_in_step():
    assert TUTORIALS
    done = badges("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_moved_home_is_noticed_and_written_once(moved):
    before = badges("--check", root=moved)
    assert before.returncode == 1 and "Run `python tools/badges.py`" in before.stderr
    assert all(notebook.name in before.stdout for notebook in TUTORIALS)
    assert badges(root=moved).returncode == 0
    assert badges("--check", root=moved).returncode == 0
    for notebook in (moved/"nbs"/"tutorials").glob("*.ipynb"):
        badge, install = cells(notebook)[1:3]
        assert f"github/someone/else/blob/stable/nbs/tutorials/{notebook.name})" in "".join(badge["source"])
        assert "git+https://github.com/someone/else@stable" in "".join(install["source"])
        original = [one for one in cells(ROOT/"nbs"/"tutorials"/notebook.name) if not one["id"].startswith("colab-")]
        assert [one for one in cells(notebook) if not one["id"].startswith("colab-")] == original   # the essay is untouched


def test_a_home_that_colab_cannot_open_is_a_sentence(moved):
    settings = moved/"settings.ini"
    settings.write_text(settings.read_text().replace("https://github.com/", "https://example.org/"))
    done = badges(root=moved)
    assert done.returncode == 1 and "write https://github.com/OWNER/NAME" in done.stderr and "Traceback" not in done.stderr


def test_settings_alone_name_the_home():
    home = next(line.split("github.com/")[1] for line in (ROOT/"settings.ini").read_text().splitlines() if line.startswith("git_url"))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode: pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT/name
        if path.name == "settings.ini" or path in TUTORIALS or not path.is_file(): continue
        assert home.encode() not in path.read_bytes(), f"{name} names {home}, which only settings.ini may do"
    for notebook in TUTORIALS:
        for one in cells(notebook):
            if not one["id"].startswith("colab-"): assert home not in "".join(one["source"]), notebook.name


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda path: path.stem)
def test_outside_colab_the_install_cell_does_nothing(notebook, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail(f"ran {args}"))
    exec(install_cell(notebook), {})
    assert not list(tmp_path.iterdir())


def test_the_form_view_shows_one_line():
    for notebook in TUTORIALS:
        first, *rest = install_cell(notebook).splitlines()
        assert re.fullmatch(r'#@title .+ \{ display-mode: "form" \}', first), notebook.name
        assert not any(line.startswith("#@") for line in rest)   # a second form field would be a second visible line


def install_target(notebook):
    "What pip is asked to install, up to the address."
    return re.search(r'"(paintsr_nb\S*) @ ', install_cell(notebook))[1]


def test_a_page_asks_for_what_its_code_needs(moved):
    page = moved/"nbs"/"tutorials"/TUTORIALS[0].name
    for code, expected in (("from fastcore.basics import L", ""), ("perceptual_distance(sr, high)", "[perceptual]"),
                           ("SRLoss(perceptual=0.3)", "[perceptual]"), ("!accelerate launch x", "[parallel]"),
                           ("upscale_files('beach.heic')", "[heic]"),
                           ("PerceptualLoss()\n!accelerate launch x", "[parallel,perceptual]")):
        notebook = json.loads(page.read_text(encoding="utf-8"))
        notebook["cells"] = [one for one in notebook["cells"] if one["cell_type"] == "markdown"]
        notebook["cells"].append(dict(cell_type="code", id="x", metadata={}, execution_count=None, outputs=[],
                                      source=code.splitlines(keepends=True)))
        page.write_text(json.dumps(notebook), encoding="utf-8")
        assert badges(root=moved).returncode == 0
        assert install_target(page) == f"paintsr_nb{expected}", code


def test_the_training_tutorial_asks_for_its_trained_net():
    assert install_target(next(notebook for notebook in TUTORIALS if notebook.stem == "02_train_esrgan")) == "paintsr_nb[perceptual]"


def test_every_extra_that_the_package_can_ask_for_is_known():
    asked = {name for module in (ROOT/"paintsr_nb").rglob("*.py")
             for name in re.findall(r"paintsr_nb\[(\w+)\]", module.read_text(encoding="utf-8"))}
    known = re.search(r"^NEEDS = dict\((.*)\)", (ROOT/"tools"/"badges.py").read_text(encoding="utf-8"), re.M)[1]
    assert asked - {"dev"} == set(re.findall(r"(\w+)=", known))   # dev makes the samples


@pytest.fixture
def colab(monkeypatch, tmp_path):
    "A pretended Colab whose pip only notes how it was called; `answers` are its exit codes."
    calls, answers = [], []
    def run(command, **_):
        calls.append(command)
        return types.SimpleNamespace(returncode=answers.pop(0) if answers else 0, stderr="no such branch",
                                     stdout="Collecting x\nWould install spandrel-0.4.2\n" if "--dry-run" in command else "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", run)
    return types.SimpleNamespace(calls=calls, answers=answers, folder=tmp_path)


def test_in_colab_it_shows_the_plan_first_and_pins_torch(colab, capsys):
    exec(install_cell(TUTORIALS[0]), {})
    assert ["--dry-run" in command for command in colab.calls] == [True, False]
    assert capsys.readouterr().out.split("\n")[0] == "Would install spandrel-0.4.2"
    for command in colab.calls:
        assert command[command.index("-c")+1] == "keep.txt" and "git+https://github.com/" in command[-1]
    pins = (colab.folder/"keep.txt").read_text().split()
    assert pins == [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy")]


def test_in_colab_a_failed_plan_stops_the_notebook(colab):
    colab.answers.append(1)
    with pytest.raises(RuntimeError, match="no such branch"): exec(install_cell(TUTORIALS[0]), {})
    assert len(colab.calls) == 1
