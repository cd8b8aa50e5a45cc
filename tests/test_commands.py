"""The console commands as a user types them: exit codes, what is printed where, what is left behind.

Each command runs once as a program of its own (`run`); what follows it runs here (`here`), because starting Python and PyTorch takes longer than the rest."""
import io
import json
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paintsr_nb import commands
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.weights import save_model
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.samples import samples

BIN = Path(sys.executable).parent


def run(name, *arguments, code=0):
    "Run a command; its exit code must be `code`, and it must never show a traceback."
    done = subprocess.run([BIN/name, *map(str, arguments)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def here(name, *arguments, code=0):
    "What `run` does, in this process: a traceback is an error of the test."
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end: getattr(commands, name)()
    finally: sys.argv = argv
    told = end.value.code
    if isinstance(told, str): print(told, file=err)   # as Python does it
    found = 1 if isinstance(told, str) else told or 0
    assert found == code, (found, out.getvalue(), err.getvalue())
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A small net in a file, so that no test waits for a large one."
    path = tmp_path_factory.mktemp("model")/"small.safetensors"
    save_model(path, make_generator("compact", num_filters=8, num_blocks=1))
    return path


@pytest.fixture
def painting(): return np.ascontiguousarray(samples("cat")[0].high[1000:1128, 1000:1096])


@pytest.mark.parametrize("name", ["prepare", "audit", "train", "upscale", "doctor", "models", "export", "score", "report", "submit", "check", "demo"])
def test_help(name): assert f"usage: paintsr_{name}" in run(f"paintsr_{name}", "--help").stdout


@pytest.mark.parametrize("name", ["score", "submit", "check"])
def test_what_is_missing_is_named(name): assert "required" in run(f"paintsr_{name}", code=2).stderr


def test_training_wants_a_store_or_a_run(): assert "no store" in run("paintsr_train", code=1).stderr


def test_prepare_twice(tmp_path, painting):
    write_picture(tmp_path/"high"/"boat.png", painting)
    write_picture(tmp_path/"high"/"tree.png", samples("dahlia")[0].high[1000:1128, 1000:1096])
    first = run("paintsr_prepare", "--high", tmp_path/"high", "--out", tmp_path/"store")
    assert "2 pictures" in first.stdout and "100% 2/2" in first.stderr
    assert "nothing to do" in here("paintsr_prepare", "--high", tmp_path/"high", "--out", tmp_path/"store").stdout
    low = np.load(tmp_path/"store"/"low"/"boat.npy")
    assert np.array_equal(low, shrink(painting))


def test_prepare_looks_after_a_store(tmp_path, painting):
    for n, name in enumerate(("boat", "tree", "barn")): write_picture(tmp_path/"high"/f"{name}.png", np.roll(painting, 20*n, axis=0))
    out = ["--out", tmp_path/"store"]
    assert "all files are as they were written" in here("paintsr_prepare", "--high", tmp_path/"high", *out, "--valid", "0", "--verify").stdout
    assert "1 removed" in here("paintsr_prepare", *out, "--remove", "boat").stdout
    assert sorted(path.name for path in (tmp_path/"store"/"low").iterdir()) == ["barn.npy", "tree.npy"]
    assert "no picture boat" in here("paintsr_prepare", *out, "--remove", "tree,boat", code=1).stderr
    assert "give one of the two" in here("paintsr_prepare", "--high", tmp_path/"high", *out, "--remove", "tree", code=1).stderr
    (tmp_path/"store"/"high"/"tree.npy").unlink()
    told = here("paintsr_prepare", *out, "--verify", code=1).stdout
    assert told.startswith(f"damaged: {tmp_path/'store'/'high'/'tree.npy'}: is missing") and len(told.splitlines()) == 1
    assert "neither raw nor high" in here("paintsr_prepare", *out, code=1).stderr


def test_audit_prints_findings_alone(tmp_path):
    for name, sample in zip(("0001", "0002", "0003"), samples(["cat", "dahlia", "pagoda"])):
        write_picture(tmp_path/f"raw/2400px/image_2400px_{name}.png", sample.high[:640, :512])
        write_picture(tmp_path/f"raw/600px/image_600px_{name}.png", sample.low[:160, :128])
    assert run("paintsr_audit", tmp_path/"raw").stdout == ""
    here("paintsr_prepare", tmp_path/"raw", "--out", tmp_path/"store")
    assert here("paintsr_audit", tmp_path/"store").stdout == "", "a store is audited too"
    moved = tmp_path/"raw/600px/image_600px_0002.png"
    write_picture(moved, np.roll(read_rgb8(moved), 1, axis=0))
    told = here("paintsr_audit", tmp_path/"raw", "--out", tmp_path/"report", code=1).stdout
    assert told.startswith(f"error: 0002: shift: {moved}: lies +1.0") and len(told.splitlines()) == 1
    assert "image_600px_0002.png" in (tmp_path/"report/index.html").read_text() and (tmp_path/"report/findings.csv").is_file()


def test_prepare_names_every_fault_before_it_writes(tmp_path, painting):
    write_picture(tmp_path/"high"/"good.png", painting)
    write_picture(tmp_path/"low"/"good.png", shrink(painting))
    write_picture(tmp_path/"high"/"alone.png", painting)
    write_picture(tmp_path/"high"/"odd.png", painting)
    write_picture(tmp_path/"low"/"odd.png", shrink(painting)[:-1].copy())
    (tmp_path/"high"/"torn.png").write_bytes((tmp_path/"high"/"good.png").read_bytes()[:900])
    write_picture(tmp_path/"low"/"torn.png", shrink(painting))
    folders = ["--low", tmp_path/"low", "--high", tmp_path/"high", "--out", tmp_path/"store"]
    report = run("paintsr_prepare", *folders, code=1).stderr
    for name in ("alone.png", "odd.png", "torn.png"): assert name in report
    assert not (tmp_path/"store"/"manifest.json").exists()
    done = here("paintsr_prepare", *folders, "--skip_bad")
    assert "1 pictures" in done.stdout and done.stdout.count("left out:") == 3 and "3 faulty files left out" in done.stdout


def test_upscale_keeps_going_and_keeps_results(tmp_path, painting, model):
    low = shrink(painting)
    for name in ("a.png", "sub/b.jpg", "sub/größe 絵.png", "one.png"): write_picture(tmp_path/"in"/name, low if name != "one.png" else low[:1, :1].copy())
    (tmp_path/"in"/"broken.png").write_bytes(b"not a picture")
    done = run("paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model, code=1)
    assert done.stderr.count("broken.png") == 1 and "of 5" in done.stderr and "100%" in done.stderr
    assert done.stdout == f"4 done, 1 failed: the results are in {tmp_path/'out'}\n"
    assert read_rgb8(tmp_path/"out"/"sub"/"größe 絵_x4.png").shape == painting.shape
    assert read_rgb8(tmp_path/"out"/"one_x4.png").shape == (4, 4, 3)
    (tmp_path/"in"/"broken.png").unlink()
    stamp = (tmp_path/"out"/"a_x4.png").stat().st_mtime_ns
    assert "4 kept" in here("paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model).stdout
    assert (tmp_path/"out"/"a_x4.png").stat().st_mtime_ns == stamp
    assert "4 done" in here("paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model, "--overwrite").stdout


def test_upscale_says_beforehand_and_afterwards(tmp_path, painting, model):
    for name in ("a.png", "sub/b.png"): write_picture(tmp_path/"in"/name, shrink(painting))
    (tmp_path/"in"/"c.jxl").touch()
    (tmp_path/"in"/"\x1b[31mred.png").write_bytes(b"no picture")
    line = ["paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model, "--format", "jpeg", "--quality", 80]
    told = here(*line, "--dry_run", "--json", tmp_path/"before.json", "--html", tmp_path/"before.html", code=1).stdout
    assert not (tmp_path/"out").exists() and "2 to do in about" in told and "nothing was written" in told and "\x1b" not in told
    before = json.loads((tmp_path/"before.json").read_text())
    assert before["counts"] == {"to do": 2, "failed": 1, "passed over": 1}
    assert [row["width"] for row in before["pictures"] if row["status"] == "to do"] == [96, 96]
    done = here(*line, "--json", tmp_path/"after.json", "--html", tmp_path/"after.html", code=1)
    assert "c.jxl: JPEG XL is not read here" in done.stderr and "\x1b" not in done.stderr + done.stdout
    after = json.loads((tmp_path/"after.json").read_text())
    assert after["counts"] == {"done": 2, "failed": 1, "passed over": 1}
    for old, new in zip(before["pictures"], after["pictures"]): assert (old["file"], old["output"], old["width"]) == (new["file"], new["output"], new["width"])
    assert sorted(path.name for path in (tmp_path/"out").rglob("*.jpg")) == ["a_x4.jpg", "b_x4.jpg"]
    page = (tmp_path/"after.html").read_text()
    assert 'href="out/sub/b_x4.jpg"' in page and "\x1b" not in page and page.index("red.png") < page.index("a.png")
    assert here(*line, "--json", tmp_path/"after.txt", code=1).stderr == f"error: {tmp_path/'after.txt'}: name a file that ends in .json\n"


def test_upscale_with_little_memory_grows_on_the_disk(tmp_path, painting, model):
    from paintsr_nb.upscaling.engine import _used_memory
    write_picture(tmp_path/"in"/"wall.tif", shrink(painting).repeat(12, 0).repeat(12, 1))
    line = ["paintsr_upscale", tmp_path/"in", "--model", model, "--format", "tiff", "--precise", "--out"]
    here(*line, tmp_path/"whole")
    allowed = (_used_memory() + 180e6)/1e9
    before = here(*line, tmp_path/"parts", "--max_memory", f"{allowed:.3f}", "--json", tmp_path/"told.json")
    assert json.loads((tmp_path/"told.json").read_text())["pictures"][0]["status"] == "done", before.stderr
    assert np.array_equal(read_rgb8(tmp_path/"whole"/"wall_x4.tif"), read_rgb8(tmp_path/"parts"/"wall_x4.tif"))
    assert "is too little" in here(*line, tmp_path/"none", "--max_memory", 0.001, code=1).stderr


def test_the_doctor(tmp_path, model):
    told = here("paintsr_doctor", "--model", model, "--json", tmp_path/"doctor.json").stdout
    for word in ("device", "number format", "versions", "avif", "read and written", "heic"): assert word in told
    assert all(row["well"] for row in json.loads((tmp_path/"doctor.json").read_text()))
    assert "no model" in here("paintsr_doctor", "--model", "defualt", code=1).stderr


def test_interrupted_while_it_upscales(tmp_path, painting, model):
    import signal, time
    write_picture(tmp_path/"in"/"00.png", samples("cat")[0].low[:200, :200].copy())
    for n in range(1, 40): (tmp_path/"in"/f"{n:02}.png").write_bytes((tmp_path/"in"/"00.png").read_bytes())
    process = subprocess.Popen([BIN/"paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 90
    while not list((tmp_path/"out").glob("*.png")) and time.monotonic() < until: time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told and told.endswith("interrupted\n")
    assert 0 < len(list((tmp_path/"out").glob("*.png"))) < 40 and not list((tmp_path/"out").rglob("*.tmp"))


def test_upscale_refuses_a_collision_before_it_begins(tmp_path, painting, model):
    for name in ("a.png", "a.jpg"): write_picture(tmp_path/"in"/name, shrink(painting))
    assert "a_x4.png" in here("paintsr_upscale", tmp_path/"in", "--out", tmp_path/"out", "--model", model, code=1).stderr
    assert not list((tmp_path/"out").glob("*")) if (tmp_path/"out").exists() else True
    assert "no pictures given" in here("paintsr_upscale", code=1).stderr


def test_score_prints_and_writes_numbers(tmp_path, painting):
    write_picture(tmp_path/"high"/"image_2400px_0010.png", painting)
    write_picture(tmp_path/"low"/"image_600px_0010.png", shrink(painting))
    write_picture(tmp_path/"sr"/"candidate_0010.png", enlarge(shrink(painting)))
    done = run("paintsr_score", tmp_path/"sr", tmp_path/"high", "--low", tmp_path/"low", "--json", tmp_path/"scores.json")
    numbers = json.loads((tmp_path/"scores.json").read_text())
    assert "wang_rgb" in done.stdout and numbers["n_scored"] == 1
    assert numbers["baselines"]["bicubic"]["ssim"] == pytest.approx(numbers["ssim"])   # the picture is the bicubic one
    assert numbers["baselines"]["back-projected"]["ssim"] > numbers["ssim"]
    write_picture(tmp_path/"high"/"image_2400px_0030.png", painting)
    write_picture(tmp_path/"sr"/"candidate_0011.png", painting)
    done = here("paintsr_score", tmp_path/"sr", tmp_path/"high", "--no_baselines", code=1)
    assert "0030" in done.stdout and "missing" in done.stdout and "candidate_0011.png" in done.stdout
    assert "choose one of" in here("paintsr_score", tmp_path/"sr", tmp_path/"high", "--protocol", "ssim", code=1).stderr


def test_submit_and_check(tmp_path, model):
    low = tmp_path/"low"
    for number in (10, 30): write_picture(low/f"image_600px_{number:04d}.png", np.full((600, 600, 3), number, np.uint8))
    first = run("paintsr_submit", low, "--model", model, "--out", tmp_path/"a.zip")
    assert "2 pictures" in first.stdout
    here("paintsr_submit", low, "--model", model, "--out", tmp_path/"b.zip")
    assert (tmp_path/"a.zip").read_bytes() == (tmp_path/"b.zip").read_bytes()
    assert "keeps every rule" in run("paintsr_check", tmp_path/"a.zip", low).stdout
    with zipfile.ZipFile(tmp_path/"a.zip") as archive: picture = archive.read("candidate_0010.png")
    with zipfile.ZipFile(tmp_path/"bad.zip", "w") as archive: archive.writestr("folder/candidate_0010.png", picture)
    report = here("paintsr_check", tmp_path/"bad.zip", low, code=1).stdout
    assert "candidate_0030.png" in report and "folder" in report and "violations" in report
    assert "exists" in here("paintsr_submit", low, "--model", model, "--out", tmp_path/"a.zip", code=1).stderr


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path, model, painting, monkeypatch):
    def never(*given, **named): pytest.fail("worked before the check")
    (tmp_path/"note.txt").touch()
    write_picture(tmp_path/"low"/"a.png", shrink(painting))
    bad = tmp_path/"note.txt"/"a.json"
    for module, function, line in (("challenge.score", "score_folders", ("paintsr_score", tmp_path, tmp_path, "--json", bad)),
                                   ("nets.listing", "list_models", ("paintsr_models", "--json", bad)),
                                   ("nets.foreign", "load_model", ("paintsr_export", model, "--out", tmp_path/"note.txt"/"a.onnx")),
                                   ("upscaling.folder", "upscale_files", ("paintsr_upscale", tmp_path/"low", "--out", tmp_path/"o", "--json", bad)),
                                   ("upscaling.folder", "upscale_files", ("paintsr_upscale", tmp_path/"low", "--out", tmp_path/"o", "--html", bad)),
                                   ("data.audit", "audit_pairs", ("paintsr_audit", tmp_path/"low", "--out", tmp_path/"note.txt"))):
        monkeypatch.setattr(f"paintsr_nb.{module}.{function}", never)
        told = here(*line, code=1).stderr
        assert "error: " in told and "note.txt" in told and "Errno" not in told, told


@pytest.mark.shared
@pytest.mark.parametrize("name", ["realesr_general_x4v3.safetensors", "realesr_animevideov3.safetensors"])
def test_community_models_upscale(tmp_path, data, name):
    picture = read_rgb8(data/"bench"/"Set5"/"LR"/"img_001.png")[:40, :40].copy()
    write_picture(tmp_path/"a.png", picture)
    here("paintsr_upscale", tmp_path/"a.png", "--out", tmp_path/"out", "--model", data.parent/"weights"/name)
    sr = read_rgb8(tmp_path/"out"/"a_x4.png")
    assert sr.shape == (160, 160, 3) and np.abs(shrink(sr).astype(int) - picture).mean() < 8   # it is the same picture, larger


@pytest.mark.shared
@pytest.mark.parametrize("name", ["RFDN_AIM_x4.pth", "SPAN_x4_team00.pth", "IMDN_x4.pth"])
def test_unknown_models_are_refused_by_name(tmp_path, data, painting, name):
    write_picture(tmp_path/"a.png", shrink(painting))
    report = here("paintsr_upscale", tmp_path/"a.png", "--out", tmp_path/"out", "--model", data.parent/"weights"/name, code=1).stderr
    assert name in report and "RRDBNet" in report and not (tmp_path/"out").exists()


def test_more_than_one_pass_is_asked_for_on_the_line(tmp_path, model, painting):
    write_picture(tmp_path/"in"/"boat.png", shrink(painting))
    common = "paintsr_upscale", tmp_path/"in", "--model", model, "--out"
    here(*common, tmp_path/"double", "--scale", 2, "--tta", "--consistent")
    double = tmp_path/"double"/"boat_x2.png"
    assert read_rgb8(double).shape == (64, 48, 3)
    assert np.abs(shrink(read_rgb8(double), 2).astype(int) - shrink(painting)).max() <= 1
    here(*common, tmp_path/"blend", "--blend", f"{model}:0.5")
    here(*common, tmp_path/"plain")
    blend, plain = (read_rgb8(tmp_path/name/"boat_x4.png") for name in ("blend", "plain"))
    assert np.abs(blend.astype(int) - plain).max() <= 1   # half of itself and half of itself
    for words, sentence in ((("--blend", "default:0.5"), "interpolate between stages"), (("--blend", model), "for instance esrgan.pth:0.3"),
                            (("--scale", 0), "expected a whole number from 1 to 64")):
        assert sentence in here(*common, tmp_path/"none", *words, code=1).stderr
    assert not (tmp_path/"none").exists()


def test_models_are_listed_with_their_facts(tmp_path, model):
    (tmp_path/"cut.pth").write_bytes(model.read_bytes()[:500])
    listed = here("paintsr_models", model, tmp_path, "--json", tmp_path/"models.json", code=1)
    assert "compact, 8 filters, 1 blocks, 4 scale" in listed.stdout and "cut.pth is damaged" in listed.stderr
    assert json.loads((tmp_path/"models.json").read_text())[0]["scale"] == 4
    assert "realesr-general-x4v3" in here("paintsr_models").stdout


def test_models_are_exported(tmp_path, model):
    save_model(tmp_path/"rrdb.safetensors", make_generator("rrdbnet", num_filters=8, num_blocks=1))
    here("paintsr_export", tmp_path/"rrdb.safetensors", "--out", tmp_path/"bare.safetensors")
    assert "is there already" in here("paintsr_export", tmp_path/"rrdb.safetensors", "--out", tmp_path/"bare.safetensors", code=1).stderr
    assert "export it as .onnx" in here("paintsr_export", model, "--out", tmp_path/"x.safetensors", code=1).stderr
    assert "ends in .onnx or .safetensors" in here("paintsr_export", model, "--out", tmp_path/"x.pth", code=1).stderr
    pytest.importorskip("onnxscript")
    assert "same picture" in here("paintsr_export", model, "--out", tmp_path/"x.onnx").stdout
