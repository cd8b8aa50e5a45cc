"""What people ask of a viewer, each wish with the test that shows it, on one page in Chromium.

Not a notebook because it needs a browser; what a view means is shown in nbs/viewing/60_compare.ipynb.
"""
import io, re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from paintsr_nb.resize import enlarge
from paintsr_nb.viewing.compare import compare
from test_browser import OPEN, PATIENCE, browser, make_pictures   # noqa: F401, because `browser` is a fixture

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent

ASKED = {   # wish → tests that show it, file::name
    "works in Colab, VS Code and JupyterLab alike": ["test_frontends::test_colab_shows_every_widget", "test_frontends::test_the_browser_follows_python",
                                                     "test_frontends::test_every_widget_answers_hand_and_python"],
    "one zoom and pan for all panes, in every mode": ["test_looking::test_one_zoom_and_pan_in_every_mode"],
    "true pixels, sharp squares, exact 100 %": ["test_browser::test_pixels_are_true_from_100_percent_on", "test_browser::test_zooming_stops_at_exactly_100_percent"],
    "survives export": ["test_browser::test_the_html_of_a_notebook_holds_the_working_viewer_offline",
                        "test_frontends::test_a_notebook_opened_again_shows_the_viewer"],
    "flip in place by a key, the view unmoved": ["test_looking::test_flipping_leaves_the_view_where_it_is", "test_browser::test_space_held_shows_the_other_only_as_long"],
    "more than two at once": ["test_browser::test_the_grid_shows_all_pictures_with_their_names", "test_looking::test_the_loupe_shows_all_pictures_of_one_spot",
                              "test_looking::test_the_strip_shows_one_patch_of_all_pictures"],
    "large pictures, and no local port": ["test_browser::test_large_pictures_come_in_tiles_and_their_scores_are_exact_in_the_end"],
    "difference map and numbers beside the pictures": ["test_browser::test_overlays_are_those_of_the_figure", "test_looking::test_one_table_has_all_scores"],
    "different sizes, LR on the HR grid by nearest or bicubic": ["test_browser::test_low_pixels_stay_squares_below_50_percent", "test_looking::test_low_by_bicubic"],
    "an offset per picture that is kept, and a reset": ["test_looking::test_a_picture_is_nudged_and_reset"],
    "linked views do not fight each other": ["test_frontends::test_two_views_share_one_look"],
    "a call from code, with a state to read and set": ["test_frontends::test_python_reads_what_the_hand_did", "test_looking::test_a_view_is_copied_as_a_figure_call"],
    "files on disk, arrays, tensors": ["test_compare::test_paths_pillow_images_and_arrays_are_one", "test_compare::test_tensors_as_they_come_from_a_model"],
    "the slider first": ["test_looking::test_the_slider_comes_first"],
    "notes on regions": ["test_looking::test_boxes_are_drawn_named_and_removed", "test_looking::test_a_box_by_keys_alone"],
    "which is better, without names": ["test_looking::test_a_blind_test_hides_names_and_counts_answers"],
    "to take it elsewhere": ["test_looking::test_the_view_is_saved_as_png", "test_looking::test_a_link_keeps_the_view"],
    "dark passages, the whole screen": ["test_looking::test_brightness_doubles_levels", "test_looking::test_full_screen_and_back"],
}


@pytest.mark.parametrize("wish", ASKED)
def test_every_wish_has_its_test(wish):
    for place in ASKED[wish]:
        file, name = place.split("::")
        assert re.search(rf"^def {name}\(", (HERE/f"{file}.py").read_text(encoding="utf-8"), re.MULTILINE), place


