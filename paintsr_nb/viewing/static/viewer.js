import { Blind } from "./blind.js"
import { Boxes } from "./boxes.js"
import { Brush } from "./drawing.js"
import { KEYS, MODES, button, h, keepKeys } from "./furniture.js"
import { Hands } from "./hands.js"
import { Loupe } from "./loupe.js"
import { OVERLAYS } from "./overlays.js"
import { keyOf, picturesOf, shared } from "./pictures.js"
import { Tools } from "./tools.js"

// One look at a widget: its elements, what it listens to, and how it draws. What it inherits: where the view lies on the stage, words, and hands.
export class Viewer extends Hands {
  constructor(el, model) {
    super()
    this.el = el
    this.model = model
    this.pictures = picturesOf(model)
    this.names = this.pictures.list.map(({ name }) => name)
    this.size = model.get("size")
    this.pointers = new Map()
    this.pointer = null   // device pixels on the stage
    this.ratio = 1        // device pixels per CSS pixel
    this.undo = new AbortController()
    this.brush = new Brush(this.pictures, this.size)
    this.loupe = new Loupe(this)
    this.boxes = new Boxes(this)
    this.blind = new Blind(this)
    this.tools = new Tools(this)
    this.build()
    this.listen()
    this.pictures.ready.then(
      () => this.open(),
      () => (this.note.textContent = "A picture could not be decoded by this browser."),
    )
  }

