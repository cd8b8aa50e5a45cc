"""The viewer in Chromium: the page without a kernel. The widget with one is in test_frontends.py.

Not a notebook because it needs a browser; what a view means is shown in nbs/viewing/60_compare.ipynb.
"""
import io, re, shutil
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from paintsr_nb.core import random_at
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.viewing.compare import _joined, compare

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()
PATIENCE = 180_000   # milliseconds before a browser that shares its machine is given up
OPEN = "document.querySelector('.paintsr') && !document.querySelector('.paintsr .note')"


def make_pictures():
    "LR, SR and HR of 360x240, different from each other nearly everywhere."
    high = enlarge(enlarge(random_at(5).integers(0, 256, (15, 23, 3)).astype(np.uint8)))[:240, :360]
    low = shrink(high)
    return low, enlarge(low), np.clip(high + random_at(6).integers(-20, 21, high.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="left out: the viewer in a browser; playwright is missing (pip install playwright)")
    if not CHROMIUM: pytest.skip("left out: the viewer in a browser; no Chromium was found (apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


# ---------------------------------------------------------------- the page without a kernel

class Shown:
    "A page that `save_html` wrote, open in the browser."
    def __init__(self, page, folder, view=None, **kwargs):
        self.page, self.errors, self.requests = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        self.widget = compare(*make_pictures(), view=view, **kwargs)
        self.widget.save_html(folder/"index.html", title="Brushwork")
        page.goto((folder/"index.html").as_uri())
        page.wait_for_function(OPEN)
        self.settle()
        self.widget.frame = page.evaluate("[...document.querySelectorAll('canvas')].map(c => [c.width, c.height])[0]")
        box = page.locator(".stage > canvas").bounding_box()
        self.left, self.top = box["x"], box["y"]

    def settle(self): self.page.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    def text(self, selector): return self.page.locator(selector).first.inner_text()

    @property
    def view(self): return self.page.evaluate("document.getElementById('compare').model.get('view')")

    def look(self, **changes):
        self.page.evaluate("part => { const { model } = document.getElementById('compare'); model.set('view', { ...model.get('view'), ...part }) }", changes)
        self.settle()

    def press(self, key):
        self.page.locator(".stage").focus()
        self.page.keyboard.press(key)
        self.settle()

    def move(self, x, y):
        self.page.mouse.move(self.left + x - 3, self.top + y)
        self.page.mouse.move(self.left + x, self.top + y)

    def drag(self, start, end):
        self.move(*start)
        self.page.mouse.down()
        self.move(*end)
        self.page.mouse.up()
        self.settle()

    def canvas(self):
        "What is drawn, (H,W,3) uint8."
        png = self.page.evaluate("document.querySelector('canvas').toDataURL('image/png')").partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(b64decode(png))))[..., :3]


@pytest.fixture
def show(browser, tmp_path):
    page = browser.new_page(viewport=dict(width=700, height=620), device_scale_factor=1)
    page.set_default_timeout(PATIENCE)
    pages = []

    def opened(**kwargs):
        pages.append(Shown(page, tmp_path, **kwargs))
        return pages[-1]
    yield opened
    page.close()
    for shown in pages: assert shown.errors == []


