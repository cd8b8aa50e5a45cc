"""The widgets where they live: in JupyterLab 4, in Notebook 7, and by the contract of Colab.

Not a notebook because it needs a browser and servers; what the widgets are for is shown in nbs/viewing.
"""
import ast, importlib, io, json, os, pkgutil, re, shutil, socket, subprocess, sys, time
from base64 import b64encode
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import anywidget
import numpy as np
import pytest
from ipywidgets.widgets.widget import _remove_buffers
from PIL import Image

import paintsr_nb.viewing
from paintsr_nb.viewing.compare import compare
from test_browser import OPEN, PATIENCE, browser, expected_canvas, make_pictures   # noqa: F401, because `browser` is a fixture

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent
VIEW = "application/vnd.jupyter.widget-view+json"
APPS = dict(lab="jupyterlab", notebook="notebook")   # how each front end is started


# ---------------------------------------------------------------- every widget of the package

def widgets():
    "The names of all widgets in `paintsr_nb.viewing`, so that none is forgotten here."
    for module in pkgutil.iter_modules(paintsr_nb.viewing.__path__): importlib.import_module(f"paintsr_nb.viewing.{module.name}")
    found, kinds = [], [anywidget.AnyWidget]
    while kinds:
        kind = kinds.pop()
        below = [one for one in kind.__subclasses__() if one.__module__.startswith("paintsr_nb.")]
        if kind.__module__.startswith("paintsr_nb.") and not below: found.append(kind.__name__)
        kinds += kind.__subclasses__()
    return sorted(set(found))


# What makes each, as a cell: `folder` is an empty folder, and the last line is the widget.
MADE = dict(
    Compare="""
from test_browser import make_large
from paintsr_nb.viewing.compare import compare
low, sr, high = make_large()
compared = compare(low, dict(SR=sr, other=sr[::-1].copy()), high, height=300, view=dict(left="SR", right="HR"))
compared
""",
    Explorer="""
from test_browser import make_pictures
from paintsr_nb.picture import write_picture
from paintsr_nb.viewing.explore import explore
for number in range(3):
    low, sr, high = (pixels[number:][:32*n, :32*n].copy() for n, pixels in zip((1, 4, 4), make_pictures()))
    for name, pixels in dict(low=low, ours=sr, plain=sr//2, high=high).items(): write_picture(folder/name/f"p{number}.png", pixels)
explorer = explore([folder/"ours", folder/"plain"], folder/"high", folder/"low", notes=folder/"notes.csv")
explorer
""",
    RunExplorer="""
from test_explore import write_run
from paintsr_nb.viewing.explore import explore
write_run(folder/"run", [0.2, 0.5, 0.4])
runs = explore(folder/"run")
runs
""",
    TextureSlider="""
import torch
from test_browser import make_pictures
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.viewing.live import texture_slider
torch.manual_seed(0)
nets = [make_generator("compact", num_filters=8, num_blocks=1) for _ in range(2)]
slider = texture_slider(make_pictures()[0], *nets, region=(0, 0, 16, 16))
slider
""",
)
PLACE = dict(   # where each is on the page
    Compare=".paintsr:has(> * [data-name=other])",
    Explorer=".explorer:has(.said)",
    RunExplorer=".explorer.runs:not(.texture)",
    TextureSlider=".explorer.texture",
)


def use_compare(front, viewer):
    front.do("compared.view = dict(left='SR', right='HR', zoom=1, x=700, y=580, split=0)")
    viewer.locator(".scores:not(:has-text('≈')) .score").first.wait_for()   # exact, so its tiles came from the kernel
    pixel = viewer.locator(".stage > canvas").evaluate("canvas => [...canvas.getContext('2d').getImageData(canvas.width/2, 150, 1, 1).data]")[:3]
    assert front.until("compared.sources['HR'][580, 700].tolist()", pixel)
    stage = viewer.locator(".stage")
    stage.focus()
    stage.press("s")
    assert front.until("compared.view['mode']", "side")
    stage.press("Shift+Digit3")
    assert front.until("compared.view['right']", "other")
    front.do("compared.view = dict(mode='flip', left='HR', zoom=3)")
    front.shows(viewer.locator(".scale"), "300 %")
    front.shows(viewer.locator(".chips.left [aria-pressed=true]"), "HR")


