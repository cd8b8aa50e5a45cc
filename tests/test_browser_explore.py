"""The page of `paintsr_report` and the table of `explore` in Chromium; what they mean is shown in nbs/viewing/61_explore.ipynb."""
import csv, io

import numpy as np
import pytest

from paintsr_nb.core import random_at
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import back_project, enlarge, shrink
from paintsr_nb.viewing.explore import _module, _style, explore
from test_browser import EXACT, browser, offline
from test_explore import write_run
from test_frontends import Colab

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


def test_a_click_opens_the_comparison_where_the_methods_differ_most(browser, explorer):
    front = Colab(browser, explorer)
    page = front.page
    page.locator(".crops button").first.click()
    page.wait_for_function(EXACT)
    view = page.evaluate("document.querySelector('.place').model.get('view')")
    assert 64 <= view["y"] + 64 and view["y"] - 64 <= 64 and view["x"] - 64 <= 160 and view["x"] + 64 >= 192   # all of the blot is in the square
    assert page.locator("tr[data-chosen]").get_attribute("data-id") == "p5" == page.evaluate("model.get('chosen')")
    page.evaluate("model.set('chosen', 'p2')")   # as Python does it
    page.wait_for_function("document.querySelector('.status').textContent.startsWith('p2,')")
    assert page.locator(".paintsr").count() == 1 and front.errors == []
    page.close()


def test_the_slider_shows_the_preview_of_its_step(browser, tmp_path):
    write_run(tmp_path/"a", [0.2, 0.5, 0.4])
    slider = explore(tmp_path/"a")
    front = Colab(browser, slider)
    page = front.page
    page.wait_for_selector("img[data-step='1']")
    page.get_by_role("slider").press("ArrowRight")
    page.wait_for_selector("img[data-step='2']")
    level = page.evaluate("""async () => { const image = document.querySelector('img'); await image.decode()
        const canvas = new OffscreenCanvas(1, 1), context = canvas.getContext('2d'); context.drawImage(image, 0, 0); return context.getImageData(0, 0, 1, 1).data[0] }""")
    assert level == 20 and page.evaluate("model.get('step')") == 2 and front.errors == []
    page.close()


def test_the_texture_slider_follows_the_thumb(browser):
    torch = pytest.importorskip("torch")
    from paintsr_nb.nets.generators import make_generator
    from paintsr_nb.viewing.live import texture_slider
    torch.manual_seed(0)
    high = enlarge(enlarge(random_at(1).integers(0, 256, (12, 15, 3)).astype(np.uint8)))
    nets = [make_generator("compact", num_filters=8, num_blocks=1) for _ in range(2)]
    slider = texture_slider(shrink(high), *nets, high, region=(0, 0, 16, 16))
    front = Colab(browser, slider)
    page = front.page
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
    assert slider.corner == [8, 0] and front.errors == []
    page.close()