def expected_canvas(widget, split):
    "The stage at a whole zoom, by repeating pixels."
    view, (width, height) = widget.view, widget.frame
    rows = np.floor((np.arange(height) - round(height/2 - view["y"]*view["zoom"]))/view["zoom"]).astype(int)
    columns = np.floor((np.arange(width) - round(width/2 - view["x"]*view["zoom"]))/view["zoom"]).astype(int)
    inside = ((rows >= 0) & (rows < widget.size[1]))[:, None] & ((columns >= 0) & (columns < widget.size[0]))

    def drawn(name):
        pixels = widget.sources[name]
        ratio = widget.size[0]//pixels.shape[1]
        return np.where(inside[..., None], pixels[rows.clip(0, widget.size[1]-1)[:, None]//ratio, columns.clip(0, widget.size[0]-1)//ratio], 0)
    return np.where(np.arange(width)[:, None] < round(split*width), drawn(view["left"]), drawn(view["right"]))


@pytest.mark.parametrize("zoom, x, y", [(1, 180, 120), (4, 100.3, 77.7), (16, 0, 240)])
def test_pixels_are_true_from_100_percent_on(show, zoom, x, y):
    shown = show(view=dict(zoom=zoom, x=x, y=y, split=0.4))
    np.testing.assert_array_equal(shown.canvas(), expected_canvas(shown.widget, 0.4))
    assert shown.text(".scale") == f"{zoom*100} %"


def test_the_page_needs_nothing_but_itself(show):
    shown = show()
    assert [url for url in shown.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert shown.page.title() == "Brushwork"


def test_the_handle_wipes(show):
    shown = show(view=dict(zoom=2))
    width, height = shown.widget.frame
    shown.drag((width/2, height/2), (width/4, height/2))
    assert shown.view["split"] == pytest.approx(0.25, abs=2/width)
    assert (shown.view["x"], shown.view["y"]) == (180, 120)   # the picture stayed
    np.testing.assert_array_equal(shown.canvas(), expected_canvas(shown.widget, shown.view["split"]))


def test_dragging_pans_by_the_same_pixels(show):
    shown = show(view=dict(zoom=4, split=0))
    shown.drag((300, 200), (240, 228))
    assert (shown.view["x"], shown.view["y"]) == (180 + 60/4, 120 - 28/4)


def test_the_wheel_zooms_about_the_pointer(show):
    shown = show(view=dict(zoom=8))
    shown.move(404, 100)
    before = shown.text(".at")
    for _ in range(4): shown.page.mouse.wheel(0, -120)
    shown.page.wait_for_function("document.getElementById('compare').model.get('view').zoom > 16")
    shown.settle()
    shown.move(404, 100)
    assert shown.text(".at") == before
    for _ in range(4): shown.page.mouse.wheel(0, 120)
    shown.page.wait_for_function("Math.abs(document.getElementById('compare').model.get('view').zoom - 8) < 1e-6")
    assert (shown.view["x"], shown.view["y"]) == (pytest.approx(180), pytest.approx(120))


def test_zooming_stops_at_exactly_100_percent(show):
    shown = show(view=dict(zoom=1.1))
    shown.move(300, 100)
    shown.page.mouse.wheel(0, 120)
    shown.page.wait_for_function("document.getElementById('compare').model.get('view').zoom !== 1.1")
    assert shown.view["zoom"] == 1


def test_keys_do_what_the_help_says(show):
    shown = show(view=dict(zoom=4))
    assert {"space", "0", "p", "w", "s", "g", "f", "h"} <= set(shown.page.locator("kbd").all_inner_texts())
    width, height = shown.widget.frame
    steps = [("Digit2", dict(left="SR", right="LR")), ("Shift+Digit3", dict(left="SR", right="HR")), ("Space", dict(left="HR", right="SR")),
             ("s", dict(mode="side")), ("g", dict(mode="grid")), ("f", dict(mode="flip")), ("w", dict(mode="wipe")), ("p", dict(zoom=1)), ("+", dict(zoom=2)),
             ("+", dict(zoom=3)), ("+", dict(zoom=4)), ("ArrowRight", dict(x=180 + width/32)), ("ArrowUp", dict(y=120 - height/32)), ("-", dict(zoom=3)), ("Shift+ArrowLeft", dict(split=0.48)), ("0", dict(zoom="fit", x=180, y=120))]
    for key, change in steps:
        shown.press(key)
        assert change.items() <= shown.view.items(), key


def test_names_are_buttons_and_the_handle_a_slider(show):
    shown = show()
    shown.page.get_by_role("button", name="HR on the right").click()
    assert shown.view["right"] == "HR"
    slider = shown.page.get_by_role("slider", name="Wipe between LR and HR")
    slider.focus()
    shown.page.keyboard.press("ArrowRight")
    assert shown.view["split"] == 0.52
    shown.settle()
    assert slider.get_attribute("aria-valuenow") == "52"
    shown.page.get_by_role("button", name="Side by side").click()
    shown.settle()
    assert not slider.is_visible()


def test_a_page_that_scrolls_is_not_caught(show):
    shown = show(view=dict(zoom=2))
    shown.page.mouse.move(5, 5)
    shown.page.evaluate("document.body.style.paddingTop = '900px'; document.body.style.paddingBottom = '900px'")
    shown.page.mouse.move(350, 300)
    for _ in range(12):
        shown.page.mouse.wheel(0, 100)
        shown.page.wait_for_timeout(30)
    shown.page.wait_for_function("scrollY > 1000")
    assert shown.view["zoom"] == 2


def test_side_by_side_shows_one_place_twice(show):
    shown = show(view=dict(mode="side", zoom=4, left="SR", right="HR", x=200, y=100))
    drawn, widget = shown.canvas(), shown.widget
    pane = (widget.frame[0] - 2)//2
    for name, edge in (("SR", 0), ("HR", pane + 2)):
        x, y = (120 - round(pane/2 - 200*4))//4, (80 - round(widget.frame[1]/2 - 100*4))//4
        np.testing.assert_array_equal(drawn[80, edge + 120], widget.sources[name][y, x])
        shown.move(edge + 120, 80)
        assert shown.text(".at") == f"x {x}  y {y}"
    values = {item.split()[0]: [int(level) for level in item.split()[1:]] for item in shown.page.locator(".value").all_inner_texts()}
    assert values == {name: widget.sources[name][y, x].tolist() for name in ("SR", "HR")}


@pytest.mark.parametrize("view", [dict(), dict(zoom=7, x=20, y=230), dict(mode="side", zoom=3.3, x=111, y=90), dict(zoom=64, x=359)])
def test_scores_in_view_are_those_of_metrics(show, view):
    shown = show(view={**view, "left": "SR", "right": "HR"})
    shown.page.wait_for_selector(".score")
    psnr, ssim = re.fullmatch(r"SR\s*([\d.]+) dB\s*SSIM ([\d.–]+)", shown.text(".score")).groups()
    expected = shown.widget.scores().set_index("picture").loc["SR"]
    assert float(psnr) == pytest.approx(expected["psnr"], abs=0.0051)
    if np.isnan(expected["ssim"]): assert ssim == "–"
    else: assert float(ssim) == pytest.approx(expected["ssim"], abs=1e-4)


def test_the_region_is_the_same_on_both_sides(show):
    shown = show()
    draw = random_at(1)
    frame, cases = shown.widget.frame, []
    for _ in range(200):
        zoom = "fit" if draw.random() < 0.1 else float(2**draw.uniform(-5, 6))
        cases.append(dict(mode=str(draw.choice(["wipe", "side", "grid", "strip", "flip"])), zoom=zoom, x=float(draw.uniform(0, 360)), y=float(draw.integers(0, 241))))
    source = _joined()
    regions = shown.page.evaluate("""async ([source, frame, cases]) => {
        const { regionOf } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))
        return cases.map((view) => regionOf(view, frame, [360, 240], 3)).map((r) => [r.top, r.left, r.height, r.width])
    }""", [source, frame, [{**case, **(dict(x=180, y=120) if case["zoom"] == "fit" else {})} for case in cases]])
    for case, region in zip(cases, regions):
        shown.widget.view = case
        assert list(shown.widget.region) == region, case


def test_lossy_pixels_are_called_lossy(show):
    shown = show(quality=90)
    shown.move(300, 150)
    assert "lossy" in shown.text(".values")


def test_dark_follows_the_system(browser, tmp_path):
    compare(*make_pictures()).save_html(tmp_path/"index.html")
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((tmp_path/"index.html").as_uri())
        page.wait_for_function(OPEN)
        colours[scheme] = [page.evaluate(f"getComputedStyle(document.querySelector('{part}')).backgroundColor") for part in ("body", ".paintsr")]
        page.close()
    def brightness(colour): return sum(int(level) for level in re.findall(r"\d+", colour)[:3])
    assert all(brightness(light) > 600 and brightness(dark) < 150 for light, dark in zip(colours["light"], colours["dark"]))



# ---------------------------------------------------------------- keys and focus

def test_keys_work_at_once_on_a_page(show):
    shown = show()
    shown.page.keyboard.press("s")
    assert shown.view["mode"] == "side"


def test_the_first_tab_reaches_the_stage_and_its_ring_is_seen(show):
    shown = show(view=dict(zoom=8))
    shown.page.locator("h1").click()   # what is before the viewer
    box = shown.page.locator(".stage").bounding_box()
    corner = dict(x=box["x"], y=box["y"] + box["height"]/2, width=1, height=1)

    def edge(): return Image.open(io.BytesIO(shown.page.screenshot(clip=corner))).convert("RGB").getpixel((0, 0))
    before = edge()
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.className") == "stage"
    assert edge() != before


def test_keys_follow_the_pointer_but_never_from_a_field(show):
    shown = show()
    shown.page.evaluate("document.activeElement.blur()")
    shown.move(100, 100)
    shown.page.keyboard.press("s")
    assert shown.view["mode"] == "side"
    shown.page.evaluate("document.body.prepend(Object.assign(document.createElement('input'), { id: 'field' }))")
    shown.page.locator("#field").focus()
    shown.move(150, 150)
    shown.page.keyboard.press("w")
    assert (shown.view["mode"], shown.page.evaluate("document.activeElement.id")) == ("side", "field")


def test_space_swaps_after_a_name_was_clicked(show):
    shown = show()
    shown.page.get_by_role("button", name="HR on the right").click()
    shown.page.keyboard.press("Space")
    assert (shown.view["left"], shown.view["right"]) == ("HR", "LR")
    shown.page.get_by_role("button", name="SR on the right").focus()
    shown.page.keyboard.press("Enter")   # whoever came by keys presses the name, and stays
    assert shown.view["right"] == "SR"


def test_space_held_shows_the_other_only_as_long(show):
    shown = show(view=dict(mode="flip", left="SR", right="HR"))
    shown.page.keyboard.down("Space")
    assert shown.view["left"] == "HR"
    shown.page.wait_for_timeout(450)
    shown.page.keyboard.up("Space")
    assert shown.view["left"] == "SR"


@pytest.mark.parametrize("event, change", [(dict(key="S", code="KeyS"), dict(mode="side")), (dict(key="à", code="Digit0"), dict(zoom="fit")),
                                           (dict(key="&", code="Digit1"), dict(left="LR")), (dict(key="End", code="Numpad1"), dict(left="SR"))])
def test_caps_lock_other_layouts_and_the_number_pad(show, event, change):
    shown = show(view=dict(zoom=4, left="SR"))
    shown.page.evaluate("event => document.querySelector('.stage').dispatchEvent(new KeyboardEvent('keydown', { ...event, bubbles: true }))", event)
    assert change.items() <= shown.view.items()


def test_names_tell_their_keys(show):
    shown = show()
    assert shown.page.locator(".chips kbd").all_inner_texts() == ["1", "2", "3", "⇧1", "⇧2", "⇧3"]


# ---------------------------------------------------------------- hands

def test_a_picture_cannot_be_lost(show):
    shown = show(view=dict(zoom=8, split=0))
    width, height = shown.widget.frame
    for _ in range(12): shown.drag((100, 100), (600, 400))
    assert (shown.view["x"], shown.view["y"]) == (width/16, height/16)   # its corner in the corner of the stage
    for _ in range(8): shown.press("-")
    assert (shown.view["x"], shown.view["y"]) == (180, 120)


def test_the_handle_stays_where_it_was_gripped(show):
    shown = show()
    width, height = shown.widget.frame
    shown.move(width/2 + 9, 300)
    shown.page.mouse.down()
    shown.move(width/2 + 9 + 100, 300)
    shown.page.mouse.up()
    assert shown.view["split"] == pytest.approx(0.5 + 100/width)


def test_a_wheel_turned_sideways_pans(show):
    shown = show()
    shown.move(100, 100)
    shown.page.mouse.wheel(80, 0)
    shown.page.wait_for_timeout(100)
    assert shown.view["zoom"] == "fit"
    shown.look(zoom=8)
    shown.page.mouse.wheel(80, 0)
    shown.page.wait_for_function("document.getElementById('compare').model.get('view').x !== 180")
    assert shown.view["x"] == 190


def test_the_footer_stands_still(show):
    shown = show(view=dict(left="SR", right="HR"))
    shown.page.wait_for_selector(".score")

    def places(): return [shown.page.locator(part).first.bounding_box() for part in (".foot", ".value", ".score", ".keys")]
    before = places()
    shown.move(350, 250)
    assert shown.text(".at").startswith("x ")
    assert places() == before


def test_it_is_said_why_there_is_no_score(show):
    shown = show(view=dict(left="LR", right="HR"))
    shown.page.wait_for_selector(".unscored")
    said = {item.get_attribute("data-name"): item.inner_text() for item in shown.page.locator(".unscored").all()}
    assert said == {"LR": "LR has pixels of its own, 90 × 60", "HR": "HR the reference"}


def test_the_scored_region_is_the_drawn_one(show):
    shown = show(view=dict(left="SR", right="HR", split=0))
    for zoom, x, y in ((20.4, 101.37, 77.81), (7.3, 200, 100), (33, 60.51, 30.49)):
        shown.look(zoom=zoom, x=x, y=y)
        shown.widget.view = dict(zoom=zoom, x=x, y=y)
        top, left, height, width = shown.widget.region
        drawn, high = shown.canvas(), make_pictures()[2]
        corners = [(0, 0, top, left), (0, -1, top, left + width - 1), (-1, 0, top + height - 1, left), (-1, -1, top + height - 1, left + width - 1)]
        for row, column, y_high, x_high in corners: assert drawn[row, column].tolist() == high[y_high, x_high].tolist(), (zoom, row, column)


def test_low_pixels_stay_squares_below_50_percent(show):
    shown = show(view=dict(zoom=0.4, split=1))
    drawn = shown.canvas()
    colours = {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()} - {(0, 0, 0)}
    assert colours <= {tuple(pixel) for pixel in shown.widget.sources["LR"].reshape(-1, 3).tolist()}


@pytest.mark.parametrize("key, overlay, legend", [("d", "difference", "0\\s*32 levels and more"), ("m", "ssim", "SSIM 1\\s*0 and less")])
def test_overlays_are_those_of_the_figure(show, key, overlay, legend):
    shown = show(view=dict(left="SR", right="HR", split=1, zoom=2, x=180, y=120))
    shown.press(key)
    assert shown.view["overlay"] == overlay
    assert re.search(legend, shown.text(".legend"))
    shown.page.wait_for_selector(".score")
    shown.page.wait_for_timeout(200)
    shown.settle()
    shown.widget.view = dict(overlay=overlay, split=1)
    expected, _ = shown.widget._panels(1600)
    top, left, height, width = shown.widget.region
    drawn = shown.canvas()
    rows, columns = (np.arange(0, side)[10:-10] for side in drawn.shape[:2])
    frame = shown.widget.frame
    y, x = (np.floor((at + 0.5 - np.floor(side/2 - centre*2 + 0.5))/2).astype(int) - first for at, side, centre, first in
            ((rows, frame[1], 120, top), (columns, frame[0], 180, left)))
    inside = (y >= 0) & (y < height)
    error = np.abs(drawn[rows[inside][:, None], columns].astype(int) - expected[""][y[inside][:, None], x])
    assert error.max() <= 2
    assert drawn[rows[inside]].std() > 10
    shown.press(key)
    assert shown.view["overlay"] == "" and not shown.page.locator(".legend").is_visible()


# ---------------------------------------------------------------- phones

@pytest.fixture
def phone(browser, tmp_path):
    "A page with ten models on a phone of 380x780."
    low, sr, high = make_pictures()
    compare(low, {f"model {n}": sr for n in range(10)}, high, view=dict(left="model 0", right="HR")).save_html(tmp_path/"index.html")
    context = browser.new_context(viewport=dict(width=380, height=780), has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((tmp_path/"index.html").as_uri())
    page.wait_for_function(OPEN)
    yield page
    context.close()


def touch(page, kind, *points):
    page.touches = getattr(page, "touches", None) or page.context.new_cdp_session(page)
    page.touches.send("Input.dispatchTouchEvent", dict(type=f"touch{kind}", touchPoints=[dict(x=x, y=y, id=n) for n, (x, y) in enumerate(points)]))


def test_phone_controls_are_large_and_names_do_not_cover_the_picture(phone):
    phone.get_by_role("button", name="More tools").tap()
    boxes = [button.bounding_box() for button in phone.locator(".paintsr button:visible").all()]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 44
    assert all(phone.locator(f".chips.{side}").bounding_box()["height"] < 60 for side in ("left", "right"))
    assert phone.evaluate("document.documentElement.scrollWidth") <= 380
    phone.get_by_role("button", name="Hide what lies on the picture").click()
    assert not phone.locator(".chips.left").is_visible()


def test_the_grid_shows_all_pictures_with_their_names(show):
    shown = show(view=dict(mode="grid", zoom=4, x=200, y=100))
    assert shown.page.locator(".labels span:visible").all_inner_texts() == ["LR", "SR", "HR"]
    assert not shown.page.locator(".chips:visible").count()
    drawn, widget = shown.canvas(), shown.widget
    for name, label in zip(("LR", "SR", "HR"), shown.page.locator(".labels span").all()):
        box = label.bounding_box()
        column, row = round(box["x"] - shown.left) - 8 + 60, round(box["y"] - shown.top) - 8 + 80   # a pane begins 8 px beside its name
        shown.move(column, row)
        x, y = (int(number) for number in re.findall(r"\d+", shown.text(".at")))
        ratio = 4 if name == "LR" else 1
        assert drawn[row, column].tolist() == widget.sources[name][y//ratio, x//ratio].tolist(), name
    shown.page.wait_for_selector(".score")
    assert [score.get_attribute("data-name") for score in shown.page.locator(".score").all()] == ["SR"]


def test_phone_a_swipe_over_a_picture_that_fits_scrolls_the_page(phone):
    assert phone.locator(".stage").bounding_box()["height"] <= 0.63*780
    assert phone.evaluate("document.querySelector('.stage').style.touchAction") == "pan-y"
    phone.evaluate("document.getElementById('compare').model.set('view', { ...document.getElementById('compare').model.get('view'), zoom: 4 })")
    phone.wait_for_function("document.querySelector('.stage').style.touchAction === 'none'")


def test_phone_a_tap_tells_the_values(phone):
    box = phone.locator(".stage").bounding_box()
    phone.touchscreen.tap(box["x"] + 100, box["y"] + box["height"]/2)
    phone.wait_for_timeout(100)
    assert phone.locator(".at").inner_text().startswith("x ")


def test_phone_two_fingers_pan_and_zoom(phone):
    look = "document.getElementById('compare').model.get('view')"
    phone.evaluate(f"document.getElementById('compare').model.set('view', {{ ...{look}, zoom: 8 }})")
    phone.wait_for_function("document.querySelector('.stage').style.touchAction === 'none'")
    box = phone.locator(".stage").bounding_box()
    x, y = box["x"] + 60, box["y"] + 200
    touch(phone, "Start", (x, y), (x + 80, y))
    for step in range(1, 6): touch(phone, "Move", (x + 8*step, y + 4*step), (x + 80 + 8*step, y + 4*step))
    touch(phone, "End")
    view = phone.evaluate(look)
    assert view["zoom"] == pytest.approx(8, rel=0.01)
    assert (view["x"], view["y"]) == (pytest.approx(180 - 40/8, abs=0.3), pytest.approx(120 - 20/8, abs=0.3))


# ---------------------------------------------------------------- large pictures and saved outputs

def make_large():
    "LR, SR and HR of 1400x1160, which come in tiles."
    high = random_at(7).integers(0, 256, (290, 350, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    high = np.clip(high + random_at(8).integers(-9, 10, high.shape), 0, 255).astype(np.uint8)
    low = shrink(high)
    return low, enlarge(low), high


@pytest.fixture
def large(browser, tmp_path):
    widget = compare(*make_large(), view=dict(left="SR", right="HR", split=0.5))
    widget.save_html(tmp_path/"index.html")
    page = browser.new_page(viewport=dict(width=700, height=620))
    page.set_default_timeout(PATIENCE)
    page.goto((tmp_path/"index.html").as_uri())
    page.wait_for_function(OPEN)
    widget.frame = page.evaluate("[...document.querySelectorAll('canvas')].map(c => [c.width, c.height])[0]")
    yield page, widget
    page.close()


def look(page, widget, **view):
    widget.view = view
    page.evaluate("part => { const { model } = document.getElementById('compare'); model.set('view', { ...model.get('view'), ...part }) }", view)


EXACT = "document.querySelector('.paintsr .score') && !document.querySelector('.paintsr .scores').textContent.includes('≈')"


def test_large_pictures_come_in_tiles_and_their_scores_are_exact_in_the_end(large):
    page, widget = large
    assert not any(picture["whole"] for picture in widget.pictures)
    for view in (dict(zoom="fit"), dict(zoom=2.3, x=512, y=511)):
        look(page, widget, **view)
        page.wait_for_timeout(120)
        page.wait_for_function(EXACT)
        psnr, ssim = re.fullmatch(r"SR\s*([\d.]+) dB\s*SSIM ([\d.–]+)", page.locator(".score").first.inner_text()).groups()
        expected = widget.scores().set_index("picture").loc["SR"]
        assert (float(psnr), float(ssim)) == (pytest.approx(expected["psnr"], abs=0.0051), pytest.approx(expected["ssim"], abs=1e-4))


@pytest.mark.parametrize("zoom", [1, 2.6, 5])
def test_pixels_are_true_across_tiles(large, zoom):
    page, widget = large
    look(page, widget, zoom=zoom, x=512, y=512)
    page.wait_for_timeout(120)
    page.wait_for_function(EXACT)   # so all tiles are there
    page.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    png = page.evaluate("document.querySelector('canvas').toDataURL('image/png')").partition(",")[2]
    drawn = np.asarray(Image.open(io.BytesIO(b64decode(png))))[..., :3]
    width, height = widget.frame
    rows = np.floor((np.arange(height) + 0.5 - np.floor(height/2 - 512*zoom + 0.5))/zoom).astype(int)
    columns = np.floor((np.arange(width) + 0.5 - np.floor(width/2 - 512*zoom + 0.5))/zoom).astype(int)
    left = np.arange(width) < round(width/2)
    sr, high = (widget.sources[name][rows[:, None], columns] for name in ("SR", "HR"))
    np.testing.assert_array_equal(drawn, np.where(left[:, None], sr, high))


def offline(browser, path):
    "A page of a browser that has no network, and what it asked for."
    context = browser.new_context(viewport=dict(width=900, height=800), offline=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    return page


def test_the_html_of_a_notebook_holds_the_working_viewer_offline(browser, tmp_path):
    nbformat, nbconvert = pytest.importorskip("nbformat"), pytest.importorskip("nbconvert")
    data, _ = compare(*make_large())._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("widget", outputs=[output])])
    (tmp_path/"n.html").write_text(nbconvert.HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    page = offline(browser, tmp_path/"n.html")
    page.wait_for_function(OPEN)
    page.locator(".stage").focus()
    for key in ("s", "Digit3", "+"): page.keyboard.press(key)
    page.wait_for_selector(".paintsr[data-mode=side] .chips.left [data-name=HR][aria-pressed=true]")   # one key may be drawn per frame
    colours = page.evaluate("new Set(new Uint32Array(document.querySelector('.paintsr canvas').getContext('2d').getImageData(50, 100, 300, 99).data.buffer)).size")
    assert colours > 100
    assert page.evaluate("getComputedStyle(document.querySelector('.paintsr .stage')).position") == "relative"   # its style sheet is there
    page.context.close()
    assert page.errors == []