def use_explorer(front, table):
    table.locator("tr[data-id=p1] th button").click()
    assert front.until("explorer.chosen", "p1")
    front.shows(table.locator(".status"), "p1, where the methods differ most")
    front.shows(table.locator(".place .score").first, "dB")
    note = table.locator("tr[data-id=p2] input")
    note.click()
    front.page.keyboard.type("00 dark, b m")   # JupyterLab's own shortcuts would restart the kernel (0 0), or write a cell above (b)
    front.page.keyboard.press("Tab")
    assert front.until("explorer.notes", dict(p2="00 dark, b m"))
    assert front.until("(folder/'notes.csv').read_text()", "picture,note\np2,\"00 dark, b m\"\n")
    front.do("explorer.chosen = 'p0'\nexplorer.notes = {**explorer.notes, 'p0': 'from Python'}")
    front.shows(table.locator(".status"), "p0, where the methods differ most")
    front.page.wait_for_function("document.querySelector('tr[data-id=p0] input').value === 'from Python'")


def use_runs(front, runs):
    front.shows(runs.locator("figcaption"), "epoch 1")   # the best
    runs.get_by_role("slider").press("ArrowRight")
    assert front.until("runs.step", 2)
    front.do("runs.step = 0")
    front.shows(runs.locator("figcaption"), "epoch 0")
    runs.locator("img[data-step='0']").wait_for()


def use_texture(front, texture):
    texture.get_by_role("slider").press("End")
    assert front.until("(slider.share, slider.shown)", (1, 1))
    front.shows(texture.locator(".status"), "100 % of B")
    front.do("slider.share = 0")
    front.shows(texture.locator(".status"), "0 % of B")
    blend = texture.locator("img[alt^=Between]")
    blend.scroll_into_view_if_needed()
    box = blend.bounding_box()
    front.page.mouse.move(box["x"] + box["width"]*0.75, box["y"] + box["height"]/2)
    front.page.mouse.down()
    front.page.mouse.move(box["x"] + box["width"]/4, box["y"] + box["height"]/2, steps=3)
    front.page.mouse.up()
    assert front.until("slider.corner", [8, 0])   # half of 16 LR pixels


USED = dict(Compare=use_compare, Explorer=use_explorer, RunExplorer=use_runs, TextureSlider=use_texture)


def test_no_widget_is_forgotten():
    for table in (MADE, PLACE, USED): assert sorted(table) == widgets()


# ---------------------------------------------------------------- the contract of Colab

# What anywidget's own front end stands on in Colab: models with attributes and events, views with an element. `tell` is the kernel.
BASE = """(() => {
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer)
class Events {
    heard = []
    on(events, act, context) { for (const event of events.split(" ")) this.heard.push({ event, act, context }) }
    once(event, act) { this.on(event, act) }
    off(event, act, context) {
        this.heard = this.heard.filter((one) => (event && one.event !== event) || (act && one.act !== act) || (context && one.context !== context))
    }
    trigger(event, ...given) { for (const one of [...this.heard]) if (one.event === event) one.act.call(one.context, ...given) }
}
class DOMWidgetModel extends Events {
    constructor(state) { super(); this.state = state; this.changed = {}; this.initialize() }
    initialize() {}
    get(name) { return this.state[name] }
    set(name, value) {
        const same = Object.is(this.state[name], value) || (JSON.stringify(value) === JSON.stringify(this.state[name]) && value?.byteLength === undefined)
        this.state[name] = value
        if (same) return
        this.changed[name] = value
        this.trigger(`change:${name}`, this, value)
        this.trigger("change", this)
    }
    save_changes() {
        const state = this.serialize({ ...this.changed })
        this.changed = {}
        this.tell({ method: "update", state, buffer_paths: [] })
    }
    send(content) { this.tell({ method: "custom", content }) }
    tell(message) { window.tell(message).then((answers) => this.take(answers)) }
    take(messages) {
        for (const { data, buffers } of messages) {
            const parts = buffers.map(bytes)
            if (data.method === "custom") this.trigger("msg:custom", data.content, parts)
            if (data.method !== "update") continue
            data.buffer_paths.forEach(([name, ...path], at) => put(data.state, [name, ...path], parts[at]))
            for (const [name, value] of Object.entries(data.state)) { this.set(name, value); delete this.changed[name] }
        }
    }
}
class DOMWidgetView extends Events {
    constructor(model) { super(); this.model = model; this.el = document.createElement("div"); this.$el = { empty: () => this.el.replaceChildren() } }
    remove() { this.el.remove() }
}
function put(state, path, value) {
    for (const step of path.slice(0, -1)) state = state[step]
    state[path.at(-1)] = value
}
window.define = (needs, make) => { window.front = make({ DOMWidgetModel, DOMWidgetView }) }
window.start = ({ data, buffers }) => {
    data.buffer_paths.forEach((path, at) => put(data.state, path, bytes(buffers[at])))
    window.model = new window.front.AnyModel(data.state)
}
window.display = async () => {
    const view = new window.front.AnyView(window.model)
    document.body.append(view.el)
    await view.render()
    return view
}
window.touched = []   // what only a Jupyter page has
for (const name of ["jupyterapp", "jupyterlab", "Jupyter", "IPython", "require", "requirejs"])
    Object.defineProperty(window, name, { get() { window.touched.push(name) } })
})()"""


