"Folders of pictures: names, broken files, kept results, a run that is killed."
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from paintsr_nb.core import ReportError
from paintsr_nb.nets.generators import Generator
from paintsr_nb.picture import PictureRest, read_picture, read_rgb8, write_picture
from paintsr_nb.resize import enlarge
from paintsr_nb.upscaling import folder as room
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.folder import plan_outputs, upscale_files
from paintsr_nb.upscaling.refine import Rescaled
from paintsr_nb.upscaling.report import save_report


pytestmark = pytest.mark.usefixtures("one_thread")   # pictures this small are slower on two


class Repeat(Generator):
    "Repeats every pixel; gives NaN for a picture with a pixel of 255, 0, 255."
    def __init__(self, context=0): super().__init__(scale=4, context=context)

    def forward(self, low):
        poisoned = ((low[:, 0] == 1) & (low[:, 1] == 0) & (low[:, 2] == 1)).any()
        return F.interpolate(low, scale_factor=4.0, mode="nearest")*(float("nan") if poisoned else 1)


def picture(height=6, width=5, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(np.iinfo(dtype).max//2, size=(height, width, 3), dtype=dtype)


def repeat(pixels): return pixels.repeat(4, axis=0).repeat(4, axis=1)


def run(paths, out, **options):
    return upscale_files(paths, out, **dict(model=Repeat(), device="cpu", precise=True, show_progress=False) | options)


@pytest.fixture
def scans(tmp_path):
    "A tree with names of every sort."
    names = ("image_600px_0010.png", "sub/my.boat.png", "sub/deep/ölbild #1 (Kopie).png", "日本/絵 画.png", "été/🎨.png", "x"*240 + ".png")
    for seed, name in enumerate(names): write_picture(tmp_path/"scans"/name, picture(seed=seed))
    for name in (".hidden.png", "notes.txt", "Thumbs.db", "sub/._my.boat.png"): (tmp_path/"scans"/name).write_bytes(b"no picture")
    return tmp_path/"scans"


def problems(*given):
    with pytest.raises(ReportError) as caught: plan_outputs(*given)
    return caught.value.report


def tree(folder):
    "Every file but the notes of finished results."
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if ".paintsr" not in path.parts)


def test_the_tree_is_mirrored_whatever_the_names(scans, tmp_path):
    report = run(scans, tmp_path/"out")
    assert list(report) == ["file", "output", "status", "reason", "seconds", "width", "height", "drift"]
    assert report["width"].tolist() == [20]*6 and report["height"].tolist() == [24]*6 and report["drift"].between(0, 4).all()
    assert set(report["status"]) == {"done"} and len(report) == 6
    assert tree(tmp_path/"out") == sorted(["candidate_0010.png", "sub/my.boat_x4.png", "sub/deep/ölbild #1 (Kopie)_x4.png", "日本/絵 画_x4.png",
                                           "été/🎨_x4.png", "x"*240 + "_x4.png"])
    for row in report.itertuples(): assert np.array_equal(read_picture(row.output)[0], repeat(read_picture(row.file)[0]))


def test_files_and_folders_mix_and_doubles_count_once(scans, tmp_path):
    one = scans/"sub"/"my.boat.png"
    plan = plan_outputs([one, str(one), scans/"été"], tmp_path/"out")
    assert [path.name for path in plan["output"]] == ["my.boat_x4.png", "🎨_x4.png"]


@pytest.mark.parametrize("names", (("boat.png", "boat.jpg"), ("boat.png", "BOAT.tif"), ("image_600px_0010.png", "IMAGE_600px_0010.jpg"),
                                   (unicodedata.normalize("NFC", "été.png"), unicodedata.normalize("NFD", "été.bmp"))))
def test_two_inputs_with_one_output_are_an_error_before_the_first_picture(tmp_path, names):
    for name in (*names, "another.png"): write_picture(tmp_path/"in"/name, picture())
    found = problems(tmp_path/"in", tmp_path/"out")
    assert sorted(Path(file).name for file in found["file"]) == sorted(names) and found["problem"].str.contains("and so does").all()
    with pytest.raises(ReportError): run(tmp_path/"in", tmp_path/"out")
    assert not (tmp_path/"out").exists()


def test_two_folders_may_not_pour_into_one(tmp_path):
    for folder in "ab": write_picture(tmp_path/folder/"boat.png", picture())
    assert len(problems([tmp_path/"a", tmp_path/"b"], tmp_path/"out")) == 2
    assert len(plan_outputs(tmp_path, tmp_path/"out")) == 2   # the tree keeps them apart


def test_a_result_never_takes_the_place_of_an_input(tmp_path):
    for name in ("boat.png", "Boat_X4.png"): write_picture(tmp_path/"in"/name, picture())
    (tmp_path/"link").symlink_to(tmp_path/"in")
    for out in (tmp_path/"in", tmp_path/"link", tmp_path/"in"/".."/"in"):
        assert problems(tmp_path/"in", out)["problem"].str.contains("itself to be upscaled").any()


def test_results_inside_the_folder_are_not_upscaled_again(tmp_path):
    write_picture(tmp_path/"boat.png", picture())
    for status in ("done", "kept"): assert run(tmp_path, tmp_path/"large")["status"].tolist() == [status]
    assert tree(tmp_path) == ["boat.png", "large/boat_x4.png"]


def test_names_that_cannot_be_are_all_listed_at_once(tmp_path):
    (tmp_path/"empty").mkdir()
    write_picture(tmp_path/("y"*250 + ".png"), picture())
    found = problems([tmp_path/"empty", tmp_path/"gone.png", tmp_path/("y"*250 + ".png")], tmp_path/"out")
    assert found["problem"].str.contains("holds no picture|does not exist|257 bytes|256 bytes").all() and len(found) == 3


def test_nonsense_is_named(tmp_path):
    write_picture(tmp_path/"boat.png", picture())
    with pytest.raises(NotADirectoryError, match="name a folder"): plan_outputs(tmp_path/"boat.png", tmp_path/"boat.png")
    with pytest.raises(ValueError, match="at least one"): plan_outputs([], tmp_path/"out")
    with pytest.raises(FileNotFoundError, match="no model"): run(tmp_path/"boat.png", tmp_path/"out", model="defualt")
    assert not (tmp_path/"out").exists()


def test_bad_files_are_named_and_the_rest_is_done(tmp_path):
    folder = tmp_path/"in"
    for n in (1, 3, 5): write_picture(folder/f"{n} good.png", picture(seed=n))
    whole = (folder/"1 good.png").read_bytes()
    (folder/"0 empty.png").write_bytes(b"")
    (folder/"2 half.png").write_bytes(whole[:len(whole)//2])
    (folder/"4 text.jpg").write_text("not a picture")
    poisoned = picture()
    poisoned[0, 0] = 255, 0, 255
    write_picture(folder/"6 poisoned.png", poisoned)
    report = run(folder, tmp_path/"out").set_index("file")
    report.index = [Path(file).name for file in report.index]
    assert report["status"].to_dict() == {"0 empty.png": "failed", "1 good.png": "done", "2 half.png": "failed", "3 good.png": "done",
                                          "4 text.jpg": "failed", "5 good.png": "done", "6 poisoned.png": "failed"}
    for name, row in report[report["status"] == "failed"].iterrows(): assert name in row["reason"]
    assert "NaN or infinity" in report.loc["6 poisoned.png", "reason"]
    assert tree(tmp_path/"out") == ["1 good_x4.png", "3 good_x4.png", "5 good_x4.png"]


def test_what_was_noted_on_the_way_is_beside_the_name(tmp_path, recwarn):
    frames = [Image.fromarray(picture(seed=n)) for n in range(2)]
    frames[0].save(tmp_path/"pages.tif", save_all=True, append_images=frames[1:])
    write_picture(tmp_path/"plain.png", picture())
    report = run(tmp_path, tmp_path/"out")
    assert report["status"].tolist() == ["done", "done"] and "2 pages" in report["reason"][0] and report["reason"][1] == ""
    assert not recwarn.list


def test_a_result_that_cannot_be_written_is_reported(tmp_path):
    write_picture(tmp_path/"in"/"boat.png", picture())
    write_picture(tmp_path/"in"/"sub"/"boat.png", picture())
    (tmp_path/"out").mkdir()
    (tmp_path/"out"/"sub").write_text("a file where a folder must be")
    report = run(tmp_path/"in", tmp_path/"out")
    assert report["status"].tolist() == ["done", "failed"] and "boat.png" in report["reason"][1]


def test_a_file_that_no_run_has_made_is_neither_kept_nor_replaced(tmp_path):
    write_picture(tmp_path/"boat.png", picture())
    mine = tmp_path/"out"/"boat_x4.png"
    for garbage in (False, True):
        if garbage: mine.write_bytes(b"half a cop")
        else: write_picture(mine, picture(24, 20, seed=9))
        before = mine.read_bytes(), mine.stat().st_mtime_ns
        report = run(tmp_path/"boat.png", tmp_path/"out")
        assert report["status"].tolist() == ["failed"] and (mine.read_bytes(), mine.stat().st_mtime_ns) == before
        assert report["reason"][0].startswith(f"{mine} is there already, and no run has made it")
    assert run(tmp_path/"boat.png", tmp_path/"out", overwrite=True)["status"].tolist() == ["done"]
    assert np.array_equal(read_picture(mine)[0], repeat(picture()))


class Other(Repeat):
    "Another net with the same result."


def test_kept_is_what_was_made_of_the_same_by_the_same(tmp_path):
    write_picture(tmp_path/"boat.png", picture())
    result = tmp_path/"out"/"boat_x4.png"
    def status(**options): return run(tmp_path/"boat.png", tmp_path/"out", **options)["status"].tolist()
    assert status() == ["done"] and status() == ["kept"]
    stamp = result.stat().st_mtime_ns
    assert status(tile=3) == ["kept"] and status(quality=50) == ["kept"] and result.stat().st_mtime_ns == stamp   # neither changes a PNG
    for options in (dict(model=Other()), dict(srgb=True), dict(consistent=True), dict(model=Rescaled(Rescaled(Repeat(), 4), 4))):
        assert status(**options) == ["done"] and status(**options) == ["kept"]
    assert status() == ["done"]
    write_picture(tmp_path/"boat.png", picture(seed=1))
    report = run(tmp_path/"boat.png", tmp_path/"out")
    assert report["status"].tolist() == ["done"] and report["reason"][0].startswith("made anew")
    assert np.array_equal(read_picture(result)[0], repeat(picture(seed=1)))
    result.write_bytes(result.read_bytes()[:-20])   # a disk that lost the end
    assert status() == ["failed"]
    result.unlink()
    assert status() == ["done"] and status(overwrite=True) == ["done"]


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_depth_transparency_and_size_on_paper_stay(tmp_path, dtype):
    top = np.iinfo(dtype).max
    dark, alpha = picture(12, 9, dtype=dtype)//dtype(top//200), np.full((12, 9), top, dtype)
    alpha[:, :3], alpha[:, 3] = 0, top//2
    write_picture(tmp_path/"dark.png", dark, PictureRest(alpha=alpha, dpi=(300.0, 300.0)))
    report = run(tmp_path/"dark.png", tmp_path/"out")
    sr, rest = read_picture(report["output"][0])
    assert sr.dtype == dtype and np.array_equal(sr[:, 12:], repeat(dark)[:, 12:])
    assert np.array_equal(rest.alpha, enlarge(alpha)) and rest.dpi[0] == pytest.approx(1200, abs=0.1)
    assert np.array_equal(sr[:, :12], repeat(dark[:, 3:4].repeat(3, axis=1)))   # the unseen took the nearest colour that is seen


def test_a_picture_is_turned_as_its_file_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(8, 16)).save(tmp_path/"turned.png", exif=exif)
    report = run(tmp_path/"turned.png", tmp_path/"out")
    assert np.array_equal(read_picture(report["output"][0])[0], repeat(np.rot90(picture(8, 16), -1)))
    with Image.open(report["output"][0]) as image: assert image.size == (32, 64) and 0x0112 not in image.getexif()


@pytest.mark.parametrize("mode", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"))
def test_every_kind_of_pixel_goes_through(tmp_path, mode):
    Image.fromarray(picture(9, 7)).convert(mode).save(tmp_path/f"{mode}.tif")
    report = run(tmp_path/f"{mode}.tif", tmp_path/"out")
    assert report["status"].tolist() == ["done"], report["reason"][0]
    assert np.array_equal(read_picture(report["output"][0])[0], repeat(read_picture(tmp_path/f"{mode}.tif")[0]))


def test_a_folder_gives_what_the_single_call_gives(tmp_path):
    class Soft(Repeat):
        def forward(self, low): return F.interpolate(low, scale_factor=4.0, mode="bicubic")

    for n in range(3): write_picture(tmp_path/"in"/f"{n}.png", picture(20+n, 30, seed=n))
    report = run(tmp_path/"in", tmp_path/"out", model=Soft(context=3), tile=11)
    for row in report.itertuples():
        assert np.array_equal(read_picture(row.output)[0], Upscaler(Soft(context=3), "cpu", 11, precise=True)(read_picture(row.file)[0]))


def test_the_bar_counts_pixels_and_moves_with_every_tile(tmp_path, monkeypatch):
    from tqdm import auto
    shown, totals = [], []

    class Bar(auto.tqdm):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            totals.append(self.total)

        def update(self, n=1):
            shown.append(self.n)
            return super().update(n)

    monkeypatch.setattr(auto, "tqdm", Bar)
    for n in range(2): write_picture(tmp_path/"in"/f"{n}.png", picture(10, 20))
    write_picture(tmp_path/"in"/"2.png", picture(20, 40))
    run(tmp_path/"in"/"1.png", tmp_path/"out", tile=10)
    run(tmp_path/"in", tmp_path/"out", tile=10, show_progress=True)
    assert [n for i, n in enumerate(shown) if n not in shown[:i]] == [100, 200, *range(300, 1001, 100)]
    assert totals == [1000]   # what is finished already does not count: it would make the rest look short


# Processes that have imported everything already, because that takes longer than the pictures.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["paintsr_nb.upscaling.folder", "skimage.color"])


class Slow(Repeat):
    def forward(self, low):
        if total := low.sum().item():   # and not the measurement of memory
            with open(os.environ["LOG"], "a") as log: log.write(f"{total}\n")
            time.sleep(0.1)
        return super().forward(low)


def work(folder):
    "What a process does: upscale, and say what became of the pictures."
    torch.set_num_threads(1)
    os.environ["LOG"] = str(folder/"log")
    status = run(folder/"folder", folder/"out", model=Slow())["status"]
    (folder/f"told {os.getpid()}").write_text(" ".join(status))


def begin(tmp_path):
    process = FORKS.Process(target=work, args=(tmp_path,))
    process.start()
    return process


def told(tmp_path, process):
    "Statuses of the pictures, when the process has ended."
    process.join(90)
    return (tmp_path/f"told {process.pid}").read_text().split()


def wait_for(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until: time.sleep(0.005)
    assert condition()


def scans_of(tmp_path, count):
    for n in range(count): write_picture(tmp_path/"folder"/f"{n:02}.png", picture(40, 40, seed=n))
    (tmp_path/"log").touch()
    return lambda: (tmp_path/"log").read_text().split()


def whole(tmp_path):
    done = sorted((tmp_path/"out").glob("*.png"))
    for path in done: assert np.array_equal(read_picture(path)[0], repeat(picture(40, 40, seed=int(path.name[:2]))))
    return done


def test_a_run_that_is_killed_loses_the_picture_in_hand_and_leaves_nothing(tmp_path):
    calls = scans_of(tmp_path, 12)
    process = begin(tmp_path)
    wait_for(lambda: len(list((tmp_path/"out").glob("*_x4.png"))) >= 3)
    process.kill()
    process.join()
    done = whole(tmp_path)
    assert 3 <= len(done) < 12
    (tmp_path/"out"/".11_x4.abcd_123.png.tmp").touch()   # as if it had been killed while it wrote that one
    (tmp_path/"out"/".mine.abcd_123.png.tmp").touch()
    before = len(calls())
    assert told(tmp_path, begin(tmp_path)).count("kept") >= len(done) - 1
    assert len(whole(tmp_path)) == 12 and before + 12 - len(done) <= len(calls()) <= before + 13 - len(done)
    assert [path.name for path in (tmp_path/"out").rglob("*.tmp")] == [".mine.abcd_123.png.tmp"]


@pytest.mark.parametrize("count", (2, 3))
def test_several_processes_share_a_folder(tmp_path, count):
    calls = scans_of(tmp_path, 12)
    words = [told(tmp_path, process) for process in [begin(tmp_path) for _ in range(count)]]
    assert len(whole(tmp_path)) == 12 and len(calls()) == len(set(calls())) == 12, "a picture was done twice"
    assert all(set(each) <= {"done", "kept"} and len(each) == 12 for each in words)
    assert sum(each.count("done") for each in words) == 12 and sum("done" in each for each in words) > 1, "they take turns"


def test_of_three_processes_one_is_killed(tmp_path):
    calls = scans_of(tmp_path, 14)
    processes = [begin(tmp_path) for _ in range(3)]
    wait_for(lambda: len(calls()) >= 6)
    processes[0].kill()
    for process in processes[1:]: assert set(told(tmp_path, process)) <= {"done", "kept"}
    assert len(whole(tmp_path)) == 14 and 14 <= len(calls()) <= 16 and len(set(calls())) == 14   # one was computed, one written
    assert not list((tmp_path/"out").rglob("*.tmp"))


# ---- names, formats, places

def test_a_name_that_is_no_text_is_no_reason_to_stop(tmp_path):
    write_picture(tmp_path/"in"/"boat.png", picture())
    with open(os.path.join(os.fsencode(tmp_path/"in"), b"caf\xe9.png"), "wb") as file: file.write((tmp_path/"in"/"boat.png").read_bytes())
    report = run(tmp_path/"in", tmp_path/"out", show_progress=True)
    assert report["status"][0] == "done" and len(report) == 2
    assert report["status"][1] == "done" or "caf" in report["reason"][1]
    save_report(report, tmp_path/"report.json")
    save_report(report, tmp_path/"report.html")


def test_pictures_that_are_not_taken_are_named(tmp_path):
    write_picture(tmp_path/"in"/"boat.png", picture())
    Image.fromarray(picture()).save(tmp_path/"in"/"wave.gif")
    for name in ("sub/a.JXL", "b.psd", ".c.jxl", "notes.txt"):
        (tmp_path/"in"/name).parent.mkdir(exist_ok=True)
        (tmp_path/"in"/name).touch()
    report = run(tmp_path/"in", tmp_path/"out")
    assert report["status"].tolist() == ["done"] + ["passed over"]*3
    assert [Path(file).name for file in report["file"]] == ["boat.png", "b.psd", "a.JXL", "wave.gif"]
    assert run(tmp_path/"in"/"wave.gif", tmp_path/"out")["status"].tolist() == ["done"]   # by its own name it is taken


def test_heic_is_taken_and_becomes_png(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    for name in ("sub/a.HEIC", "b.heif"):
        (tmp_path/"in"/name).parent.mkdir(parents=True, exist_ok=True)
        pillow_heif.from_pillow(Image.fromarray(picture())).save(tmp_path/"in"/name, quality=-1, chroma=444, matrix_coefficients=0)
    report = run(tmp_path/"in", tmp_path/"out")
    assert report["status"].tolist() == ["done"]*2 and [Path(file).name for file in report["output"]] == ["b_x4.png", "a_x4.png"]
    run(write_picture(tmp_path/"c.png", picture()) or tmp_path/"c.png", tmp_path/"out")
    for name in ("b_x4.png", "sub/a_x4.png"): np.testing.assert_array_equal(read_rgb8(tmp_path/"out"/name), read_rgb8(tmp_path/"out"/"c_x4.png"))


def test_without_its_extra_heic_is_passed_over_and_named(tmp_path):
    for name in ("a.HEIC", "b.heif"): (tmp_path/name).touch()
    script = ("import sys; sys.modules['pillow_heif'] = None; from paintsr_nb.core import list_pictures; "
              "from paintsr_nb.upscaling.folder import passed_over; "
              f"print(list_pictures({str(tmp_path)!r}), *(said for _, said in passed_over({str(tmp_path)!r})), sep='\\n')")
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    says = 'reading HEIC needs pillow-heif: pip install "paintsr_nb[heic]"'
    assert told.splitlines() == ["[]", *(f"{tmp_path/name}: {says}" for name in ("a.HEIC", "b.heif"))]


def test_the_doctor_knows_whether_heic_is_read(monkeypatch):
    from paintsr_nb.upscaling.forecast import _formats
    version = pytest.importorskip("pillow_heif").__version__
    assert [*_formats()][-1] == ("heic", "read", f"with pillow-heif {version}, never written", True)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert [*_formats()][-1] == ("heic", "not read", 'reading HEIC needs pillow-heif: pip install "paintsr_nb[heic]"', True)


@pytest.mark.parametrize("format, suffix", dict(png=".png", jpeg=".jpg", webp=".webp", tiff=".tif", avif=".avif").items())
def test_every_format_and_its_quality(tmp_path, format, suffix):
    write_picture(tmp_path/"in"/"deep.png", picture(40, 40, dtype=np.uint16))
    sizes = []
    for quality in (90, 30):
        report = run(tmp_path/"in", tmp_path/"out", format=format, quality=quality)
        assert Path(report["output"][0]).name == f"deep_x4{suffix}", report["reason"][0]
        assert ("16 bits became 8" in report["reason"][0]) == (format in ("jpeg", "webp", "avif"))
        sizes.append(Path(report["output"][0]).stat().st_size)
        pixels, _ = read_picture(report["output"][0])
        assert pixels.dtype == (np.uint16 if format in ("png", "tiff") else np.uint8)
    assert (sizes[0] > 1.2*sizes[1]) == (format in ("jpeg", "webp", "avif"))


def never(self, *given, **named): pytest.fail("computed before the check")


@pytest.mark.parametrize("format, size, alpha, words", [("jpeg", (9, 9), True, "JPEG holds no transparency"), ("webp", (1, 4100), False, "too large for WEBP")])
def test_what_a_format_cannot_hold_is_known_before_the_first_tile(tmp_path, monkeypatch, format, size, alpha, words):
    seen = np.full(size, 100, np.uint8) if alpha else None
    write_picture(tmp_path/"in"/"boat.png", picture(*size), PictureRest(alpha=seen))
    monkeypatch.setattr(Upscaler, "fill", never)
    assert words in run(tmp_path/"in", tmp_path/"out", format=format)["reason"][0]


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch):
    from types import SimpleNamespace
    for n in range(2): write_picture(tmp_path/"in"/f"{n}.png", picture(40, 40))
    free = [10_000]
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=free.pop(0) if len(free) > 1 else free[0]))
    monkeypatch.setattr(Upscaler, "fill", never)
    with pytest.raises(OSError, match="has room for 10.0 kB, about 76.8 kB are needed"): run(tmp_path/"in", tmp_path/"out")
    assert not (tmp_path/"out").exists()
    free[:] = [100_000, 10_000]   # somebody else writes there, too
    report = run(tmp_path/"in", tmp_path/"out")
    assert report["status"].tolist() == ["failed"]*2 and report["reason"].str.contains("make room").all()


@pytest.mark.parametrize("place", ["note.txt", "note.txt/out", "/proc/none"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, place):
    write_picture(tmp_path/"in"/"boat.png", picture())
    (tmp_path/"note.txt").touch()
    monkeypatch.setattr(Upscaler, "fill", never)
    with pytest.raises(OSError, match="cannot be written|name a folder"): run(tmp_path/"in", tmp_path/place)


def test_a_reason_names_the_file_once(tmp_path):
    (tmp_path/"in").mkdir()
    (tmp_path/"in"/"empty.png").touch()
    (tmp_path/"in"/"text.jpg").write_text("not a picture")
    write_picture(tmp_path/"in"/"poisoned.png", np.array([[[255, 0, 255]]], np.uint8))
    for row in run(tmp_path/"in", tmp_path/"out").itertuples(): assert row.reason.count(row.file) == 1, row.reason


def test_profiles_are_kept_or_converted(tmp_path):
    from paintsr_nb.profiles import make_profile
    wide = make_profile(((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.329)), 2.2)
    write_picture(tmp_path/"wide.png", picture(), PictureRest(icc=wide))
    kept, rest = read_picture(run(tmp_path/"wide.png", tmp_path/"a")["output"][0])
    assert rest.icc == wide and np.array_equal(kept, repeat(picture()))
    converted, rest = read_picture(run(tmp_path/"wide.png", tmp_path/"b", srgb=True)["output"][0])
    assert rest.icc != wide and np.array_equal(converted, repeat(read_picture(tmp_path/"wide.png", srgb=True)[0]))


@pytest.mark.parametrize("format", ("tiff", "png"))
def test_a_picture_larger_than_memory_goes_the_other_way(tmp_path, monkeypatch, format):
    write_picture(tmp_path/"in"/"wall.tif", picture(60, 50))
    plain = run(tmp_path/"in", tmp_path/"a", format=format)
    monkeypatch.setattr(Upscaler, "allowed", 100_000)
    large = run(tmp_path/"in", tmp_path/"b", format=format, tile=20)
    assert large["status"].tolist() == ["done"] and large["width"][0] == 200 and np.isnan(large["drift"][0])
    assert np.array_equal(read_picture(large["output"][0])[0], read_picture(plain["output"][0])[0])
    assert run(tmp_path/"in", tmp_path/"b", format=format)["status"].tolist() == ["kept"]
    for options, word in ((dict(consistent=True), "consistent"), (dict(srgb=True), "srgb")):
        assert f"{word} needs it whole" in run(tmp_path/"in", tmp_path/"c", format=format, **options)["reason"][0]
    assert tree(tmp_path/"b") == [f"wall_x4.{format[:3]}"]


# ---- one picture is computed while others are written

SOON = 30   # seconds, after which a test would say that something never happens
MEANWHILE = 0.3   # seconds, long enough for what must not happen meanwhile


class Told(Repeat):
    "Says when the picture is computed whose pixels are all of one level."
    def __init__(self, *levels):
        super().__init__()
        self.computed = {level: threading.Event() for level in levels}
        self.then = lambda level: None

    def __deepcopy__(self, memo): return self   # the events are for this test to see

    def forward(self, low):
        level = round(low.max().item()*255)
        if level in self.computed:   # and not the measurement of memory
            self.computed[level].set()
            self.then(level)
        return super().forward(low)


def levels_of(tmp_path, count):
    "Pictures of one level each, 1 and more, and the net that knows them."
    for level in range(1, count + 1): write_picture(tmp_path/"in"/f"{level}.png", np.full((6, 5, 3), level, np.uint8))
    return Told(*range(1, count + 1))


def writing(monkeypatch, before=lambda level: None, after=lambda level: None):
    "Do something before and after each result is written."
    def write(output, sr, *given, **named):
        before(int(sr[0, 0, 0]))
        write_picture(output, sr, *given, **named)
        after(int(sr[0, 0, 0]))
    monkeypatch.setattr(room, "write_picture", write)


def test_the_next_picture_is_computed_while_one_is_written(tmp_path, monkeypatch):
    net, met = levels_of(tmp_path, 3), {}
    writing(monkeypatch, lambda level: met.update({level: level == 3 or net.computed[level + 1].wait(SOON)}))
    report = run(tmp_path/"in", tmp_path/"out", model=net)
    assert met == {1: True, 2: True, 3: True}
    assert report["status"].tolist() == ["done"]*3 and [Path(file).name for file in report["file"]] == ["1.png", "2.png", "3.png"]
    for level, row in enumerate(report.itertuples(), 1): assert (read_picture(row.output)[0] == level).all()


def test_no_more_are_written_at_once_than_the_device_is_worth(tmp_path, monkeypatch):
    net, early = levels_of(tmp_path, 6), []
    writing(monkeypatch, lambda level: early.append(level < 3 and net.computed[level + 2].wait(MEANWHILE)))
    run(tmp_path/"in", tmp_path/"one", model=net)
    assert early == [False]*6, "one is written, one in hand, and the third has to wait"
    together = threading.Barrier(3)
    monkeypatch.setattr(room, "_most_writers", lambda upscaler: 3)
    writing(monkeypatch, lambda level: together.wait(SOON))
    assert run(tmp_path/"in", tmp_path/"three", model=net)["status"].tolist() == ["done"]*6


@pytest.mark.parametrize("bound", ("max_memory", "free"))
def test_where_memory_is_bounded_nothing_overlaps(tmp_path, monkeypatch, bound):
    net, met = levels_of(tmp_path, 3), []
    if bound == "free": monkeypatch.setattr(Upscaler, "allowed", 4*20*24*3 + 1)   # one result fits, two do not
    writing(monkeypatch, lambda level: met.append(level < 3 and net.computed[level + 1].wait(MEANWHILE)))
    report = run(tmp_path/"in", tmp_path/"out", model=net, **dict(max_memory=10**12) if bound == "max_memory" else {})
    assert met == [False]*3 and report["status"].tolist() == ["done"]*3


def test_notes_of_two_threads_do_not_mix(tmp_path, monkeypatch):
    net, written = levels_of(tmp_path, 2), threading.Event()
    def note(level):
        net.computed[2].wait(SOON)
        warnings.warn(f"written {level}")
        written.set()
    def then(level):
        if level == 2: written.wait(SOON)
        warnings.warn(f"computed {level}")
    net.then = then
    writing(monkeypatch, note)
    report = run(tmp_path/"in", tmp_path/"out", model=net)
    assert report["reason"].tolist() == ["computed 1. written 1", "computed 2. written 2"]


def test_a_note_is_kept_while_another_file_is_decoded(tmp_path, monkeypatch):
    from paintsr_nb import picture as files
    net, decoding, noted = levels_of(tmp_path, 2), threading.Event(), threading.Event()
    def rows_of(image):
        decoding.set()
        noted.wait(SOON)
        return ()
    net.then = lambda level: level == 2 and (decoding.wait(SOON), warnings.warn("seen"), noted.set())
    monkeypatch.setattr(files, "rows_of", rows_of)
    writing(monkeypatch, lambda level: level == 2 or net.computed[2].wait(SOON))   # the second has been read when the first is checked
    assert run(tmp_path/"in", tmp_path/"out", model=net)["reason"].tolist() == ["", "seen"]


def test_a_write_that_fails_fails_alone(tmp_path, monkeypatch):
    net, full = levels_of(tmp_path, 3), [True]
    def before(level):
        if level < 3: net.computed[level + 1].wait(SOON)
        if level < 3 and full: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path/"out"/f"{level}_x4.png"))
    writing(monkeypatch, before)
    report = run(tmp_path/"in", tmp_path/"out", model=net)
    assert report["status"].tolist() == ["failed", "failed", "done"]
    for row in report[:2].itertuples(): assert "No space left" in row.reason and row.reason.count(row.file) == 1
    assert tree(tmp_path/"out") == ["3_x4.png"] and not list((tmp_path/"out").rglob("*.tmp"))
    full.clear()
    assert run(tmp_path/"in", tmp_path/"out", model=net)["status"].tolist() == ["done", "done", "kept"]


@pytest.mark.parametrize("moment", ("computing", "waiting"))
def test_interrupted_while_one_is_written(tmp_path, monkeypatch, moment):
    net, stopped = levels_of(tmp_path, 4), threading.Event()
    def then(level):
        if (level, moment) == (2, "computing"):
            stopped.set()
            raise KeyboardInterrupt
    def before(level):
        if level == 1 and not stopped.is_set():
            net.computed[2].wait(SOON)
            if moment == "computing": stopped.wait(SOON)
            else:   # the second is computed, and has to wait for this one
                time.sleep(MEANWHILE)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(MEANWHILE)
    net.then = then
    writing(monkeypatch, before)
    with pytest.raises(KeyboardInterrupt): run(tmp_path/"in", tmp_path/"out", model=net)
    done = tree(tmp_path/"out")
    assert done == (["1_x4.png"] if moment == "computing" else ["1_x4.png", "2_x4.png"]), "what was computed is written"
    assert not list((tmp_path/"out").rglob("*.tmp")) and not [t for t in threading.enumerate() if t.name.startswith("ThreadPool")]
    net.then = lambda level: None
    stopped.set()
    assert run(tmp_path/"in", tmp_path/"out", model=net)["status"].tolist() == ["kept"]*len(done) + ["done"]*(4 - len(done))


def test_the_bar_ends_when_all_is_written(tmp_path, monkeypatch):
    ended = []

    class Bar:
        n = 0
        def update(self, n): pass
        def set_postfix_str(self, text): pass

    @contextmanager
    def progress(**about):
        yield Bar()
        ended.append(len(list((tmp_path/"out").glob("*.png"))))

    monkeypatch.setattr(room, "progress", progress)
    net = levels_of(tmp_path, 2)
    writing(monkeypatch, lambda level: time.sleep(MEANWHILE))
    run(tmp_path/"in", tmp_path/"out", model=net, show_progress=True)
    assert ended == [2]


def test_a_claim_is_held_until_the_file_is_written(tmp_path, monkeypatch):
    net, events = levels_of(tmp_path, 2), []
    release = room.Claims.release
    monkeypatch.setattr(room.Claims, "release", lambda self, output: (events.append(f"released {output.name}"), release(self, output)))
    writing(monkeypatch, lambda level: level == 1 and net.computed[2].wait(SOON), lambda level: events.append(f"written {level}_x4.png"))
    run(tmp_path/"in", tmp_path/"out", model=net)
    assert events == [f"{what} {n}_x4.png" for n in (1, 2) for what in ("written", "released")]