class Open:
    "The one page of these tests; `look` begins anew."
    def __init__(self, page, path):
        low, sr, high = make_pictures()
        self.page, self.errors = page, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.widget = compare(low, dict(SR=sr, other=sr[::-1].copy()), high)
        self.widget.save_html(path)
        page.goto(path.as_uri())
        page.wait_for_function(OPEN)
        self.start = self.view
        self.frame = page.evaluate("[...document.querySelectorAll('.stage > canvas')].map(c => [c.width, c.height])[0]")
        self.widget.frame = self.frame
        box = page.locator(".stage > canvas").bounding_box()
        self.corner = box["x"], box["y"]

    def model(self, code): return self.page.evaluate(f"(() => {{ const {{ model }} = document.getElementById('compare'); {code} }})()")
    def settle(self): self.page.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    def texts(self, selector): return self.page.locator(selector).all_inner_texts()

    @property
    def view(self): return self.model("return model.get('view')")

    def look(self, **changes):
        self.page.evaluate("([start, part]) => document.getElementById('compare').model.set('view', { ...start, ...part })", [self.start, changes])
        self.page.locator(".stage").focus()
        self.settle()

    def until(self, **expected):
        "Wait for these values of the view, and for its drawing."
        self.page.wait_for_function("""part => { const view = document.getElementById('compare').model.get('view')
            return Object.entries(part).every(([key, value]) => JSON.stringify(view[key]) === JSON.stringify(value)) }""", arg=expected)
        self.settle()

    def press(self, *keys):
        for key in keys: self.page.keyboard.press(key)

    def point(self, x, y):
        for shift in (3, 0): self.page.mouse.move(self.corner[0] + x - shift, self.corner[1] + y)

    def pixels(self, selector=".stage > canvas"):
        png = self.page.evaluate("selector => document.querySelector(selector).toDataURL('image/png')", selector).partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(b64decode(png))))[..., :3]

    def source(self, name, x, y):
        pixels = self.widget.sources[name]
        ratio = self.widget.size[0]//pixels.shape[1]
        return pixels[int(y)//ratio, int(x)//ratio].tolist()


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):   # noqa: F811
    context = browser.new_context(viewport=dict(width=900, height=900), accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield Open(page, tmp_path_factory.mktemp("page")/"index.html")
    context.close()


@pytest.fixture
def shown(opened):
    opened.look()
    yield opened
    assert opened.errors == []


NAMES = ["LR", "SR", "other", "HR"]


def test_the_slider_comes_first(shown):
    assert (shown.start["mode"], shown.start["left"], shown.start["right"]) == ("wipe", "LR", "SR")
    assert shown.page.get_by_role("slider", name="Wipe between LR and SR").is_visible()


def test_one_zoom_and_pan_in_every_mode(shown):
    for mode, names, columns, rows in (("side", ["SR", "HR"], 2, 1), ("grid", NAMES, 2, 2), ("strip", NAMES, 4, 1)):
        shown.look(mode=mode, left="SR", right="HR", zoom=6, x=200.5, y=100.5)
        drawn, (width, height) = shown.pixels(), shown.frame
        across = (width - 2*(columns - 1))//columns
        down = min(across, int(height*0.55)) if mode == "strip" else (height - 2*(rows - 1))//rows
        for at, name in enumerate(names):
            row, column = divmod(at, columns)
            top = height - down if mode == "strip" else row*(down + 2)
            assert drawn[top + down//2, column*(across + 2) + across//2].tolist() == shown.source(name, 200, 100), (mode, name)


def test_flipping_leaves_the_view_where_it_is(shown):
    shown.look(zoom=6, x=200.5, y=100.5)
    shown.press("f")
    for number, name in enumerate(NAMES, 1):
        shown.press(f"Digit{number}")
        shown.until(mode="flip", left=name, zoom=6, x=200.5, y=100.5)
        assert shown.pixels()[shown.frame[1]//2, shown.frame[0]//2].tolist() == shown.source(name, 200, 100), name


def test_the_loupe_shows_all_pictures_of_one_spot(shown):
    shown.look(zoom=2, x=180, y=120)
    x, y = (side//2 + shift for side, shift in zip(shown.frame, (41, 21)))   # HR 200.5 and 130.5, for a stage of an even side
    shown.point(x, y)
    shown.press("l")
    shown.until(loupe=4)
    assert shown.texts(".loupe span") == NAMES
    place = [(at - np.floor(side/2 - centre*2 + 0.5))/2 for at, side, centre in zip((x, y), shown.frame, (180, 120))]
    drawn = shown.pixels(".loupe canvas")
    for at, name in enumerate(NAMES): assert drawn[68, at*138 + 68].tolist() == shown.source(name, *place), name
    box, spot = shown.page.locator(".loupe").bounding_box(), shown.page.locator(".spot").bounding_box()
    assert box["y"] > spot["y"] + spot["height"] or box["y"] + box["height"] < spot["y"]   # it does not cover what it magnifies
    shown.press("l")
    shown.until(loupe=8)
    shown.press("l")
    shown.until(loupe=0)
    assert not shown.page.locator(".loupe").is_visible()


def test_the_strip_shows_one_patch_of_all_pictures(shown):
    shown.press("t")
    shown.until(mode="strip", zoom=4)   # patches come magnified
    assert shown.texts(".labels span") == NAMES
    width, height = shown.frame
    down = min((width - 6)//4, int(height*0.55))
    whole = height - down - 8
    scale = min(width/360, whole/240)
    shown.point((width - 360*scale)/2 + 100*scale, (whole - 240*scale)/2 + 90*scale)   # the place HR 100, 90 of the whole picture
    shown.page.mouse.down()
    shown.page.mouse.up()
    shown.settle()
    assert (shown.view["x"], shown.view["y"]) == (pytest.approx(100, abs=2), pytest.approx(90, abs=2))


def test_low_by_bicubic(shown):
    shown.look(split=1, zoom=2, x=180, y=120)
    squares = shown.pixels()
    shown.press("u")
    shown.until(low="bicubic")
    drawn, smooth = shown.pixels().astype(int), enlarge(shown.widget.sources["LR"])
    left, top = (int(np.floor(side/2 - centre*2 + 0.5)) for side, centre in zip(shown.frame, (180, 120)))
    y0, x0 = max(0, -top), max(0, -left)
    part = drawn[top+2*y0 if top > 0 else 0:, max(left, 0):][:2*(240 - y0//2), :2*(360 - x0//2)]
    rows, columns = ((np.arange(n) - min(start, 0))//2 for n, start in zip(part.shape[:2], (top, left)))
    inside = rows < 240
    np.testing.assert_array_equal(part[inside], smooth[rows[inside][:, None], columns])
    assert np.abs(drawn - squares).max() > 10
    shown.widget.view = shown.view
    expected, _ = shown.widget._panels(2000)
    t, l, h, w = shown.widget.region
    np.testing.assert_array_equal(expected[""][:, :w//2], smooth[t:t+h, l:l+w][:, :w//2])


def test_brightness_doubles_levels(shown):
    shown.look(zoom=3, x=180, y=120, left="SR", right="HR")
    before = shown.pixels().astype(int)
    shown.press(".", ".")
    shown.until(brightness=4)
    np.testing.assert_array_equal(shown.pixels(), np.minimum(before*4, 255))
    assert shown.texts(".legend") == ["4× as bright"]
    shown.press(",", ",", ",")
    shown.until(brightness=1)
    np.testing.assert_array_equal(shown.pixels(), before)


def test_a_picture_is_nudged_and_reset(shown):
    shown.look(mode="flip", left="SR", right="HR", zoom=4, x=180, y=120)
    before = shown.pixels()
    shown.press("Alt+ArrowRight", "Alt+ArrowRight", "Alt+ArrowUp", "Alt+Shift+ArrowDown")
    shown.until(offsets=dict(SR=[2, -1], HR=[0, 1]))
    np.testing.assert_array_equal(shown.pixels()[:-4, 8:], before[4:, :-8])
    shown.page.wait_for_selector(".scores .unscored")
    assert shown.texts(".scores .unscored") == ["SR was moved by 2, -1"]
    shown.press("g", "+", "f")
    shown.until(mode="flip", offsets=dict(SR=[2, -1], HR=[0, 1]))   # kept while modes and zooms change
    shown.press("?")
    shown.page.get_by_role("button", name="Move the left picture left").click()
    shown.until(offsets=dict(HR=[0, 1], SR=[1, -1]))
    shown.widget.view = shown.view
    assert list(shown.widget.scores()["picture"]) == ["other"]
    shown.press("Alt+0", "?")
    shown.until(offsets={})
    assert not shown.page.locator(".tools").is_visible()


def test_boxes_are_drawn_named_and_removed(shown):
    shown.look(zoom=2, x=180, y=120)
    left, top = (int(np.floor(side/2 - centre*2 + 0.5)) for side, centre in zip(shown.frame, (180, 120)))
    shown.press("b")
    shown.point(left + 2*150, top + 2*100)
    shown.page.mouse.down()
    shown.point(left + 2*210, top + 2*140)
    shown.page.mouse.up()
    shown.page.keyboard.type("b: a sky")   # letters are no keys while one writes
    shown.press("Enter")
    shown.until(boxes=[[150, 100, 60, 40, "b: a sky"]])
    drawn = shown.pixels()
    assert drawn[top + 2*100, left + 2*180].tolist() == drawn[top + 2*120, left + 2*210].tolist() == [255, 255, 255]
    shown.widget.view = shown.view
    assert [text.get_text() for text in shown.widget.figure().axes[0].texts] == ["b: a sky"]
    shown.press("?")
    shown.page.get_by_role("button", name="Remove b: a sky").click()
    shown.until(boxes=[])
    shown.press("?")


def test_a_box_by_keys_alone(shown):
    shown.look(zoom="fit")
    shown.press("b", "Enter")
    shown.page.keyboard.type("middle")
    shown.press("Enter")
    shown.until(boxes=[[90, 60, 180, 120, "middle"]])
    shown.press("b", "Escape")
    assert not shown.page.locator(".stage.armed").count()


def test_one_table_has_all_scores(shown):
    shown.look(zoom=3, x=180, y=120)
    shown.press("a")
    shown.page.wait_for_function("[...document.querySelectorAll('.all tr[data-name]')].filter(row => /^\\d+\\.\\d+$/.test(row.cells[1].textContent)).length === 2")
    rows = {row.get_attribute("data-name"): row.locator("td").all_inner_texts() for row in shown.page.locator(".all tr[data-name]").all()}
    shown.widget.view = shown.view
    for picture, psnr, ssim in shown.widget.scores().itertuples(index=False):
        assert (float(rows[picture][1]), float(rows[picture][2])) == (pytest.approx(psnr, abs=0.0051), pytest.approx(ssim, abs=1e-4)), picture
    assert list(rows) == NAMES and rows["HR"][1] == "the reference"
    assert shown.texts(".all b") == rows["SR"][1:]   # the best of each column
    shown.press("a")
    assert not shown.page.locator(".all").is_visible()


def test_a_blind_test_hides_names_and_counts_answers(shown):
    shown.look(zoom=4, x=180, y=120)
    shown.press("z")
    lefts = []
    for number, key in enumerate(("1", "3", "2", "1"), 1):
        shown.page.wait_for_selector(f".ask:has-text('{number - 1} answered')")
        shown.page.wait_for_selector("text=no scores in a blind test")
        view, said = shown.view, shown.page.locator(".paintsr").inner_text()
        lefts.append((view["left"], view["right"]))
        assert not re.search(r"\bSR\b|\bother\b|dB", said.split("left picture")[0])
        assert {view["left"], view["right"]} == {"SR", "other"} and shown.texts(".labels span") == ["A", "B"]
        shown.press(f"Digit{key}")
    shown.press("Escape")
    shown.until(blind=False)
    answers = shown.model("return model.get('answers')")
    assert [answer["better"] for answer in answers] == [lefts[0][0], lefts[1][1], "", lefts[3][0]]
    assert [(answer["first"], answer["second"]) for answer in answers] == lefts
    shown.widget.answers = answers
    table = [row.locator("td").all_inner_texts() for row in shown.page.locator(".ask tbody tr").all()]
    assert table == shown.widget.preferences().astype(str).to_numpy().tolist()
    with shown.page.expect_download() as download: shown.page.get_by_role("button", name="Save all answers as CSV").click()
    saved = pd.read_csv(download.value.path(), keep_default_na=False)
    assert saved.to_dict("records") == answers
    shown.page.get_by_role("button", name="Close the table").click()


def test_the_view_is_saved_as_png(shown):
    shown.look(zoom=3, x=180, y=120, left="SR", right="HR")
    with shown.page.expect_download() as download: shown.press("i")
    assert download.value.suggested_filename == "SR-HR-wipe-x180-y120.png"
    saved, drawn = np.asarray(Image.open(download.value.path()).convert("RGB")), shown.pixels()
    width, height = shown.frame
    assert saved.shape == (height, width, 3)
    for columns in (slice(0, width//2 - 2), slice(width//2 + 2, width)): np.testing.assert_array_equal(saved[60:, columns], drawn[60:, columns])
    assert (saved[8:32, 8:20] != drawn[8:32, 8:20]).any() and (saved[8:32, -20:-8] != drawn[8:32, -20:-8]).any()   # the names


def copied(shown, key):
    shown.page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    shown.press(key)
    shown.page.wait_for_function("window.copied")
    return shown.page.evaluate("(() => { const text = window.copied; window.copied = null; return text })()")


def test_a_view_is_copied_as_a_figure_call(shown):
    shown.look(mode="side", zoom=3, x=170, y=110, right="HR", boxes=[[150, 100, 60, 40, "sky"]], offsets=dict(SR=[1, 0]), brightness=2)
    call = copied(shown, "c")
    widget = compare(*make_pictures())
    exec(call, dict(widget=widget))
    assert widget.view == shown.view and widget.frame == shown.frame
    assert len(widget.figure().axes) == 2


def test_a_link_keeps_the_view(shown, browser):   # noqa: F811
    shown.look(mode="grid", zoom=3.5, x=170.25, y=110, left="other", boxes=[[150, 100, 60, 40, "sky & sea"]], offsets=dict(SR=[1, 0]), low="bicubic")
    link = copied(shown, "k")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    for address, expected in ((link, shown.view), (f"{link.split('#')[0]}#mode=upside&zoom=4&x=abc&left=nobody", {**shown.start, "zoom": 4})):
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_function(OPEN)
        view = page.evaluate("document.getElementById('compare').model.get('view')")
        assert view == expected
    page.close()
    shown.page.wait_for_function("part => location.hash.includes(part)", arg="zoom=3.5")   # so a page that is loaded again keeps it, too


def test_full_screen_and_back(shown):
    height = shown.page.locator(".stage").bounding_box()["height"]
    shown.press("x")
    shown.page.wait_for_function("h => document.querySelector('.paintsr.full .stage')?.getBoundingClientRect().height > h", arg=height + 20)
    assert shown.page.evaluate("document.querySelector('.paintsr').getBoundingClientRect().width === innerWidth")
    shown.press("x")
    shown.page.wait_for_function("h => document.querySelector('.paintsr:not(.full) .stage')?.getBoundingClientRect().height === h", arg=height)