class Colab:
    "A cell's output as Colab shows it: a page of its own, anywidget's front end, and messages to the kernel, which is this process."
    def __init__(self, browser, widget, space=None):
        self.widget, self.space, self.said, self.errors, self.asked = widget, space, [], [], []
        widget._send = lambda data, buffers=None: self.said.append((data, buffers))
        self.page = browser.new_page(viewport=dict(width=900, height=900))
        self.page.set_default_timeout(PATIENCE)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.expose_function("tell", self.hear)
        self.page.goto("about:blank")
        self.page.evaluate(BASE)
        self.page.add_script_tag(path=Path(anywidget.__file__).parent/"nbextension"/"index.js", type="module")
        self.page.wait_for_function("window.front")
        state, paths, buffers = _remove_buffers(self.widget.get_state())
        self.page.evaluate("start", self.written(dict(state=state, buffer_paths=paths), buffers))
        self.page.evaluate("display()")

    def written(self, data, buffers): return dict(data=data, buffers=[b64encode(part).decode() for part in buffers or []])

    def hear(self, message):
        "A message from the browser; what the kernel says to it."
        self.widget._handle_msg(dict(content=dict(data=message), buffers=[]))
        return self.answers()

    def answers(self):
        if hasattr(self.widget, "wait"): assert self.widget.wait()
        said, self.said[:] = list(self.said), []
        return [self.written(*one) for one in said]

    def do(self, code):
        exec(code, self.space)
        self.page.evaluate("messages => model.take(messages)", self.answers())

    def until(self, code, right):
        "Does `code` become `right` in Python?"
        for _ in range(200):
            if eval(code, self.space) == right: return True
            self.page.wait_for_timeout(50)
        return False

    def shows(self, place, text): place.filter(has_text=text).first.wait_for()


@pytest.mark.parametrize("name", widgets())
def test_colab_shows_every_widget(browser, tmp_path, monkeypatch, name):   # noqa: F811
    output = ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: None   # anywidget calls it once
    output._widgets = SimpleNamespace(_installed_url="https://colab/manager.js")
    for module in (ModuleType("google.colab"), output): monkeypatch.setitem(sys.modules, module.__name__, module)
    space = dict(folder=tmp_path)
    *lines, variable = MADE[name].strip().splitlines()
    exec("\n".join(lines), space)
    front = Colab(browser, space[variable], space)
    data, metadata = front.widget._repr_mimebundle_()
    assert data[VIEW]["model_id"] == front.widget.model_id
    assert metadata[VIEW]["colab"]["custom_widget_manager"]["url"] == "https://colab/manager.js"   # by it a reopened notebook finds the manager
    assert not re.search(r"^\s*import\b(?!\()|\bfrom \"", front.widget._esm, re.MULTILINE)   # one module, which needs no other
    viewer = front.page.locator(PLACE[name])
    viewer.wait_for()
    USED[name](front, viewer)
    front.page.evaluate("display().then((view) => (window.second = view))")   # two outputs may show one widget
    front.page.wait_for_function("selector => document.querySelectorAll(selector).length === 2", arg=PLACE[name])
    front.page.evaluate("second.remove()")
    assert viewer.count() == 1
    assert front.page.evaluate("touched") == [] and front.errors == []
    assert [url for url in front.asked if not url.startswith(("about:", "blob:", "data:"))] == []
    front.page.close()


