"""The page of `paintsr_report` and the table of `explore` in Chromium; what they mean is shown in nbs/viewing/61_explore.ipynb."""
import csv, io
from base64 import b64encode

import numpy as np
import pytest

from paintsr_nb.core import random_at
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import back_project, enlarge, shrink
from paintsr_nb.viewing.explore import _module, _style, explore
from test_browser import EXACT, PATIENCE, browser, offline
from test_explore import write_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "Six pictures of 256x256 by two methods; the worst is the last."
    root = tmp_path_factory.mktemp("folders")
    for number in range(6):
        high = enlarge(enlarge(random_at(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)))
        low = shrink(high)
        sr = back_project(low, enlarge(low))
        if number == 5: sr[64:96, 160:192] = 0
        for name, pixels in dict(high=high, low=low, ours=sr, plain=enlarge(low)).items(): write_picture(root/name/f"p{number}.png", pixels)
    return root


@pytest.fixture(scope="module")
def explorer(folders): return explore([folders/"ours", folders/"plain"], folders/"high", folders/"low")


def ids(page): return page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.dataset.id)")


def test_the_report_page_sorts_opens_and_keeps_notes(browser, explorer, tmp_path):
    page = offline(browser, explorer.save_html(tmp_path/"report.html", title="Ours and plain", n=2, side=128))
    page.wait_for_selector(".explorer tbody tr")
    worst = list(explorer.rivals.table.index)
    assert ids(page) == worst and worst[0] == "p5"
    page.get_by_role("button", name="ours", exact=False).first.click()
    assert ids(page) == worst[::-1]
    page.get_by_role("button", name="PSNR dB").click()
    first, sentence = page.locator("tbody tr").first.locator("td").first.inner_text(), page.locator(".said").inner_text()
    assert first == f"{explorer.rivals.scores['psnr'].ours.min():.2f}" and sentence == explorer.rivals.sentences("psnr")[0]
    page.locator("tr[data-id=p5] input").fill('a black "blot"')
    page.locator("tr[data-id=p5] th button").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".paintsr .score")
    view = page.evaluate("document.querySelector('.place').model.get('view')")
    assert (view["left"], view["right"], view["zoom"]) == ("ours", "plain", 3)
    page.locator("tr[data-id=p5] input").blur()
    page.locator(f"tr[data-id={worst[-1]}] th button").click()
    page.wait_for_function("document.querySelector('.status').textContent.includes('not in this page')")
    with page.expect_download() as download: page.get_by_role("button", name="Save notes").click()
    assert list(csv.reader(io.StringIO(download.value.path().read_text()))) == [["picture", "note"], ["p5", 'a black "blot"']]
    assert page.errors == [] and [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.context.close()


MOUNT = """async ([module, state]) => {
    const { default: widget } = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })))
    const bytes = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer)
    const heard = {}
    const decoded = (traits) => Object.fromEntries(Object.entries(traits).map(([name, value]) => [name, value?.bytes === undefined ? value : bytes(value.bytes)]))
    state = decoded(state)
    window.model = { get: (name) => state[name], off() {}, on: (event, act) => (heard[event] = act),
        set(name, value) { state[name] = value; heard[`change:${name}`]?.() },
        async save_changes() {
            const told = await window.told(state.share ?? 0, state.corner ?? [])
            for (const [name, value] of Object.entries(decoded(told ?? {}))) if (!["share", "corner"].includes(name)) window.model.set(name, value)
        },
        send: async (message) => { const { content, data } = await window.kernel(message); heard["msg:custom"](content, data.map(bytes)) } }
    await widget.initialize({ model })
    widget.render({ model, el: document.body })
}"""


def state_of(widget, traits):
    "The values of traits as JSON; bytes as base64."
    values = widget.get_state([*traits, "key"])
    return {name: dict(bytes=b64encode(value).decode()) if isinstance(value, (bytes, memoryview)) else value for name, value in values.items()}


def in_a_front_end(browser, widget, traits, told=lambda share, corner: None):
    "A page that shows a widget by the contract of anywidget; its kernel is this process. `told` answers a change of share or corner."
    def kernel(message):
        content, data = widget._reply(message)
        return dict(content=dict(content, number=message["number"]), data=[b64encode(part).decode() for part in data or []])
    page = browser.new_page(viewport=dict(width=900, height=900))
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.expose_function("kernel", kernel)
    page.expose_function("told", told)
    page.goto("about:blank")
    page.add_style_tag(content=_style)
    page.evaluate(MOUNT, [_module, state_of(widget, traits)])
    return page


def test_a_click_opens_the_comparison_where_the_methods_differ_most(browser, explorer):
    page = in_a_front_end(browser, explorer, ("table", "chosen", "notes"))
    page.locator(".crops button").first.click()
    page.wait_for_function(EXACT)
    view = page.evaluate("document.querySelector('.place').model.get('view')")
    assert 64 <= view["y"] + 64 and view["y"] - 64 <= 64 and view["x"] - 64 <= 160 and view["x"] + 64 >= 192   # all of the blot is in the square
    assert page.locator("tr[data-chosen]").get_attribute("data-id") == "p5" == page.evaluate("model.get('chosen')")
    page.evaluate("model.set('chosen', 'p2')")   # as Python does it
    page.wait_for_function("document.querySelector('.status').textContent.startsWith('p2,')")
    assert page.locator(".paintsr").count() == 1 and page.errors == []
    page.close()


def test_the_slider_shows_the_preview_of_its_step(browser, tmp_path):
    write_run(tmp_path/"a", [0.2, 0.5, 0.4])
    slider = explore(tmp_path/"a")
    page = in_a_front_end(browser, slider, ("runs", "step"))
    page.wait_for_selector("img[data-step='1']")
    page.get_by_role("slider").press("ArrowRight")
    page.wait_for_selector("img[data-step='2']")
    level = page.evaluate("""async () => { const image = document.querySelector('img'); await image.decode()
        const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext('2d'); context.drawImage(image, 0, 0); return context.getImageData(0, 0, 1, 1).data[0] }""")
    assert level == 20 and page.evaluate("model.get('step')") == 2 and page.errors == []
    page.close()


def test_the_texture_slider_follows_the_thumb(browser):
    torch = pytest.importorskip("torch")
    from paintsr_nb.nets.generators import make_generator
    from paintsr_nb.viewing.live import texture_slider
    torch.manual_seed(0)
    high = enlarge(enlarge(random_at(1).integers(0, 256, (12, 15, 3)).astype(np.uint8)))
    nets = [make_generator("compact", num_filters=8, num_blocks=1) for _ in range(2)]
    slider = texture_slider(shrink(high), *nets, high, region=(0, 0, 16, 16))
    names = ("share", "corner", "shown", "image", "truth", "map", "scores", "problem", "names", "size", "side")
    def moved(share, corner):
        slider.share, slider.corner = share, corner
        assert slider.wait()
        return state_of(slider, names)
    page = in_a_front_end(browser, slider, names, moved)
    page.wait_for_selector(".texture img[alt=HR][src^=blob]")
    first = page.locator("img[alt^=Between]").get_attribute("src")
    page.get_by_role("slider").press("End")
    page.wait_for_function("document.querySelector('.status').textContent.startsWith('100 % of B') && !document.querySelector('[data-coming]')")
    assert page.locator("img[alt^=Between]").get_attribute("src") != first
    assert f"SSIM {slider.scores['SSIM']:.4f}" in page.locator(".status").inner_text()
    box = page.locator("img[alt^=Between]").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 200 - box["width"]/2, box["y"] + 150, steps=3)   # half of 16 LR pixels
    page.mouse.up()
    page.wait_for_function("String(model.get('corner')) === '8,0' && !document.querySelector('[data-coming]')")
    assert slider.corner == [8, 0] and page.errors == []
    page.close()
