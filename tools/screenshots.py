"""Take the pictures of the viewer for README and site, one per mode, from a sample painting; needs Chromium and playwright.

    python tools/screenshots.py [--only flip difference] [--out nbs/images]
"""
import argparse, io, shutil, sys, tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PART = 85, 310, 200, 240   # top, left, height and width of what is shown of the pagoda, in LR pixels
WIDTH, HEIGHT = 840, 400   # of the viewer and of its stage
PAIR = dict(left="bicubic", right="default", zoom=2, x=470, y=360)

SHOTS = dict(   # picture -> its view
    wipe=dict(PAIR, mode="wipe"),
    loupe=dict(PAIR, mode="wipe", left="default", right="HR", zoom=1, x=480, y=400, loupe=8),
    strip=dict(PAIR, mode="strip", left="HR", zoom=4),
    grid=dict(PAIR, mode="grid", boxes=[[430, 320, 100, 60, "roof"]]),
    flip=dict(PAIR, mode="flip", left="default"),
    difference=dict(PAIR, mode="side", overlay="difference"),
    ssim=dict(PAIR, mode="side", overlay="ssim"),
    blind=dict(PAIR, mode="side", blind=True),
)


def pictures():
    "A part of the pagoda as LR, by two methods, and as HR."
    from paintsr_nb.resize import enlarge
    from paintsr_nb.samples import samples
    from paintsr_nb.upscaling.engine import Upscaler
    painting, = samples("pagoda")
    top, left, height, width = PART
    low, high = (np.ascontiguousarray(pixels[top*n:(top + height)*n, left*n:(left + width)*n]) for pixels, n in ((painting.low, 1), (painting.high, 4)))
    return low, dict(bicubic=enlarge(low), default=Upscaler(precise=True)(low)), high


def take(page, widget, view, file):
    "Show one view, wait until it is drawn, and save it."
    from PIL import Image
    page.evaluate("view => { const { model } = document.getElementById('compare'); model.set('view', view) }", {**widget.view, "loupe": 0, **view})
    page.mouse.move(1, 1)
    if view.get("loupe"):
        box = page.locator(".stage > canvas").bounding_box()
        page.mouse.move(box["x"] + 332, box["y"] + 80, steps=3)
        page.wait_for_selector(".loupe canvas")
    if not view.get("blind"): page.wait_for_selector(".score")
    page.wait_for_function("!document.querySelector('.scores').textContent.includes('≈')")
    page.evaluate("new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    box = page.locator(".paintsr").bounding_box()
    clip = {side: round(length) for side, length in box.items()}
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    shot.save(file, quality=82, optimize=True)
    print(f"{file}: {shot.width}x{shot.height}, {file.stat().st_size/1000:.0f} kB")


def main(only, out):
    from playwright.sync_api import sync_playwright
    from paintsr_nb.viewing.compare import compare
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if not chromium: raise SystemExit("no Chromium was found: install it, as in `apt install chromium`")
    widget = compare(*pictures())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = widget.save_html(Path(folder)/"index.html")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name in only:
            page = browser.new_page(viewport=dict(width=WIDTH + 100, height=HEIGHT + 400), color_scheme="light")
            page.goto(path.as_uri())
            page.add_style_tag(content=f"#compare {{ flex: none; width: {WIDTH}px }} .paintsr .keys {{ display: none !important }}"
                                       f"#compare .paintsr:not(.full) .stage {{ height: {HEIGHT}px !important }}")
            page.wait_for_selector(".paintsr .stage > canvas")
            page.evaluate("document.activeElement.blur()")   # its ring is of no interest here
            take(page, widget, SHOTS[name], Path(out)/f"viewer_{name}.jpg")
            page.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SHOTS, default=list(SHOTS), help="some of the pictures")
    parser.add_argument("--out", default=ROOT/"nbs"/"images", help="folder of the pictures")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    main(options.only, options.out)