# ---------------------------------------------------------------- JupyterLab and Notebook

READY = """async () => {
    const until = async (ask) => { for (;;) { try { const answer = await ask(); if (answer) return answer } catch {} await new Promise(go => setTimeout(go, 50)) } }
    const session = await until(() => jupyterapp.shell.currentWidget.sessionContext)
    await session.ready
    await until(() => session.session.kernel)
    await session.session.kernel.info
    window.kernel = session.session.kernel
}"""
ASK = """async (code) => {
    let text = ""
    const future = window.kernel.requestExecute({ code })
    future.onIOPub = ({ header, content }) => {
        if (header.msg_type === "stream") text += content.text
        if (header.msg_type === "error") text += content.traceback.join("\\n")
    }
    await future.done
    return text
}"""


class Server:
    "JupyterLab or Notebook on a free port, in a folder of its own."
    def __init__(self, app, folder):
        self.app, self.work, self.log = app, folder/"work", folder/"log"
        self.work.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        places = {f"JUPYTER_{name}_DIR": str(folder/name) for name in ("CONFIG", "RUNTIME", "DATA")}
        places |= {f"JUPYTERLAB_{name}_DIR": str(folder/name) for name in ("SETTINGS", "WORKSPACES")}
        environment = {**os.environ, **places, "IPYTHONDIR": str(folder/"ipython"), "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)])}
        options = ["--allow-root", "--no-browser", "--IdentityProvider.token=T", "--expose-app-in-browser", "--LabApp.news_url=None",
                   f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.work}"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", APPS[app], *options], env=environment, stdout=log, stderr=log)
        self.wait()

    def wait(self):
        for _ in range(1200):
            if self.process.poll() is not None: break
            try: return urlopen(f"{self.home}/api?token=T").close()
            except (URLError, ConnectionError): time.sleep(0.1)
        raise AssertionError(f"{self.app} did not start:\n{self.log.read_text()[-2000:]}")

    @property
    def home(self): return f"http://127.0.0.1:{self.port}"

    def address(self, name): return f"{self.home}/{dict(lab='lab/tree', notebook='notebooks')[self.app]}/{name}?token=T&reset"

    def write(self, name, cells):
        cells = [dict(cell_type="code", id=f"cell-{at}", metadata={}, execution_count=None, outputs=[], source=text.strip()) for at, text in enumerate(cells)]
        kernel = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
        (self.work/name).write_text(json.dumps(dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)))

    def close(self):
        self.process.terminate()   # it ends its kernels, too
        try: self.process.wait(60)
        except subprocess.TimeoutExpired: self.process.kill()


