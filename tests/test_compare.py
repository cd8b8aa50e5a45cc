"""What the page about `compare` leaves out: every kind of input, messages of a browser, markup that wants to break out, sizes."""
import base64, io, json, re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from paintsr_nb.core import random_at
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.viewing import compare as module
from paintsr_nb.viewing.compare import compare
from paintsr_nb.viewing.view import _KEYS, _ZOOMS

STATIC = Path(module.__file__).parent/"static"


@pytest.fixture(scope="module")
def scene():
    high = enlarge(random_at(2).integers(0, 256, (24, 30, 3)).astype(np.uint8))
    return shrink(high), enlarge(shrink(high)), high


@pytest.fixture
def widget(scene): return compare(*scene)


def page_state(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="state">(.*?)</script>', text, re.DOTALL)[1])


def pixels_of(data): return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# ---------------------------------------------------------------- input

def test_paths_pillow_images_and_arrays_are_one(scene, tmp_path):
    low, sr, high = scene
    Image.fromarray(low).save(tmp_path/"low.png")
    widget = compare(tmp_path/"low.png", Image.fromarray(sr), str_path(high, tmp_path/"high.png"))
    for shown, expected in zip(widget.sources.values(), scene): np.testing.assert_array_equal(shown, expected)


def test_tensors_as_they_come_from_a_model(scene):
    torch = pytest.importorskip("torch")
    low, sr, high = scene
    batch = torch.tensor(np.stack([sr, high]).transpose(0, 3, 1, 2)/255, requires_grad=True)
    widget = compare(low, batch[:1] + 0.0, batch[1].to(torch.float32))
    for shown, expected in zip(widget.sources.values(), scene): np.testing.assert_array_equal(shown, expected)
    overshot = torch.tensor([-0.1, 0.5, 1.2]).reshape(3, 1, 1).expand(3, 4, 4)
    assert compare(None, dict(a=overshot, b=overshot.half())).sources["a"][0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("change, says", [(lambda torch, t: t*255, "0 to 1"), (lambda torch, t: t*2 - 1.5, "0 to 1"), (lambda torch, t: torch.stack([t, t]), r"batch\[0\]"),
                                          (lambda torch, t: t[0], "expected floats"), (lambda torch, t: (t*255).to(torch.uint8), "expected floats"),
                                          (lambda torch, t: t.permute(1, 2, 0), "expected floats"), (lambda torch, t: t*float("nan"), "NaN")])
def test_other_tensors_are_refused_by_what_is_wrong(scene, change, says):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(scene[1].transpose(2, 0, 1)/255)
    with pytest.raises((TypeError, ValueError), match=says): compare(scene[0], change(torch, tensor))


def str_path(pixels, path):
    Image.fromarray(pixels).save(path)
    return str(path)


def test_orientation_comes_before_sizes(scene, tmp_path):
    low, sr, high = scene
    exif = Image.Exif()
    exif[0x0112] = 6   # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(low)).save(tmp_path/"low.png", exif=exif)
    for given in (tmp_path/"low.png", Image.open(tmp_path/"low.png")):
        np.testing.assert_array_equal(compare(given, sr).sources["LR"], low)


def test_grey_and_transparent_pillow_images_become_rgb(scene):
    low, sr, _ = scene
    widget = compare(Image.fromarray(low).convert("L"), Image.fromarray(sr).convert("RGBA"))
    assert [pixels.shape[2] for pixels in widget.sources.values()] == [3, 3]


@pytest.mark.parametrize("wrong", [np.zeros((60, 60), np.uint8), np.zeros((60, 60, 4), np.uint8), np.zeros((60, 60, 3), np.uint16),
                                   np.zeros((60, 60, 3)), np.zeros((0, 60, 3), np.uint8), 7])
def test_other_arrays_are_refused_by_name(scene, wrong):
    with pytest.raises(TypeError, match="SR is .* expected a path"): compare(scene[0], wrong)


def test_a_missing_file_is_named(scene):
    with pytest.raises(FileNotFoundError, match="nowhere.png"): compare(scene[0], "nowhere.png")


@pytest.mark.parametrize("cut", [(slice(1, None), slice(None)), (slice(None), slice(2, None)), (slice(None, 12), slice(None))])
def test_low_must_divide_the_grid_equally(scene, cut):
    low, sr, high = scene
    with pytest.raises(ValueError, match="SR is 120x96 and LR .* whole number"): compare(low[cut], sr, high)


@pytest.mark.parametrize("ratio", [1, 2, 3, 4, 8])
def test_any_whole_ratio(scene, ratio):
    high = scene[2]
    assert compare(high[::ratio, ::ratio], high).pictures[0]["ratio"] == ratio


def test_several_results_and_no_low(scene):
    low, sr, high = scene
    several = compare(low, dict(bicubic=sr, other=sr), high)
    assert [picture["name"] for picture in several.pictures] == ["LR", "bicubic", "other", "HR"]
    assert list(several.scores()["picture"]) == ["bicubic", "other"]
    pair = compare(None, sr, high)
    assert (pair.view["left"], pair.view["right"]) == ("SR", "HR")


def test_names(scene):
    widget = compare(*scene, names=("600 px", "ours", "truth"))
    assert (list(widget.sources), widget.truth) == (["600 px", "ours", "truth"], "truth")


# ---------------------------------------------------------------- what travels

def test_pixels_arrive_exactly(widget):
    for picture, pixels in zip(widget.pictures, widget.sources.values()):
        assert picture["exact"]
        np.testing.assert_array_equal(pixels_of(picture["data"]), pixels)


def test_sides_beyond_webp_are_sent_as_png():
    long = np.zeros((2, 16384, 3), np.uint8)
    long[0, 5] = 9, 8, 7
    picture = compare(long, long).pictures[0]
    assert picture["type"] == "image/png"
    np.testing.assert_array_equal(pixels_of(picture["data"]), long)


def test_too_large_a_page_is_refused_with_a_way_on(scene, tmp_path):
    with pytest.raises(ValueError, match=r"compare a part of each.*quality=90"): compare(*scene).save_html(tmp_path/"index.html", max_mb=0.05)
    assert list(tmp_path.iterdir()) == []
    assert not any(picture["exact"] for picture in compare(*scene, quality=30).pictures)


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_has_bounds(scene, quality):
    with pytest.raises(ValueError, match="1..100"): compare(*scene, quality=quality)


@pytest.fixture(scope="module")
def large():
    high = random_at(3).integers(0, 256, (1400, 1300, 3)).astype(np.uint8)
    return compare(shrink(high), enlarge(shrink(high)), high)


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_saved_output_is_bounded_and_names_no_widget(widget, large, size):
    data, _ = (widget if size == "small" else large)._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/jpeg", "text/html"}
    assert len(data["image/jpeg"]) < 300_000 and len(data["text/html"]) < 1_000_000
    assert Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).format == "JPEG"
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)\w|url\(|@import|https?://""", data["text/html"])
    assert data["text/html"].count("</script>") == 1


def test_what_a_front_end_may_keep_of_the_widget_is_bounded_too(large):
    state = large.get_state()
    assert sum(len(picture["data"]) for picture in state["pictures"]) <= 400_000


def test_displaying_draws_nothing_in_matplotlib(large, monkeypatch):
    monkeypatch.setattr(module, "strip", None)
    assert large._repr_mimebundle_()


def test_colab_and_vs_code_are_told_of_the_widget(widget, monkeypatch):
    monkeypatch.setattr(module, "_names_widgets", lambda: True)
    data, _ = widget._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= set(data)


def test_a_terminal_shows_what_is_compared(widget):
    widget.view = dict(zoom=2)
    assert repr(widget) == "Compare(LR 30x24, SR 120x96, HR 120x96; wipe of LR and SR, 200 %)"


def test_tiles_together_are_the_picture(large):
    sent = []
    large.send = lambda content, buffers: sent.append((content, buffers[0]))
    for number in range(9): large._asked(large, dict(tile=[2, 0, number]), [])
    assert [content["tile"] for content, _ in sent] == [[2, 0, number] for number in range(9)]
    tiles = [pixels_of(data) for _, data in sent]
    rows = [np.concatenate(tiles[at:at+3], 1) for at in (0, 3, 6)]
    np.testing.assert_array_equal(np.concatenate(rows), large.sources["HR"])


def test_the_page_has_every_tile_that_a_viewer_can_ask_for(large, tmp_path):
    text = large.save_html(tmp_path/"index.html").read_text(encoding="utf-8")
    counts = {name: len(re.findall(rf'id="tile-{place}-0-', text)) for place, name in enumerate(large.sources)}
    assert counts == dict(LR=1, SR=9, HR=9)


# ---------------------------------------------------------------- the view

def from_browser(widget, view):
    "Deliver `view` as the browser does; the updates that go back."
    back = []
    send, widget._send = widget._send, lambda message, buffers=None: back.append(message)
    widget._handle_msg(dict(content=dict(data=dict(method="update", state=dict(view=view), buffer_paths=[])), buffers=[]))
    widget._send = send
    return [message for message in back if message["method"] == "update"]


def test_a_view_from_the_browser_is_taken_as_it_is_and_not_answered(widget):
    seen = []
    widget.observe(lambda change: seen.append(change["new"]), "view")
    view = {**widget.view, "zoom": 3, "x": 17.25, "y": 4, "split": 0.125}
    assert from_browser(widget, view) == []
    assert widget.view == view
    assert seen == [view]
    assert from_browser(widget, {**view, "zoom": "fit", "x": 60, "y": 48}) == []   # integers where Python has floats


def test_a_view_set_in_python_is_sent_once_and_whole(widget):
    sent = []
    widget._send = lambda message, buffers=None: sent.append(message)
    widget.view = dict(zoom=4, x=20, y=30)
    assert [message["state"]["view"] for message in sent] == [widget.view]
    assert set(widget.view) == set(_KEYS)


def test_keys_left_out_keep_their_value_even_when_changes_are_held(widget):
    widget.view = dict(split=0.2, right="HR")
    with widget.hold_trait_notifications(): widget.view = dict(zoom=2, x=10)
    assert (widget.view["split"], widget.view["right"], widget.view["zoom"], widget.view["x"]) == (0.2, "HR", 2, 10)


def test_numbers_of_numpy_are_numbers(widget):
    widget.view = dict(zoom=np.float32(2), x=np.int64(10), y=np.float64(20.5))
    assert json.loads(json.dumps(widget.view)) == widget.view
    assert (widget.view["x"], widget.view["y"], widget.view["zoom"]) == (10, 20.5, 2)


def test_fit_is_always_centred(widget):
    widget.view = dict(zoom=4, x=1, y=2)
    widget.view = dict(zoom="fit")
    assert (widget.view["x"], widget.view["y"]) == (60, 48)


@pytest.mark.parametrize("wrong", [dict(mode="loupe"), dict(left="XX"), dict(zoom=True), dict(zoom=1, split=True), dict(overlay="edges"), dict(zoom=0), dict(zoom="1:1"), dict(zoom=65), dict(zoom=1, x=-1), dict(zoom=1, y=97),
                                   dict(zoom=1, x=None), dict(zoom=float("nan")), dict(zoom=1, split=1.1), dict(zoom="fit", split=-0.1), dict(scale=2), dict(loupe=0.5),
                                   dict(loupe=True), dict(brightness=3), dict(low="soft"), dict(offsets=dict(XX=(1, 0))), dict(offsets=dict(SR=(0.5, 0))),
                                   dict(offsets=[1, 2]), dict(boxes=[(1, 2, 3, 4)]), dict(boxes=[(1, 2, 0, 4, "")]), dict(boxes=[(1, 2, 3, 4, 5)]), dict(blind=1)])
def test_a_wrong_view_changes_nothing(widget, wrong):
    before = widget.view
    with pytest.raises(ValueError, match="expected|choose from"): widget.view = wrong
    assert widget.view == before


def test_the_bounds_of_zoom_are_those_of_the_browser():
    source = (STATIC/"geometry.js").read_text(encoding="utf-8")
    assert tuple(float(re.search(rf"const {name} = ([\d.]+)", source)[1]) for name in ("LEAST", "MOST")) == _ZOOMS


def test_the_files_of_the_viewer_make_one_module():
    "Each is joined once, after all that it imports, and no two give a name of their top level to different things."
    assert {f"{name}.js" for name in module._modules} | {"explore.js"} == {path.name for path in STATIC.glob("*.js")}   # the explorer's own
    owners = {}
    for at, name in enumerate(module._modules):
        source = (STATIC/f"{name}.js").read_text(encoding="utf-8")
        imported = re.findall(r'^import \{ (.+) \} from "\./(\w+)\.js"$', source, re.MULTILINE)
        assert len(imported) == len(re.findall(r"^import\b", source, re.MULTILINE)), f"{name}: one line per import"
        for names, other in imported:
            assert other in module._modules[:at], f"{name} imports {other}, which is joined later"
            assert all(re.search(rf"^export (?:async )?(?:const|function|class) {each}\b", (STATIC/f"{other}.js").read_text(encoding="utf-8"), re.MULTILINE)
                       for each in names.split(", ")), (name, names)
        for each in re.findall(r"^(?:export )?(?:async )?(?:const|let|function|class) (\w+)", source, re.MULTILINE): owners.setdefault(each, []).append(name)
    assert not {each: names for each, names in owners.items() if len(names) > 1}


@pytest.mark.parametrize("edit", [lambda view: view.__setitem__("zoom", 5), lambda view: view.update(zoom=5), lambda view: view.pop("zoom"),
                                  lambda view: view.__ior__(dict(zoom=5))])
def test_a_view_is_not_edited_behind_the_widgets_back(widget, edit):
    with pytest.raises(TypeError, match="widget.view = dict"): edit(widget.view)
    assert widget.view["zoom"] == "fit"
    widget.view = widget.view | dict(zoom=5)   # a copy may be
    assert widget.view["zoom"] == 5


@pytest.mark.parametrize("mode", ["wipe", "side", "grid", "strip", "flip"])
@pytest.mark.parametrize("zoom", ["fit", 0.01, 1, 7.3, 64])
@pytest.mark.parametrize("x, y", [(0, 0), (60, 48), (120, 96), (33.3, 95.9)])
def test_the_region_lies_in_the_picture_and_fills_the_stage(widget, mode, zoom, x, y):
    widget.frame, widget.view = [300, 200], dict(mode=mode, zoom=zoom, x=x, y=y)
    top, left, height, width = widget.region
    assert 0 <= top and 0 <= left and height > 0 and width > 0 and top + height <= 96 and left + width <= 120
    if zoom in ("fit", 0.01): assert (top, left, height, width) == (0, 0, 96, 120)
    else: assert width <= np.ceil(dict(side=149, strip=99).get(mode, 300)/zoom) + 1


# ---------------------------------------------------------------- figure, scores, page

def test_the_figure_is_cut_where_the_wipe_stands(widget):
    low, sr, high = widget.sources.values()
    widget.frame, widget.view = [80, 40], dict(zoom=2, x=60, y=48, split=0.25, right="HR")
    drawn = np.asarray(widget.figure().axes[0].images[0].get_array())
    top, left, height, width = widget.region
    assert (top, left, height, width) == (38, 40, 20, 40)
    expected = np.repeat(np.repeat(low, 4, 0), 4, 1)[38:58, 40:80].copy()
    expected[:, 10:] = high[38:58, 50:80]
    np.testing.assert_array_equal(drawn, expected)


def test_a_figure_of_any_view_can_be_drawn(widget):
    for view in (dict(mode="side", right="LR"), dict(mode="grid"), dict(mode="flip"), dict(overlay="ssim"), dict(overlay="difference"), dict(mode="wipe", zoom=64, x=0, y=0), dict(split=0), dict(split=1), dict(zoom=0.01)):
        widget.view = view
        assert widget.figure().axes and widget._jpeg()


def test_scores_of_less_than_a_window(widget):
    widget.frame, widget.view = [640, 640], dict(zoom=64, x=60, y=48)
    scores = widget.scores()
    assert np.isfinite(scores["psnr"]).all() and scores["ssim"].isna().all()


def test_the_page_holds_the_view_and_the_exact_pixels(widget, tmp_path):
    widget.view = dict(mode="side", zoom=3, x=10, y=20)
    state = page_state(widget.save_html(tmp_path/"new"/"index.html"))
    assert state["view"] == widget.view
    for picture, pixels in zip(state["pictures"], widget.sources.values()):
        np.testing.assert_array_equal(pixels_of(base64.b64decode(picture["data"])), pixels)


def test_the_page_asks_nobody_for_anything(widget, tmp_path):
    text = widget.save_html(tmp_path/"index.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)\w|url\(|@import|https?://""", text)


def test_names_and_titles_cannot_break_out_of_the_page(scene, tmp_path):
    evil = "<!--<script></script><script>alert(1)</script>"
    widget = compare(*scene, names=(evil, "SR", "HR"))
    path = widget.save_html(tmp_path/"index.html", title=evil, note=evil, scores=pd.DataFrame({evil: [evil]}))
    assert evil not in path.read_text(encoding="utf-8")
    assert page_state(path)["pictures"][0]["name"] == evil


def test_the_table_of_scores(widget, tmp_path):
    scores = pd.DataFrame(dict(picture=["bicubic & co", "ours"], side=[2400, 600], psnr=[25.456, np.nan], ssim=[0.43961, 1]))
    text = widget.save_html(tmp_path/"index.html", scores=scores, note="Higher is better.").read_text(encoding="utf-8")
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", text)]
    assert rows == [["bicubic &amp; co", "2400", "25.46", "0.4396"], ["ours", "600", "–", "1.0000"]]
    assert "<p>Higher is better.</p>" in text


def test_a_page_without_table_has_no_margin_for_one(widget, tmp_path):
    assert "<aside>" not in widget.save_html(tmp_path/"index.html").read_text(encoding="utf-8")


def test_the_demo_calls_the_pictures_alike_in_table_and_viewer(tmp_path, monkeypatch):
    from types import SimpleNamespace
    from paintsr_nb.commands import paintsr_demo
    high = enlarge(random_at(2).integers(0, 256, (200, 340, 3)).astype(np.uint8))
    painting = SimpleNamespace(low=shrink(high), high=high, title="Brushwork", licence="by hand")
    monkeypatch.setattr("paintsr_nb.samples.samples", lambda name: [painting])
    class Fitting:
        name = "net"
        def __call__(self, low, show_progress): return enlarge(low)
    auto = SimpleNamespace(fitting=lambda low: (Fitting(), "model net (a JPEG)"))
    monkeypatch.setattr("paintsr_nb.upscaling.auto.make_upscaler", lambda model: auto)
    paintsr_demo(out=tmp_path)
    for page in ("index", "jpeg"):
        text = (tmp_path/f"{page}.html").read_text(encoding="utf-8")
        names = [picture["name"] for picture in page_state(tmp_path/f"{page}.html")["pictures"]]
        assert names == ["LR", *re.findall(r"<tr><td>(.*?)</td>", text), "HR"] and "model net" in names and "Model net (a JPEG)." in text
    assert not np.array_equal(read_rgb8(tmp_path/"LR.png"), read_rgb8(tmp_path/"jpeg_LR.png"))
