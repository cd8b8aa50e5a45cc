"""The site: what of a notebook becomes a page, and whether a reader finds his way.

Not a notebook because it builds files from all notebooks; the tool is tools/docs.py.
"""
import functools, http.server, json, sys, threading
from pathlib import Path

import pytest

from test_browser import browser  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import docs  # noqa: E402

sys.path.pop(0)
CELLS = [
    ("markdown", "# toy\n\n> One line"),
    ("code", "#| default_exp resize"),
    ("markdown", "Costs $x^2$, not `$5`: see [tiles](../upscaling/40_tiles.ipynb#the-plan). [![Badge](https://a.b/c.svg)](https://a.b/)"),
    ("code", "#| export\ndef shrink(pixels): ..."),
    ("code", "#| hide\nsecret = 1"),
    ("code", "print('seen')", dict(output_type="stream", name="stdout", text=["seen\n"]),
     dict(output_type="stream", name="stderr", text=["never"]),
     dict(output_type="display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Sheet>"}),
     dict(output_type="execute_result", data={"text/html": "<table>\n\n<tr><td>7</table>", "text/plain": "frame"})),
]


@pytest.fixture
def page(tmp_path):
    "The Markdown of a made notebook, and its folder."
    cells = [dict(cell_type=kind, source=[source], **(dict(outputs=outputs) if kind == "code" else {})) for kind, source, *outputs in CELLS]
    (tmp_path/"toy.ipynb").write_text(json.dumps(dict(cells=cells)))
    return "\n\n".join(docs.as_markdown(tmp_path/"toy.ipynb", tmp_path)), tmp_path


def test_a_page_has_what_a_reader_needs_and_no_more(page):
    text, folder = page
    assert "secret" not in text and "never" not in text and "#|" not in text and "<Sheet>" not in text and "frame" not in text
    assert "<math" in text and "`$5`" in text and "(../upscaling/40_tiles.md#the-plan)" in text
    assert "[Badge](https://a.b/)" in text
    assert "{ .python .exported }\ndef shrink" in text and "| **Returns** |" in text   # the table is of the module's own `shrink`
    assert "{ .text .output }\nseen" in text and "<table>\n<tr><td>7</table>" in text
    assert (folder/"toy_5_2.png").read_bytes() == b"\x89PNG\r\n\x1a\n"


def test_code_with_fences_stays_code(): assert docs.fenced("a\n```\nb").startswith("````\n")


def test_a_broken_link_stops_the_build(tmp_path, monkeypatch):
    (tmp_path/"nbs").mkdir()
    for name, link in (("index", "01_next.ipynb"), ("01_next", "02_gone.ipynb")):
        cell = dict(cell_type="markdown", source=[f"# {name}\n\n[on]({link})"])
        (tmp_path/"nbs"/f"{name}.ipynb").write_text(json.dumps(dict(cells=[cell])))
    monkeypatch.setattr(docs, "NOTEBOOKS", tmp_path/"nbs")
    monkeypatch.setattr(docs, "TEXTS", {})
    with pytest.raises(SystemExit, match='02_gone.md'): docs.build(tmp_path/"site", gallery=())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The address of the whole site, served."
    out = docs.build(tmp_path_factory.mktemp("site")/"out", gallery=["pagoda"])
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(out))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.browser
@pytest.mark.slow
def test_the_site_is_whole(site, browser):  # noqa: F811
    "Every notebook is a page; search finds; the viewer lives; a phone has room; dark is dark; nothing is asked of another host."
    with browser.new_context(viewport=dict(width=390, height=800), color_scheme="dark") as context:
        page, errors, asked = context.new_page(), [], []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        for path in docs.pages():
            response = page.goto(site + str(path.relative_to(docs.NOTEBOOKS).with_suffix(".html")))
            assert response.ok and page.locator("h1").count() >= 1, path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than a phone"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(level => level < 80)")
        page.goto(site + "gallery/index.html")
        page.locator("summary").first.click()
        page.frame_locator("iframe").first.locator(".paintsr canvas").first.wait_for()
        page.set_viewport_size(dict(width=1280, height=900))
        page.locator("input.md-search__input").click()
        page.keyboard.type("back-projection")
        page.locator(".md-search-result__item a[href*='02_resize']").first.wait_for()
        assert not errors and all(url.startswith((site, "data:", "blob:")) for url in asked), (errors, asked)