class Notebook:
    "A notebook open in the browser, whose cells were run; `shown` are selectors of what they show."
    def __init__(self, browser, server, name, shown):
        self.server, self.name, self.shown, self.errors, self.asked = server, name, shown, [], []
        self.page = browser.new_page(viewport=dict(width=1300, height=900), device_scale_factor=1)
        self.page.set_default_timeout(PATIENCE)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.address(name))
        self.page.evaluate(READY)
        for _ in range(3):
            self.errors.clear()
            if self.runs(): return
        raise AssertionError(f"{shown} do not show: {self.errors}")

    def runs(self):
        "Run the notebook and wait; false where a widget failed: anywidget gives it 2 s to begin, which a busy machine may miss."
        self.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
        for _ in range(PATIENCE//100):
            if all(self.page.locator(one).count() for one in self.shown): return True
            if any("anywidget" in error for error in self.errors): return False
            self.page.wait_for_timeout(100)
        return False

    def ask(self, code):
        "What the kernel prints, as a Python value."
        text = self.page.evaluate(ASK, code)
        try: return ast.literal_eval(text)
        except (SyntaxError, ValueError): raise AssertionError(text) from None

    def do(self, code): assert self.page.evaluate(ASK, code) == ""

    def waited(self, code, right):
        "The value of `code` in the kernel once it is `right`, or the last one after 20 s."
        for _ in range(200):
            answer = self.ask(f"print(repr({code}))")
            if right(answer): return answer
            time.sleep(0.1)
        return answer

    def until(self, code, right):
        answer = self.waited(code, lambda answer: answer == right)
        assert answer == right, code
        return True

    def shows(self, place, text): place.filter(has_text=text).first.wait_for(timeout=20_000)

    def add(self, code):
        "A new cell below, run."
        self.page.evaluate("""async (code) => {
            const { content } = jupyterapp.shell.currentWidget
            content.activeCellIndex = content.widgets.length - 1
            await jupyterapp.commands.execute("notebook:insert-cell-below")
            content.activeCell.model.sharedModel.setSource(code)
            void jupyterapp.commands.execute("notebook:run-cell")
        }""", code)


@pytest.fixture(scope="module", params=APPS)
def server(request, browser, tmp_path_factory):   # noqa: F811
    name = APPS[request.param]
    pytest.importorskip(name, reason=f"left out: the widgets in {name}; it is missing (pip install {name})")
    running = Server(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    running.close()


CELL = """
from test_browser import make_pictures
from paintsr_nb.viewing.compare import compare
widget = compare(*make_pictures(), height=300)
seen = []
widget.observe(lambda change: seen.append(change["new"]), "view")
widget
"""


@pytest.fixture(scope="module")
def notebook(server, browser):   # noqa: F811
    server.write("w.ipynb", [CELL])
    opened = Notebook(browser, server, "w.ipynb", [".paintsr .score"])
    yield opened
    opened.page.close()


def test_the_browser_follows_python(notebook):
    frame = notebook.page.evaluate("(() => { const c = document.querySelector('.paintsr canvas'); return [c.width, c.height] })()")
    assert notebook.waited("widget.frame", lambda answer: answer == frame) == frame
    assert notebook.page.evaluate("getComputedStyle(document.querySelector('.paintsr .stage')).position") == "relative"   # its style sheet is there
    count = notebook.ask("widget.view = dict(zoom=3, x=111, y=50, right='HR')\nprint(len(seen))")
    notebook.page.wait_for_function("document.querySelector('.paintsr .scale').textContent === '300 %'")
    assert notebook.page.locator(".paintsr .chips.right [aria-pressed=true]").get_attribute("data-name") == "HR"
    time.sleep(0.5)
    assert notebook.ask("print(len(seen))") == count   # the browser answered nothing


def test_python_reads_what_the_hand_did(notebook):
    notebook.do("widget.view = dict(zoom=8, x=180, y=120, left='LR', right='SR', mode='wipe')")
    notebook.page.wait_for_function("document.querySelector('.paintsr .scale').textContent === '800 %'")
    box = notebook.page.locator(".paintsr .stage > canvas").bounding_box()
    x, y = round(box["x"]) + 310, round(box["y"]) + 60   # a wheel event knows whole pixels only
    for step in (-3, 0): notebook.page.mouse.move(x + step, y)
    for _ in range(4): notebook.page.mouse.wheel(0, -120)
    view = notebook.waited("widget.view", lambda view: view["zoom"] > 18)
    assert view["zoom"] == pytest.approx(8*2**1.2)
    shift = 1/8 - 1/view["zoom"]
    assert view["x"] == pytest.approx(180 + (x - box["x"] - box["width"]/2)*shift, abs=0.01)
    assert view["y"] == pytest.approx(120 + (y - box["y"] - box["height"]/2)*shift, abs=0.01)


def test_python_reads_drags_and_keys(notebook):
    notebook.do("widget.view = dict(zoom=8, x=180, y=120, left='LR', right='SR', mode='flip')")
    notebook.page.wait_for_selector(".paintsr[data-mode=flip] .scale:has-text('800 %')")
    stage = notebook.page.locator(".paintsr .stage")
    box = stage.locator("> canvas").bounding_box()
    x, y = round(box["x"]) + 310, round(box["y"]) + 60
    notebook.page.mouse.move(x, y)
    notebook.page.mouse.down()
    notebook.page.mouse.move(x - 80, y + 40, steps=2)
    notebook.page.mouse.up()
    view = notebook.waited("widget.view", lambda view: view["y"] < 118)
    assert (view["x"], view["y"]) == (180 + 80/8, 120 - 40/8)
    for key in ("-", "Digit3", "ArrowRight"): stage.press(key)
    view = notebook.waited("widget.view", lambda view: view["x"] > 200)
    width, _ = notebook.ask("print(widget.frame)")
    assert (view["zoom"], view["left"], view["x"]) == (6, "HR", pytest.approx(190 + width/8/6))


def test_what_is_seen_is_the_picture(notebook):
    own = compare(*make_pictures(), view=dict(mode="flip", left="HR", zoom=4, x=180, y=120))
    notebook.do(f"widget.view = {own.view}")
    notebook.page.wait_for_selector(".paintsr[data-mode=flip] .chips.left [data-name=HR][aria-pressed=true]")
    notebook.page.wait_for_selector(".paintsr .scale:has-text('400 %')")
    own.frame = notebook.ask("print(widget.frame)")
    shot = notebook.page.locator(".paintsr .stage > canvas").screenshot()
    seen = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))[:own.frame[1], :own.frame[0]].astype(int)
    far = np.abs(seen - expected_canvas(own, 1))[60:].max(-1) > 2   # names lie on the upper rows
    assert far.mean() < 0.01


