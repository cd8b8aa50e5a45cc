"""Pictures larger than memory: the same pixels as the ordinary way, memory, kills. The rows are those of `users.md`, table 1.
Sizes here are small, and tiles smaller; the large run is `benchmarks/gigapixel.py`."""
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image
from torch.nn import functional as F

from paintsr_nb.nets.generators import Generator, make_generator
from paintsr_nb.nets.modes import PRECISE
from paintsr_nb.nets.weights import save_model
from paintsr_nb.picture import PictureError, PictureRest, read_picture, write_picture
from paintsr_nb.profiles import coded_profile
from paintsr_nb.resize import enlarge
from paintsr_nb.upscaling import folder, gigapixel
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.folder import upscale_files
from paintsr_nb.upscaling.gigapixel import fill_unseen, is_large, upscale_large, work_folder

pytestmark = pytest.mark.usefixtures("one_thread")


class Smooth(Generator):
    def __init__(self): super().__init__(scale=4, context=3)
    def forward(self, low): return F.interpolate(low, scale_factor=4.0, mode="bicubic")


def picture(height, width, dtype=np.uint8, seed=0):
    "Brush strokes: blocks of colour with a little noise."
    rng = np.random.default_rng(seed)
    blocks = rng.integers(256, size=(-(-height//6), -(-width//9), 3)).repeat(6, 0).repeat(9, 1)[:height, :width]
    levels = (blocks + rng.integers(-9, 10, size=blocks.shape)).clip(0, 255).astype(np.uint8)
    return levels if dtype == np.uint8 else levels.astype(np.uint16)*257 + rng.integers(256, size=levels.shape, dtype=np.uint16)


def opacity(height, width, dtype):
    y, x = np.mgrid[:height, :width]
    top = np.iinfo(dtype).max
    return np.where(np.hypot(x - width/2, y - height/2) < 0.4*min(height, width), top, 0).astype(dtype)


def whole(path, up):
    "The ordinary way, in arrays."
    pixels, rest = read_picture(path)
    alpha = None if rest.alpha is None else enlarge(rest.alpha, up.scale)
    return up(fill_unseen(pixels, rest.alpha)), rest.enlarged(up.scale, alpha)


@pytest.mark.parametrize("suffix", (".png", ".tif"))
@pytest.mark.parametrize("dtype, alpha, grey", [*itertools.product((np.uint8, np.uint16), (False, True), (False, True))])
def test_row_17_pixels_notes_depth_and_grey_are_those_of_the_ordinary_way(tmp_path, suffix, dtype, alpha, grey):
    "From rows, in tiny tiles, equals whole; what a file holds beside its colours goes along."
    pixels = picture(75, 61, dtype)
    if grey: pixels = pixels[..., :1].repeat(3, 2)
    icc = None if grey else coded_profile(12, 13)
    rest = PictureRest(opacity(75, 61, dtype) if alpha else None, grey, icc, dpi=(240.0, 240.0), xmp=b'<x:xmpmeta dc:rights="CC0"/>')
    write_picture(tmp_path/f"a{suffix}", pixels, rest)
    up = Upscaler(Smooth(), device="cpu", tile=16, precise=True)
    done = upscale_large(tmp_path/f"a{suffix}", tmp_path/f"b{suffix}", up)
    assert done["tiles"] == 20
    write_picture(tmp_path/f"c{suffix}", *whole(tmp_path/f"a{suffix}", up))
    (ours, found), (ordinary, expected) = read_picture(tmp_path/f"b{suffix}"), read_picture(tmp_path/f"c{suffix}")
    assert ours.dtype == dtype and (found.grey, found.icc, found.dpi, found.xmp) == (expected.grey, expected.icc, expected.dpi, expected.xmp)
    visible = np.ones(ours.shape[:2], bool) if not alpha else expected.alpha > 0
    assert np.array_equal(ours[visible], ordinary[visible])
    assert not alpha or np.array_equal(found.alpha, expected.alpha)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.filterwarnings("ignore:.*its inks have no profile")
@pytest.mark.parametrize("form", ("jpeg", "turned", "webp", "palette", "inks", "bilevel"))
def test_row_17_every_kind_of_file_is_read_in_rows_or_whole(tmp_path, form):
    image, options = Image.fromarray(picture(70, 50)), {}
    path = tmp_path/dict(jpeg="a.jpg", turned="a.jpg", webp="a.webp", palette="a.png", inks="a.tif", bilevel="a.png")[form]
    if form == "turned":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    image.convert(dict(palette="P", inks="CMYK", bilevel="1").get(form, "RGB")).save(path, **options)
    up = Upscaler(Smooth(), device="cpu", tile=16, precise=True)
    upscale_large(path, tmp_path/"b.tif", up)
    expected, rest = whole(path, up)
    found = read_picture(tmp_path/"b.tif")[0]
    assert np.array_equal(found, expected if not rest.grey else ((expected.sum(2, keepdims=True, dtype=int) + 1)//3).repeat(3, 2))


def test_row_19_21_tiled_pyramid_and_deep_zoom(tmp_path):
    "Tiles in a TIFF, smaller copies in it, DeepZoom; a TIFF beyond 2 GB of levels is a BigTIFF."
    write_picture(tmp_path/"a.png", picture(90, 130))
    up = Upscaler(Smooth(), device="cpu", tile=40, precise=True)
    upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up, pyramid=True)
    image = pyvips.Image.new_from_file(str(tmp_path/"b.tif"))
    assert (image.get("tile-width"), image.get("n-subifds")) == (256, 2)
    half = pyvips.Image.new_from_file(str(tmp_path/"b.tif"), subifd=0).numpy()
    sr = read_picture(tmp_path/"b.tif")[0]
    assert half.shape == (180, 260, 3) and np.abs(half - sr.reshape(180, 2, 260, 2, 3).mean((1, 3))).max() <= 1
    for _ in range(2): upscale_large(tmp_path/"a.png", tmp_path/"b.dzi", up, quality=100)   # a second time over the first
    levels = sorted((tmp_path/"b_files").iterdir(), key=lambda folder: int(folder.name))
    assert np.array_equal(read_picture(levels[-1]/"0_0.png")[0], sr[:255, :255])
    assert 'Width="520"' in (tmp_path/"b.dzi").read_text()


def test_bigtiff_is_chosen_by_size(tmp_path, monkeypatch):
    from paintsr_nb import strips
    write_picture(tmp_path/"a.png", picture(20, 20))
    up = Upscaler(Smooth(), device="cpu", precise=True)
    for limit, head in ((strips._CLASSIC, b"II*\0"), (1000, b"II+\0")):
        monkeypatch.setattr(strips, "_CLASSIC", limit)
        upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up)
        assert (tmp_path/"b.tif").read_bytes()[:4] == head
        assert read_picture(tmp_path/"b.tif")[0].shape == (80, 80, 3)


def test_damage_is_found_before_the_first_tile(tmp_path):
    write_picture(tmp_path/"a.png", picture(200, 90))
    data = (tmp_path/"a.png").read_bytes()
    (tmp_path/"half.png").write_bytes(data[:len(data)*3//4])
    heard = []
    with pytest.raises(PictureError, match="half.png is broken"):
        upscale_large(tmp_path/"half.png", tmp_path/"b.tif", Upscaler(Smooth(), precise=True), on_tile=lambda *told: heard.append(told))
    assert not heard and not (tmp_path/"b.tif").exists() and not work_folder(tmp_path/"b.tif").exists()


class Hungry(Smooth):
    "Holds 900 px at most, and counts what it was given."
    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, low):
        size = low.shape[-2]*low.shape[-1]
        if size > 900 and low.shape[-1] != 4: raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        self.given.append(size)
        return super().forward(low)


def test_row_22_out_of_memory_halves_the_tile_keeps_what_is_done_and_is_recorded(tmp_path):
    write_picture(tmp_path/"a.png", picture(70, 70))
    up = Upscaler(Hungry(), device="cpu", tile=50, precise=True)
    with pytest.warns(UserWarning, match="out of memory on cpu with tiles of 35 px: going on with 17 px"):
        done = upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up)
    assert done["told"] == ["out of memory on cpu with tiles of 35 px: going on with 17 px"]
    assert np.array_equal(read_picture(tmp_path/"b.tif")[0], Upscaler(Smooth(), device="cpu", precise=True)(picture(70, 70)))


@pytest.mark.filterwarnings("ignore:out of memory")
def test_row_22_tiles_that_are_done_are_not_done_again():
    "Memory runs out at the third of four tiles: the first two stay."
    class Later(Smooth):
        def __init__(self):
            super().__init__()
            self.given = []
        def forward(self, low):
            if low.shape[-1] != 4:
                self.given.append(tuple(low.shape[-2:]))
                if len(self.given) > 2 and low.shape[-1]*low.shape[-2] > 900: raise torch.OutOfMemoryError("out of memory")
            return super().forward(low)

    pixels, up = picture(64, 64), Upscaler(Later(), device="cpu", tile=32, precise=True)
    assert np.array_equal(up(pixels), Upscaler(Smooth(), device="cpu", precise=True)(pixels))
    assert up.net.given[:3] == [(35, 35)]*3 and len(up.net.given) == 3 + 4 + 4 and max(max(size) for size in up.net.given[3:]) == 22


PACKING = """
import re, sys
from pathlib import Path
from paintsr_nb.notes import PictureRest
from paintsr_nb.strips import LevelsFile, write_levels
def peak(): return 1024*int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
folder, before = Path(sys.argv[1]), peak()
with LevelsFile(folder/"levels.tif", (14000, 14000, 3), "uint8") as levels: write_levels(folder/"a.tif", levels, PictureRest(), True)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_packing_does_not_hold_the_picture(tmp_path):
    "Levels of 588 MB (of zeros: they take no room on the disk) become a TIFF with its pyramid in much less."
    done = subprocess.run([sys.executable, "-c", PACKING, tmp_path], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) < 350_000_000


SCRIPT = """
import os, re, sys, time
import torch
torch.set_num_threads(1)
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling import gigapixel
source, target, model, tile, memory, slow = sys.argv[1:]
gigapixel._SECONDS = 0
up = Upscaler(model, "cpu", tile=int(tile) or None, precise=True, max_memory=int(memory) or None)
def on_tile(done, total):
    print(done, total, flush=True)
    time.sleep(float(slow))
done = gigapixel.upscale_large(source, target, up, on_tile=on_tile)
print("peak", 1024*int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]), "resumed", done["resumed"], "tiles", done["tiles"])
"""


def started(*arguments, slow=0):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments), str(slow)], stdout=subprocess.PIPE, text=True,
                            env=os.environ | dict(OMP_NUM_THREADS="1"))


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")/"net.safetensors"
    torch.manual_seed(0)
    save_model(path, make_generator("compact", num_filters=8, num_blocks=1))
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_a_killed_run_goes_on_where_it_was(tmp_path, small_model):
    "kill -9 in mid-picture; the next run takes up what was done, and the pixels are those of an unbroken run."
    write_picture(tmp_path/"a.png", picture(60, 80))
    run = started(tmp_path/"a.png", tmp_path/"b.tif", small_model, 16, 0, slow=0.05)
    seen = [run.stdout.readline() for _ in range(7)]
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert seen[-1].split() == ["7", "20"] and not (tmp_path/"b.tif").exists()
    assert 7 <= json.loads((work_folder(tmp_path/"b.tif")/"notes.json").read_text())["done"] <= 9
    again = started(tmp_path/"a.png", tmp_path/"b.tif", small_model, 0, 0)   # no tile is named: those of before are kept
    told = again.communicate()[0].split()
    assert again.returncode == 0 and int(told[told.index("resumed") + 1]) >= 7 and told[-1] == "20"
    expected = Upscaler(small_model, "cpu", tile=16, precise=True)(picture(60, 80))
    assert np.array_equal(read_picture(tmp_path/"b.tif")[0], expected)
    assert not work_folder(tmp_path/"b.tif").exists()


def test_work_on_another_picture_net_or_mode_is_not_taken_up(tmp_path, small_model, monkeypatch):
    monkeypatch.setattr(gigapixel, "_SECONDS", 0)
    write_picture(tmp_path/"a.png", picture(40, 40))
    class Stop(Exception): pass

    def stop(done, total):
        if done == 3: raise Stop
    up = Upscaler(small_model, "cpu", tile=16, precise=True)
    def begun():
        with pytest.raises(Stop): upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up, on_tile=stop)
    begun()
    write_picture(tmp_path/"a.png", picture(40, 40, seed=1))
    assert upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up)["resumed"] == 0
    begun()
    assert upscale_large(tmp_path/"a.png", tmp_path/"b.tif", Upscaler(Smooth(), "cpu", tile=16, precise=True))["resumed"] == 0
    begun()
    (work_folder(tmp_path/"b.tif")/"notes.json").write_text('{"about"')
    assert upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up)["resumed"] == 0
    begun()
    assert upscale_large(tmp_path/"a.png", tmp_path/"b.tif", up)["resumed"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_row_17_18_the_budget_is_obeyed(tmp_path):
    "A tile of 800 px that takes more than 950 MB goes through in smaller ones where these are allowed; 1 byte is refused with what is needed."
    write_picture(tmp_path/"a.png", np.tile(picture(160, 160), (5, 5, 1)))
    torch.manual_seed(0)
    save_model(tmp_path/"net.safetensors", make_generator("compact", num_filters=64, num_blocks=1))
    runs = [started(tmp_path/"a.png", tmp_path/f"{memory}.tif", tmp_path/"net.safetensors", 1000, memory) for memory in (0, 950_000_000)]
    (free, _), (bound, tiles) = [(int(told[told.index("peak") + 1]), int(told[-1])) for told in (run.communicate()[0].split() for run in runs)]
    assert bound <= 950_000_000 < free and tiles > 1
    off = np.abs(read_picture(tmp_path/"0.tif")[0].astype(int) - read_picture(tmp_path/"950000000.tif")[0])
    assert off.max() <= 1
    with pytest.raises(MemoryError, match="max_memory=1 is too little for 800x800 px"):
        upscale_large(tmp_path/"a.png", tmp_path/"e.tif", Upscaler(Smooth(), "cpu", max_memory=1, precise=True))


def test_what_is_large_is_told_from_the_header(tmp_path):
    write_picture(tmp_path/"a.png", picture(100, 100))
    up = Upscaler(Smooth(), "cpu", precise=True)
    assert not is_large(tmp_path/"a.png", "b.png", up)
    up.max_memory = 10**6
    assert up.allowed == 10**6 and is_large(tmp_path/"a.png", "b.png", up) and not is_large(tmp_path/"a.png", "b.webp", up)


def test_row_17_a_folder_takes_what_is_large_through_tile_by_tile(tmp_path, monkeypatch):
    "Nobody has to know which way a picture needs; what cannot be done by tiles is said, and the others go on."
    for seed, name in enumerate(("a", "b")): write_picture(tmp_path/"in"/f"{name}.png", picture(40, 30, seed=seed))
    ways, given = [], dict(overwrite=True, device="cpu", tile=16, precise=True, show_progress=False)
    def ask(**more): return upscale_files(tmp_path/"in", tmp_path/"out", Smooth(), **given, **more)
    monkeypatch.setattr(folder, "upscale_large", lambda path, *rest, **more: ways.append(path.name) or upscale_large(path, *rest, **more))
    assert list(ask().status) == ["done", "done"] and not ways
    ordinary = [read_picture(tmp_path/"out"/f"{name}_x4.png")[0] for name in ("a", "b")]
    monkeypatch.setattr(gigapixel, "_COPIES", 10**9)
    assert list(ask().status) == ["done", "done"] and sorted(ways) == ["a.png", "b.png"]
    for name, pixels in zip(("a", "b"), ordinary): assert np.array_equal(read_picture(tmp_path/"out"/f"{name}_x4.png")[0], pixels)
    refused = ask(consistent=True)
    assert list(refused.status) == ["failed", "failed"] and "consistent needs it whole" in refused.reason[0]
    assert "max_memory=1 is too little" in ask(max_memory=1).reason[0]


def test_row_20_the_image_library_takes_our_own_large_output(tmp_path):
    "A PNG whose size Pillow alone would call a bomb is read by us."
    image = pyvips.Image.black(14_000, 13_000)
    image.pngsave(str(tmp_path/"a.png"))
    picture = gigapixel.RowReader(tmp_path/"a.png")
    assert (picture.height, picture.width) == (13_000, 14_000)