  build() {
    this.chips = ["left", "right"].map((side) => h("div", { class: `chips ${side}`, role: "group", "aria-label": `Picture on the ${side}` },
      this.names.map((name, at) => h("button", {
        type: "button", "aria-label": `${name} on the ${side}`, title: `${name} on the ${side} (${side === "left" ? "" : "Shift+"}${at + 1})`, "data-name": name,
        onclick: () => this.choose(side, name),
      }, h("kbd", { "aria-hidden": "true" }, at > 8 ? "" : `${side === "left" ? "" : "⇧"}${at + 1}`), name))))
    this.modes = MODES.filter(([mode]) => mode !== "grid" || this.names.length > 2).map(([mode, label, key]) => h("button", {
      type: "button", title: `${label} (${key})`, "data-mode": mode, onclick: () => this.enter(mode) }, label))
    this.scale = h("output", { class: "scale", title: "Device pixels per HR pixel" }, "–")
    this.handle = h("div", { class: "handle", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100" },
      h("span", { class: "knob", "aria-hidden": "true" }))
    this.canvas = h("canvas", { "aria-hidden": "true" })
    this.note = h("p", { class: "note" }, "Loading …")
    this.labels = h("div", { class: "labels", "aria-hidden": "true" })
    this.legend = h("div", { class: "legend" })
    this.stage = h("div", { class: "stage", tabindex: "0", role: "application", "aria-roledescription": "picture comparison",
      style: `height:${this.model.get("height")}px` }, this.canvas, this.note, this.labels, this.legend, this.handle, this.chips,
      this.loupe.spot, this.loupe.element)
    this.values = h("div", { class: "values" })
    this.scores = h("div", { class: "scores" })
    this.table = h("div", { class: "all" })
    this.toast = h("div", { class: "toast", role: "status", hidden: "" })
    this.status = h("div", { class: "aloud", role: "status", "aria-live": "polite" })
    this.overlays = this.pictures.truth ? Object.entries(OVERLAYS).map(([overlay, { label, key }]) => h("button", {
      type: "button", title: `${label} to ${this.pictures.truth} (${key})`, "data-overlay": overlay, onclick: () => this.lay(overlay) }, label)) : []
    this.magnify = button("Loupe", "All pictures of the spot under the pointer (l)", () => this.change({ loupe: this.loupe.next() }))
    this.bare = button("Hide", "Hide what lies on the picture (h)", () => this.hide())
    // The stage comes first, so that the first Tab reaches it; the style sheet puts the bar above it.
    this.root = h("div", { class: "paintsr" },
      this.stage,
      h("div", { class: "bar" }, h("div", { class: "modes", role: "group", "aria-label": "Mode" }, this.modes, this.magnify),
        h("div", { class: "zooms", role: "group", "aria-label": "Zoom and overlays" }, this.overlays, this.bare,
          button("Fit", "Fit the whole picture (0)", () => this.change({ zoom: "fit" })),
          button("1:1", "True pixels (p)", () => this.zoomTo(1)),
          button("−", "Zoom out (-)", () => this.step(-1)), this.scale, button("+", "Zoom in (+)", () => this.step(1)), this.tools.opener),
        this.tools.element),
      this.blind.element,
      h("div", { class: "foot" }, this.values, this.scores),
      this.table,
      h("div", { class: "keys" }, KEYS.map(([keys, what]) => h("span", {}, h("kbd", {}, keys), what))),
      this.status)
    this.stage.append(this.toast)
    keepKeys(this.root)
    this.el.append(this.root)
  }

  listen() {
    const on = (target, kinds, act, options = {}) => kinds.split(" ").forEach((kind) =>
      target.addEventListener(kind, act, { signal: this.undo.signal, ...options }))
    on(this.root, "keydown", (event) => this.key(event))
    on(this.root, "keyup", (event) => this.keyUp(event))
    on(this.root, "click", (event) => this.clicked(event))
    on(document, "fullscreenchange", () => this.root.classList.toggle("full", document.fullscreenElement === this.root))
    on(this.stage, "wheel", (event) => this.wheel(event), { passive: false })
    on(this.stage, "pointerdown", (event) => this.press(event))
    on(this.stage, "pointermove", (event) => this.move(event))
    on(this.stage, "pointerup pointercancel", (event) => this.release(event))
    on(this.stage, "pointerleave", (event) => this.leave(event))
    on(this.stage, "dblclick", (event) => this.twice(event))
    this.watch = new ResizeObserver((entries) => this.measureStage(entries[0]))
    try {
      this.watch.observe(this.canvas, { box: "device-pixel-content-box" })   // also told when the window moves to a finer screen
    } catch {
      this.watch.observe(this.canvas)
    }
    this.redraw = () => {
      if (this.opened) this.blind.follow()
      this.pictures.waiting.clear()   // while the view moves, drawing comes before measuring
      clearTimeout(this.scoring)
      this.scoring = null
      this.later()
    }
    this.model.on("change:view", this.redraw)
    this.told = (what) => (what === "tile" ? this.later() : this.showScores())
    this.pictures.listeners.add(this.told)
  }

  open() {
    this.note.remove()
    this.opened = true
    this.blind.follow()
    this.later()
  }

  close() {
    this.undo.abort()
    this.watch.disconnect()
    this.model.off("change:view", this.redraw)
    this.pictures.listeners.delete(this.told)
    if (!this.pictures.listeners.size) shared.delete(keyOf(this.model))
    cancelAnimationFrame(this.waiting)
    clearTimeout(this.scoring)
    clearTimeout(this.speaking)
    clearTimeout(this.saying)
    this.root.remove()
  }

  // ---------------------------------------------------------------- drawing
  measureStage(entry) {
    const box = entry.devicePixelContentBoxSize?.[0]
    const ratio = window.devicePixelRatio || 1
    const width = Math.round(box?.inlineSize ?? entry.contentRect.width * ratio)
    const height = Math.round(box?.blockSize ?? entry.contentRect.height * ratio)
    if (!width || !height) return
    this.ratio = width / entry.contentRect.width
    Object.assign(this.canvas, { width, height })
    const [before, beside] = this.model.get("frame")
    if (before !== width || beside !== height) {
      this.model.set("frame", [width, height])
      this.model.save_changes()
    }
    this.draw()
  }

  later() {
    cancelAnimationFrame(this.waiting)
    this.waiting = requestAnimationFrame(() => this.draw())
  }

  draw() {
    if (!this.opened || !this.canvas.width || !this.root.isConnected) return
    const { view, frame: [width, height], pane } = this
    this.context ??= this.canvas.getContext("2d", { alpha: true })
    this.context.clearRect(0, 0, width, height)
    const cut = Math.round(view.split * width)
    const region = this.region
    this.shown.forEach((name, at) => {
      const corner = this.corner(at)
      const [from, to] = view.mode === "wipe" ? [[0, cut], [cut, width]][at] : [corner[0], corner[0] + pane[0]]
      const picture = this.pictures.named(name)
      const [left, top] = this.origin(corner, this.offsetOf(name))
      const place = { zoom: this.zoom, left, top, box: [from, corner[1], to, corner[1] + pane[1]] }
      this.brush.paint(this.context, picture, { ...place, region: this.unscored(picture) ? null : region }, view)
      const [x, y] = this.origin(corner)
      const box = view.mode === "wipe" ? [0, 0, width, height] : place.box
      if (view.mode !== "wipe" || at) this.boxes.draw(this.context, { ...place, left: x, top: y, box })
    })
    if (this.overview) this.drawOverview(region)
    this.loupe.draw()
    this.label()
    this.showValues()
    this.scoring ??= setTimeout(() => this.showScores(), 30)
  }

  // The whole picture, and a frame about what the strip shows of it.
  drawOverview({ top, left, height, width }) {
    const { overview, context, view } = this
    this.brush.paint(context, this.pictures.named(view.left), overview, view)
    this.boxes.draw(context, overview)
    const edges = [overview.left + left * overview.zoom, overview.top + top * overview.zoom, width * overview.zoom, height * overview.zoom].map(Math.round)
    for (const [colour, thick] of [["#000", 4], ["#ffd83d", 2]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: thick * this.ratio })
      context.strokeRect(...edges)
    }
  }
}