def test_keys_stay_in_the_viewer(notebook):
    "JupyterLab's own shortcuts would make the cell a heading (1), Markdown (m) or restart the kernel (0 0)."
    box = notebook.page.locator(".paintsr .stage > canvas").bounding_box()
    notebook.page.mouse.click(box["x"] + 50, box["y"] + 250)
    for key in ("Digit3", "Shift+Digit2", "m", "0", "0", "s"): notebook.page.keyboard.press(key)
    view = notebook.waited("widget.view", lambda view: view["mode"] == "side")
    assert (view["mode"], view["left"], view["right"], view["zoom"]) == ("side", "HR", "SR", "fit")
    assert notebook.page.evaluate("jupyterapp.shell.currentWidget.content.widgets[0].model.type") == "code"
    assert notebook.page.locator(".jp-Dialog").count() == 0


def test_answers_of_a_blind_test_arrive_in_python(notebook):
    notebook.do("widget.view = dict(blind=True, mode='side')")
    notebook.page.get_by_role("button", name="A", exact=True).click()
    notebook.page.wait_for_selector(".ask:has-text('1 answered')")
    answer, = notebook.waited("widget.answers", bool)
    assert answer["better"] == answer["first"] and {answer["first"], answer["second"]} == {"LR", "SR"}
    notebook.do("widget.view = dict(blind=False)")
    notebook.page.wait_for_selector(".ask table")
    assert notebook.ask("print(widget.preferences()['better'].sum())") == 1


def test_two_views_share_one_look(notebook):
    count = notebook.ask("widget.view = dict(mode='wipe', zoom=2)\nprint(len(seen))")
    notebook.add("widget")
    notebook.page.wait_for_function("document.querySelectorAll('.paintsr .score').length > 1")
    notebook.do("widget.view = dict(zoom=5)")
    notebook.page.wait_for_function("[...document.querySelectorAll('.paintsr .scale')].every(scale => scale.textContent === '500 %')")
    time.sleep(0.5)
    assert notebook.ask("print(len(seen))") == count + 1   # neither view answers the other


def test_a_notebook_opened_again_shows_the_viewer(notebook, browser):   # noqa: F811
    "The saved output names no widget, so there is none to be missed."
    notebook.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    for _ in range(100):
        saved = json.loads((notebook.server.work/"w.ipynb").read_text())
        if saved["cells"][0]["outputs"]: break
        time.sleep(0.1)
    data = saved["cells"][0]["outputs"][-1]["data"]
    assert set(data) == {"text/plain", "image/jpeg", "text/html"}
    shutil.copy(notebook.server.work/"w.ipynb", notebook.server.work/"again.ipynb")
    page = browser.new_page(viewport=dict(width=1300, height=900))
    page.set_default_timeout(PATIENCE)
    page.goto(notebook.server.address("again.ipynb"))
    page.wait_for_function(OPEN)
    assert "model not found" not in page.locator("body").inner_text()
    page.close()


