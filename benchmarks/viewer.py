"""How quickly does the viewer open, show its first scores and pan, and what memory does it take?

    python benchmarks/viewer.py [--side 2400 6000] [--quality N] [--chromium PATH]

For each side a triple of LR, bicubic and HR is made from the sample paintings, repeated where they are too small. Told
are the seconds that Python takes to make and to display the widget, the size of the page, and in headless Chromium at a
stage of 1280x800: seconds from navigation to the first picture, from there to the first scores and to the final ones,
frames per second of a pan at 100 %, seconds from the end of that pan to its scores, and the page's memory (JavaScript
heap and array buffers) after all of it.
"""
import argparse, shutil, tempfile, time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.samples import samples
from paintsr_nb.viewing.compare import compare

FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()
OPENS = ("document.getElementById('compare')?.model && !document.querySelector('.paintsr .note') && "
         "document.querySelector('.paintsr canvas')?.width")
FINAL = "/every pixel|zoom in/.test(document.querySelector('.paintsr .score')?.title)"   # of a very large view a sample is the last word
PAN = """async () => {
  const { model } = document.getElementById("compare")
  const frame = () => new Promise(requestAnimationFrame)
  model.set("view", { ...model.get("view"), left: "SR", right: "HR", zoom: 1, x: 500, y: 500 })
  const began = performance.now()
  let frames = 0
  for (; performance.now() < began + 1500; frames++) {
    await frame()
    model.set("view", { ...model.get("view"), x: 500 + frames * 4, y: 500 + frames * 2 })
  }
  const moved = performance.now()
  window.marks = { fps: (1000 * frames) / (moved - began), moved }
}"""


def triple(side):
    "LR, SR and HR of `side` x `side` pixels."
    painting, = samples("pagoda")
    times = -(-side//painting.high.shape[0])
    high = np.ascontiguousarray(np.tile(painting.high, (times, times, 1))[:side, :side])
    low = shrink(high)
    return low, enlarge(low), high


def timed(act):
    began = time.perf_counter()
    result = act()
    return result, time.perf_counter() - began


def since(page, condition, began):
    "Seconds from `began` until `condition` holds, on the page's own clock."
    return page.evaluate(f"""(began) => new Promise((go) => {{
        const ask = () => ({condition}) ? go((performance.now() - began) / 1000) : setTimeout(ask, 5)
        ask()
    }})""", began)


def measure(browser, side, quality, folder):
    pictures = triple(side)
    widget, make = timed(lambda: compare(*pictures, quality=quality, view=dict(left="SR", right="HR")))
    _, show = timed(widget._repr_mimebundle_)
    path = widget.save_html(Path(folder)/f"{side}.html")
    page = browser.new_page(viewport=dict(width=1280, height=1000))
    page.set_default_timeout(600_000)
    page.goto(path.as_uri(), wait_until="commit")
    picture = since(page, OPENS, 0)
    first = since(page, "document.querySelector('.paintsr .score')", picture*1000)
    final = since(page, FINAL, picture*1000)
    page.evaluate(PAN)
    moved = page.evaluate("window.marks.moved")
    page.wait_for_timeout(50)   # the scores on show are those of the view before
    settled = since(page, FINAL, moved)
    heap = page.context.new_cdp_session(page).send("Runtime.getHeapUsage")
    fps = page.evaluate("window.marks.fps")
    page.close()
    return dict(side=side, make=make, display=show, page_mb=path.stat().st_size/1e6, first_picture=picture, first_scores=first,
                final_scores=final, fps=fps, scores_after_pan=settled, heap_mb=(heap["usedSize"] + heap.get("backingStorageSize", 0))/1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[2400])
    parser.add_argument("--quality", type=int)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    given = parser.parse_args()
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=given.chromium, args=FLAGS)
        rows = [measure(browser, side, given.quality, folder) for side in given.side]
        browser.close()
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|"*len(rows[0]))
    for row in rows: print("| " + " | ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()) + " |")


if __name__ == "__main__": main()
