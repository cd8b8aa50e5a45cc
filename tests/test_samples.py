"Sample paintings: the packaged files, the lazy loading, and the promises of the renderer that painted them."
import sys
from importlib.resources import files

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from paintsr_nb import painter, samples as room
from paintsr_nb.core import random_at
from paintsr_nb.metrics import psnr
from paintsr_nb.painter import paint, render_samples, sample_photo
from paintsr_nb.picture import picture_size, read_rgb8
from paintsr_nb.resize import enlarge, resize, shrink
from paintsr_nb.samples import SAMPLES, samples

PICTURES = files("paintsr_nb")/"pictures"
QUICK = dict(side=120, brushes=(12, 6, 3))
LEVELS = [[128, 99, 88, 75, 95, 129, 107, 143],
          [137, 83, 107, 56, 50, 84, 133, 130],
          [142, 94, 91, 31, 73, 55, 130, 138],
          [109, 111, 96, 83, 91, 54, 115, 150],
          [103, 111, 119, 98, 73, 55, 91, 147],
          [107, 108, 107, 125, 126, 92, 78, 128],
          [102, 102, 100, 109, 113, 101, 78, 101],
          [120, 105, 107, 111, 118, 104, 86, 83]]


def coarse(picture, side=12): return resize(picture.astype(np.float32), side, side, "box")


def test_the_packaged_files():
    found = sorted(path for path in PICTURES.iterdir() if path.name.endswith(".jpg"))
    assert [path.name for path in found] == sorted(f"{name}.jpg" for name in SAMPLES)
    assert {picture_size(path) for path in found} == {(2400, 2400)}
    sizes = [path.stat().st_size for path in found]
    assert max(sizes) <= 1.4e6 and sum(sizes) < 6e6


def test_every_picture_has_its_source_and_terms():
    readme = (PICTURES/"README.md").read_text(encoding="utf-8")
    for name in SAMPLES:
        row, = [line for line in readme.splitlines() if line.startswith(f"| `{name}.jpg`")]
        assert "CC" in row or "public domain" in row


def test_only_what_is_asked_for_is_decoded(monkeypatch):
    opened = []
    def small(path):
        opened.append(path.name)
        return np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(room, "read_rgb8", small)
    assert [sample.id for sample in samples(["rocket", "cat"])] == ["rocket", "cat"]
    assert [sample.id for sample in samples("cat")] == ["cat"]
    assert opened == ["rocket.jpg", "cat.jpg", "cat.jpg"]
    assert len(samples()) == len(SAMPLES)
    assert samples([]) == []


def test_low_is_high_shrunk_and_leaves_something_to_win():
    sample, = samples(["dahlia"])
    np.testing.assert_array_equal(sample.low, shrink(sample.high))
    part = sample.high[1000:1400, 1000:1400]
    assert 20 < psnr(enlarge(shrink(part)), part) < 34


@pytest.mark.parametrize("names", [["mona_lisa"], ["cat", "mona_lisa"], "mona_lisa"])
def test_unknown_names_list_the_known(names):
    with pytest.raises(ValueError, match="no sample painting mona_lisa: choose from dahlia, pagoda, espresso, cat, rocket"): samples(names)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_painting_shows_its_photograph(name):
    seen, meant = coarse(read_rgb8(PICTURES/f"{name}.jpg")), coarse(painter._scene(sample_photo(name), 240))
    assert np.abs(seen - meant).mean() < 6


@pytest.fixture(scope="module")
def photo(): return sample_photo("cat")[80:200, 50:170]


@pytest.fixture(scope="module")
def painted(photo): return paint(photo, **QUICK)


def test_painting_is_a_function_of_photograph_and_seed(photo, painted):
    np.testing.assert_array_equal(painted, paint(photo, **QUICK))
    assert (painted != paint(photo, seed=1, **QUICK)).mean() > 0.5


def test_small_brushes_come_closer_to_the_scene():
    photo = sample_photo("cat")[80:200, 120:240]
    scene = painter._scene(photo, 160)
    off = [np.abs(paint(photo, side=160, brushes=(24, 10, 4)[:n]) - scene).mean() for n in (1, 2, 3)]
    assert off[0] > 1.2*off[1] > 1.44*off[2]


def test_the_renderer_still_paints_as_it_did_for_the_package(painted):
    "Coarse levels of a small painting. Where this changes on purpose, write the packaged pictures anew with `render_samples`."
    seen = coarse(painted.mean(2), 8)
    assert np.abs(seen - LEVELS).mean() < 0.8


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 8), (8, 8, 4)])
def test_a_photograph_must_be_square_and_coloured(shape):
    with pytest.raises(ValueError, match="cut it to a square first"): paint(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("side", [37, 64])
def test_any_side_can_be_painted(side):
    assert paint(np.full((5, 5, 3), 90, np.uint8), side=side, brushes=(20, 3)).shape == (side, side, 3)


def test_a_bent_stroke_has_no_pinholes():
    turn = np.linspace(0, 0.9, 9)
    points = np.stack([30 + 100*np.sin(turn), 20 + 100*(1 - np.cos(turn))], -1).astype(np.float32)[:, None]
    step = np.linalg.norm(points[1] - points[0])
    stroke = painter._Strokes(points, np.array([8]), np.zeros((1, 3), np.float32), 2*step, random_at(0))
    place, _, u, v, _ = painter._cover(stroke, 128, np.zeros((1024, 512), np.float32))
    mask = np.zeros(128*128, bool)
    mask[place] = True
    mask = mask.reshape(128, 128)
    assert mask.sum() > step*8*step*2
    np.testing.assert_array_equal(mask, binary_fill_holes(mask))
    assert np.abs(v).max() < 2.6*step and u.max() < 8.5*step


def test_the_later_stroke_lies_on_top():
    line = np.stack([np.full(9, 32.0), np.arange(9)*5.0 + 10], -1).astype(np.float32)
    points = np.stack([line, line + np.float32([3, 0])], 1)
    strokes = painter._Strokes(points, np.array([8, 8]), np.zeros((2, 3), np.float32), 10, random_at(0))
    place, owner, *_ = painter._cover(strokes, 64, np.zeros((1024, 512), np.float32))
    top = np.full(64*64, -1)
    top[place] = owner
    assert (top.reshape(64, 64)[33:38, 20:30] == 1).all() and (top.reshape(64, 64)[24, 20:24] == 0).all()


def test_without_the_photographs_there_is_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"install paintsr_nb\[dev\]"): sample_photo("cat")


@pytest.mark.slow
def test_a_packaged_painting_can_be_painted_again(tmp_path):
    path, = render_samples(tmp_path, ["cat"])
    again, packaged = (read_rgb8(picture).astype(int) for picture in (path, PICTURES/"cat.jpg"))
    assert np.abs(again - packaged).mean() < 3
