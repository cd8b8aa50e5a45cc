"Folders of pictures: names, broken files, kept results, a run that is killed."
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from paintsr_nb.core import ReportError
from paintsr_nb.picture import PictureRest, read_picture, write_picture
from paintsr_nb.resize import enlarge
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.folder import plan_outputs, upscale_files


pytestmark = pytest.mark.usefixtures("one_thread")


class Repeat(nn.Module):
    "Repeats every pixel; gives NaN for a picture with a pixel of 255, 0, 255."
    scale, context = 4, 0

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


def tree(folder): return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_tree_is_mirrored_whatever_the_names(scans, tmp_path):
    report = run(scans, tmp_path/"out")
    assert list(report) == ["file", "output", "status", "reason", "seconds"]
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


def test_an_existing_result_is_kept_unless_overwritten(tmp_path):
    write_picture(tmp_path/"boat.png", picture())
    mine = tmp_path/"out"/"boat_x4.png"
    write_picture(mine, picture(24, 20, seed=9))
    before = mine.read_bytes(), mine.stat().st_mtime_ns
    report = run(tmp_path/"boat.png", tmp_path/"out", model="a model that nobody has")   # nothing to do: it is not even looked for
    assert report["status"].tolist() == ["kept"] and (mine.read_bytes(), mine.stat().st_mtime_ns) == before
    assert run(tmp_path/"boat.png", tmp_path/"out", overwrite=True)["status"].tolist() == ["done"]
    assert np.array_equal(read_picture(mine)[0], repeat(picture()))


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
        context = 3
        def forward(self, low): return F.interpolate(low, scale_factor=4.0, mode="bicubic")

    for n in range(3): write_picture(tmp_path/"in"/f"{n}.png", picture(20+n, 30, seed=n))
    report = run(tmp_path/"in", tmp_path/"out", model=Soft(), tile=11)
    for row in report.itertuples():
        assert np.array_equal(read_picture(row.output)[0], Upscaler(Soft(), "cpu", 11, precise=True)(read_picture(row.file)[0]))


def test_the_bar_counts_pictures_and_moves_with_every_tile(tmp_path, monkeypatch):
    from tqdm import auto
    shown = []

    class Bar(auto.tqdm):
        def update(self, n=1):
            shown.append(self.n)
            return super().update(n)

    monkeypatch.setattr(auto, "tqdm", Bar)
    for n in range(2): write_picture(tmp_path/"in"/f"{n}.png", picture(10, 20))
    run(tmp_path/"in", tmp_path/"out", tile=10, show_progress=True)
    assert [n for i, n in enumerate(shown) if n not in shown[:i]] == [0.5, 1, 1.5, 2]


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_folder import Repeat, upscale_files

class Slow(Repeat):
    def forward(self, low):
        time.sleep(0.02)
        return super().forward(low)

upscale_files({folder!r}, {out!r}, model=Slow(), device="cpu", precise=True, tile=20)
"""


def test_a_run_that_is_killed_leaves_whole_pictures_and_is_taken_up_again(tmp_path):
    folder, out = tmp_path/"in", tmp_path/"out"
    for n in range(30): write_picture(folder/f"{n:02}.png", picture(40, 40, seed=n))
    code = SLOW.format(tests=str(Path(__file__).parent), folder=str(folder), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=os.environ | dict(OMP_NUM_THREADS="1"))
    try:
        until = time.monotonic() + 60
        while len(list(out.glob("*_x4.png"))) < 3 and process.poll() is None and time.monotonic() < until: time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = sorted(out.glob("*.png"))
    assert 3 <= len(done) < 30
    for path in done: assert np.array_equal(read_picture(path)[0], repeat(picture(40, 40, seed=int(path.name[:2]))))
    report = run(folder, out)
    assert (report["status"] == "kept").sum() == len(done) and (report["status"] == "done").sum() == 30 - len(done)