MODES = [   # what a hand presses in the viewer, what Python then reads; what Python sets, what the viewer then shows
    ("g", dict(mode="grid"), dict(mode="grid"), ".paintsr[data-mode=grid] .labels span:has-text('HR')"),
    ("f", dict(mode="flip"), dict(mode="flip", left="HR"), ".paintsr[data-mode=flip] .chips.left [data-name=HR][aria-pressed=true]"),
    ("t", dict(mode="strip"), dict(mode="strip", left="SR"), ".paintsr[data-mode=strip] .labels span:has-text('HR')"),
    ("l", dict(loupe=4), dict(loupe=8), ".paintsr .loupe canvas"),
    ("d", dict(overlay="difference"), dict(overlay="difference"), ".paintsr .legend:has-text('32 levels and more')"),
    ("m", dict(overlay="ssim"), dict(overlay="ssim"), ".paintsr .legend:has-text('SSIM 1')"),
    ("z", dict(blind=True), dict(blind=True), ".paintsr .ask:has-text('answered')"),
]


@pytest.mark.parametrize("key, read, told, shown", MODES, ids=lambda value: value if isinstance(value, str) and len(value) == 1 else "")
def test_every_mode_both_ways(notebook, key, read, told, shown):
    start = "widget.view = dict(mode='wipe', left='SR', right='HR', zoom=2, x=180, y=120, loupe=0, overlay='', blind=False)"
    stage = notebook.page.locator(".paintsr .stage").first
    for way in ("hand", "Python"):
        notebook.do(start)
        notebook.page.wait_for_selector(".paintsr[data-mode=wipe] .chips.left [data-name=SR][aria-pressed=true]")
        notebook.page.locator(shown).first.wait_for(state="hidden", timeout=20_000)   # what the way before has shown
        if way == "hand":
            stage.hover()
            stage.focus()
            stage.press(key)
            view = notebook.waited("widget.view", lambda view: read.items() <= view.items())
            assert read.items() <= view.items()
        else: notebook.do(f"widget.view = {told}")
        if way == "Python" or read == told: notebook.page.locator(shown).first.wait_for(timeout=20_000)
    notebook.do(start)


@pytest.mark.parametrize("name", widgets())
def test_every_widget_answers_hand_and_python(notebook, name):
    notebook.add("from pathlib import Path\nimport tempfile\nfolder = Path(tempfile.mkdtemp(dir='.'))" + MADE[name])
    viewer = notebook.page.locator(PLACE[name])
    viewer.wait_for()
    USED[name](notebook, viewer)


def test_a_preview_opens_in_the_viewer(notebook):
    notebook.add("""from test_browser import make_pictures
from paintsr_nb.viewing.live import preview
seen = preview(make_pictures()[0], ["bicubic", "lanczos"], region=(8, 8, 40, 60))
previewed = seen.compare()
previewed""")
    viewer = notebook.page.locator(".paintsr:has(> * [data-name=lanczos])")
    viewer.locator(".stage").focus()
    viewer.locator(".stage").press("Digit3")
    notebook.until("previewed.view['left']", "lanczos")
    notebook.do("previewed.view = dict(zoom=3)")
    notebook.shows(viewer.locator(".scale"), "300 %")
    notebook.add("print(seen)\nseen.figure()")
    notebook.page.locator(".jp-OutputArea-output:has-text('megapixels')").wait_for(timeout=20_000)
    notebook.page.locator(".jp-RenderedImage img").wait_for(timeout=20_000)


def test_nothing_went_wrong_and_nobody_else_was_asked(notebook):
    "The last of these tests, so that it tells of all of them."
    assert notebook.errors == []
    assert [url for url in notebook.asked if not url.startswith((notebook.server.home, "blob:", "data:"))] == []
