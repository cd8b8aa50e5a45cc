import { Blind } from "./blind.js"
import { Boxes } from "./boxes.js"
import { Brush } from "./drawing.js"
import { KEYS, MODES, button, decibel, h, keepKeys, percent, writes } from "./furniture.js"
import { GAP, LEAST, MOST, clamp, columnsOf, paneOf, regionOf, startOf, zoomOf } from "./geometry.js"
import { Loupe } from "./loupe.js"
import { HEAT, OVERLAYS } from "./overlays.js"
import { keyOf, picturesOf, shared } from "./pictures.js"
import { tooLarge } from "./scores.js"
import { Tools } from "./tools.js"

const LADDER = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
const HELD = 350   // milliseconds from which on a key counts as held

export class Viewer {
  constructor(el, model) {
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

  // ---------------------------------------------------------------- reading and writing the one view
  get view() {
    const view = this.model.get("view")
    return view.zoom === "fit" ? { ...view, x: this.size[0] / 2, y: this.size[1] / 2 } : view
  }

  get frame() {
    return [this.canvas.width, this.canvas.height]
  }

  get pane() {
    return paneOf(this.view, this.frame, this.size, this.names.length)
  }

  get zoom() {
    return zoomOf(this.view, this.frame, this.size, this.names.length)
  }

  // Names of the pictures on the stage, in the order of the panes.
  get shown() {
    const { mode, left, right } = this.view
    return mode === "grid" || mode === "strip" ? this.names : mode === "flip" ? [left] : [left, right]
  }

  get region() {
    return regionOf(this.view, this.frame, this.size, this.names.length)
  }

  zoomOf(view) {
    return zoomOf(view, this.frame, this.size, this.names.length)
  }

  // What a picture is called on the screen.
  called(name) {
    return this.blind.on ? this.blind.letter(name) : name
  }

  // How far a picture was moved, in HR pixels.
  offsetOf(name) {
    return this.view.offsets[name] ?? [0, 0]
  }

  // Why a picture has no score here, or "".
  unscored(picture) {
    const [across, down] = this.offsetOf(picture.name)
    return this.pictures.unscored(picture) || (across || down ? `was moved by ${across}, ${down}` : "")
  }

  // Is there more of the picture than the pane shows?
  get larger() {
    return this.pane.some((side, axis) => this.size[axis] * this.zoom > side + 1)
  }

  change(part) {
    const view = { ...this.view, ...part }
    const zoom = zoomOf(view, this.frame, this.size, this.names.length)
    const pane = paneOf(view, this.frame, this.size, this.names.length)
    if (["x", "y", "zoom", "mode"].some((key) => key in part))
      ["x", "y"].forEach((key, axis) => {
        const reach = pane[axis] / zoom / 2, side = this.size[axis]
        view[key] = view.zoom === "fit" || 2 * reach >= side ? side / 2 : clamp(view[key], reach, side - reach)
      })
    view.split = clamp(view.split, 0, 1)
    this.model.set("view", view)
    this.model.save_changes()
  }

  // Patches are worth a strip when they are magnified.
  enter(mode) {
    this.change(mode === "strip" && this.zoomOf({ ...this.view, mode }) < 2 ? { mode, zoom: 4, x: this.view.x, y: this.view.y } : { mode })
  }

  choose(side, name) {
    if (!name) return
    const other = side === "left" ? "right" : "left"
    const part = { [side]: name }
    if (this.view[other] === name) part[other] = this.view[side]
    this.change(part)
  }

  swap() {
    this.change({ left: this.view.right, right: this.view.left })
  }

  lay(overlay) {
    this.change({ overlay: this.view.overlay === overlay ? "" : overlay })
  }

  hide() {
    const bare = this.root.toggleAttribute("data-bare")
    this.bare.setAttribute("aria-pressed", bare)
  }

  pan(across, down) {
    if (!this.larger) return   // nothing to move, and "fit" stays what it is
    const { x, y } = this.view
    this.change({ x: x + across / this.zoom, y: y + down / this.zoom, zoom: this.zoom })
  }

  // The HR point under `from` (device pixels on the stage; null: the centre) comes to lie under `to`.
  zoomTo(zoom, from = null, to = from) {
    const old = this.zoom
    const least = Math.max(LEAST, Math.min(1, zoomOf({ ...this.view, zoom: "fit" }, this.frame, this.size, this.names.length)) / 2)
    zoom = clamp(zoom, Math.min(least, old), MOST)
    const [before, after] = from ? [this.fromCentre(from), this.fromCentre(to, from)] : [[0, 0], [0, 0]]
    this.change({ zoom, x: this.view.x + before[0] / old - after[0] / zoom, y: this.view.y + before[1] / old - after[1] / zoom })
  }

  step(direction) {
    const now = this.zoom
    const steps = direction > 0 ? LADDER.filter((zoom) => zoom > now * 1.001) : LADDER.filter((zoom) => zoom < now * 0.999).reverse()
    if (steps.length) this.zoomTo(steps[0])
  }

  // Left and top edge of the pane with this number.
  corner(number) {
    const columns = columnsOf(this.view, this.frame, this.size, this.names.length)
    const [width, height] = this.pane
    if (this.view.mode === "wipe") return [0, 0]
    if (this.view.mode === "strip") return [number * (width + GAP), this.frame[1] - height]
    return [(number % columns) * (width + GAP), Math.floor(number / columns) * (height + GAP)]
  }

  paneUnder([across, down]) {
    const columns = columnsOf(this.view, this.frame, this.size, this.names.length)
    const [column, row] = [across, down].map((place, axis) => Math.max(0, Math.floor(place / (this.pane[axis] + GAP))))
    if (this.view.mode === "strip") return Math.min(column, columns - 1)
    return this.view.mode === "wipe" ? 0 : clamp(Math.min(column, columns - 1) + columns * row, 0, this.shown.length - 1)
  }

  get middle() {
    return this.corner(0).map((edge, axis) => edge + this.pane[axis] / 2)
  }

  fromCentre(place, within = place) {
    const corner = this.corner(this.paneUnder(within))
    return this.pane.map((side, axis) => place[axis] - corner[axis] - side / 2)
  }

  // Top left of the HR grid on the stage, in the pane that begins at `corner`; of a picture that was moved, its own.
  origin(corner, [across, down] = [0, 0]) {
    const centre = [this.view.x - across, this.view.y - down]
    return this.pane.map((side, axis) => corner[axis] + startOf(centre[axis], side, this.zoom))
  }

  // Above a strip lies the whole of the left picture; as `Brush.paint` wants it, or null.
  get overview() {
    if (this.view.mode !== "strip") return null
    const box = [0, 0, this.frame[0], this.corner(0)[1] - 4 * GAP]
    const zoom = Math.min(box[2] / this.size[0], box[3] / this.size[1])
    const [left, top] = this.size.map((side, axis) => Math.floor((box[axis + 2] - side * zoom) / 2))
    return { zoom, left, top, box }
  }

  isOverview(place) {
    return this.view.mode === "strip" && place[1] < this.corner(0)[1]
  }

  zoomAt(place) {
    return this.isOverview(place) ? this.overview.zoom : this.zoom
  }

  // The HR point under a place of the stage, in parts of pixels, and the place of an HR point in the first pane.
  hrUnder(place) {
    const { zoom, left, top } = this.isOverview(place) ? this.overview : { zoom: this.zoom }
    const begin = left === undefined ? this.origin(this.corner(this.paneUnder(place))) : [left, top]
    return place.map((at, axis) => (at - begin[axis]) / zoom)
  }

  onStage(point) {
    const begin = this.origin(this.corner(0))
    return point.map((at, axis) => begin[axis] + at * this.zoom)
  }

  // ---------------------------------------------------------------- hands
  place(event) {
    const box = this.canvas.getBoundingClientRect()
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio]
  }

  // A page that is being scrolled must not be caught by a picture that slides under a resting pointer: the wheel zooms once the pointer has moved here.
  wheel(event) {
    if (!this.pointer) return
    event.preventDefault()
    const lines = event.deltaMode === 1 ? 32 : event.deltaMode === 2 ? 400 : 1
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return this.pan(event.deltaX * lines, 0)
    const turn = clamp(event.deltaY * lines, -240, 240) * (event.ctrlKey ? 0.01 : 0.0025)
    const zoom = this.zoom * 2 ** -turn
    const passes = (zoom - 1) * (this.zoom - 1) < -1e-9   // stop once at exactly 100 %
    const place = this.place(event)
    this.zoomTo(passes ? 1 : zoom, this.isOverview(place) ? null : place)
  }

  press(event) {
    if (event.button > 0 || event.target.closest("button, input")) return
    event.preventDefault()
    this.stage.setPointerCapture(event.pointerId)
    const onHandle = event.target.closest(".handle")
    ;(onHandle ?? this.stage).focus({ preventScroll: true, focusVisible: false })
    const place = this.place(event)
    const grip = onHandle ? this.view.split * this.frame[0] - place[0] : null   // the handle stays where it was gripped
    const finds = !onHandle && this.isOverview(place)   // a press on the whole picture brings that place into the strip
    this.pointers.set(event.pointerId, { place, grip, finds })
    this.stage.classList.toggle("held", !onHandle)
    this.pointer = place
    if (this.boxes.armed && !onHandle) this.boxes.press(place)
    else if (finds) this.find(place)
    this.showValues()
  }

  move(event) {
    const place = this.place(event)
    const held = this.pointers.get(event.pointerId)
    if (!held && !event.movementX && !event.movementY) return   // the page moved, not the pointer
    this.pointer = place
    if (!held) {
      this.listenHere()
      this.loupe.draw()
      return this.showValues()
    }
    const [before, other] = [held.place, [...this.pointers.values()].find((each) => each !== held)]
    held.place = place
    if (this.boxes.from) this.boxes.move(place)
    else if (held.finds) this.find(place)
    else if (held.grip !== null) this.change({ split: (place[0] + held.grip) / this.frame[0] })
    else if (other) this.pinch(other.place, before, place)
    else this.pan(before[0] - place[0], before[1] - place[1])
  }

  find(place) {
    const [x, y] = this.hrUnder(place)
    this.change({ x, y, zoom: this.zoom })
  }

  // Keys go to the picture that the pointer is over, unless somebody writes.
  listenHere() {
    const active = document.activeElement
    if (!this.root.contains(active) && !writes(active)) this.stage.focus({ preventScroll: true, focusVisible: false })
  }

  // Two fingers zoom by their distance and pan by their middle.
  pinch(fixed, before, after) {
    const span = ([x, y]) => Math.max(1, Math.hypot(x - fixed[0], y - fixed[1]))
    const middle = ([x, y]) => [(x + fixed[0]) / 2, (y + fixed[1]) / 2]
    this.zoomTo(this.zoom * span(after) / span(before), middle(before), middle(after))
  }

  release(event) {
    this.pointers.delete(event.pointerId)
    if (this.boxes.from) this.boxes.release()
    if (!this.pointers.size) this.stage.classList.remove("held")
  }

  // A finger that is lifted leaves the values of where it was.
  leave(event) {
    if (event.pointerType === "touch") return
    this.pointer = null
    this.loupe.draw()
    this.showValues()
  }

  twice(event) {
    if (event.target.closest("button, .handle")) return
    if (this.zoom < 1) this.zoomTo(1, this.place(event))
    else this.change({ zoom: "fit" })
  }

  // After a click with the mouse the keys belong to the picture again; whoever pressed a button by key stays on it.
  clicked(event) {
    if (event.detail && event.target.closest("button")) this.stage.focus({ preventScroll: true, focusVisible: false })
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || writes(event.target)) return
    if (event.target.closest("button") && [" ", "Enter"].includes(event.key)) return
    const act = this.action(event)
    if (!act) return
    event.preventDefault()
    event.stopPropagation()
    act()
  }

  action(event) {
    const { code, shiftKey } = event
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key   // Caps Lock changes nothing
    const digit = /^Digit(\d)$/.exec(code)?.[1] ?? (code.startsWith("Numpad") ? /^\d$/.exec(key)?.[0] : undefined)   // the row of digits on any layout
    if (event.altKey) return this.nudging(key, digit, shiftKey)
    if (this.boxes.armed && key === "Enter") return () => this.boxes.middle()
    if (this.boxes.armed && key === "Escape") return () => this.boxes.arm(false)
    const blind = this.blind.on && this.blind.action(key, digit)
    if (blind) return blind
    if (digit === "0") return () => this.change({ zoom: "fit" })
    if (digit) return () => this.choose(shiftKey ? "right" : "left", this.names[digit - 1])
    if (key === " ") return () => this.spaceDown(event)
    const [width, height] = this.pane.map((side) => side / 8)
    const across = { ArrowLeft: -1, ArrowRight: 1 }[key]
    if (across && (shiftKey || event.target === this.handle))
      return () => this.change({ split: Math.round((this.view.split + across * 0.02) * 1000) / 1000 })
    if (across) return () => this.pan(across * width, 0)
    const mode = this.modes.find((button) => button.title.endsWith(`(${key})`))?.dataset.mode
    if (mode) return () => this.enter(mode)
    const overlay = this.overlays.find((button) => button.title.endsWith(`(${key})`))?.dataset.overlay
    if (overlay) return () => this.lay(overlay)
    return {
      ArrowUp: () => this.pan(0, -height), ArrowDown: () => this.pan(0, height),
      "+": () => this.step(1), "=": () => this.step(1), "-": () => this.step(-1), "_": () => this.step(-1),
      p: () => this.zoomTo(1), h: () => this.hide(), l: () => this.change({ loupe: this.loupe.next() }), ...this.tools.actions,
    }[key]
  }

  // With Alt: the left picture moves, with Shift too the right one.
  nudging(key, digit, shiftKey) {
    if (digit === "0") return () => this.change({ offsets: {} })
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key]
    return step && (() => this.tools.nudge(...step, shiftKey ? this.view.right : this.view.left))
  }

  // Space swaps the two pictures; held down it shows the other only as long as it is held.
  spaceDown(event) {
    if (event.repeat) return
    this.swap()
    this.swapped = performance.now()
  }

  keyUp(event) {
    if (event.key === " " && this.swapped && performance.now() - this.swapped > HELD) this.swap()
    if (event.key === " ") this.swapped = null
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

  // ---------------------------------------------------------------- words
  label() {
    const { view } = this
    const wipes = view.mode === "wipe"
    this.root.dataset.mode = view.mode
    this.modes.forEach((button) => {
      button.setAttribute("aria-pressed", button.dataset.mode === view.mode)
      button.disabled = this.blind.on && ["grid", "strip"].includes(button.dataset.mode)
    })
    this.chips.forEach((group, at) => {
      group.hidden = this.blind.on || view.mode === "grid" || (["flip", "strip"].includes(view.mode) && at === 1)
      const chosen = at ? view.right : view.left
      for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.name === chosen)
      if (group.dataset.chosen !== chosen) this.bring(group, chosen)
    })
    this.labels.replaceChildren(...(this.chips[0].hidden || view.mode === "strip" ? this.shown.map((name, at) => this.paneLabel(name, at)) : []))
    this.overlays.forEach((button) => (button.disabled = this.blind.on))
    this.magnify.setAttribute("aria-pressed", view.loupe > 0)
    this.magnify.textContent = view.loupe ? `Loupe ${view.loupe}×` : "Loupe"
    this.tools.show()
    this.overlays.forEach((button) => button.setAttribute("aria-pressed", button.dataset.overlay === view.overlay))
    this.explain(OVERLAYS[view.overlay])
    this.handle.hidden = !wipes
    this.handle.style.left = `${(Math.round(view.split * this.frame[0]) / this.frame[0]) * 100}%`
    this.handle.setAttribute("aria-label", `Wipe between ${this.called(view.left)} and ${this.called(view.right)}`)
    this.handle.setAttribute("aria-valuenow", Math.round(view.split * 100))
    this.handle.setAttribute("aria-valuetext", `${Math.round(view.split * 100)} % ${this.called(view.left)}`)
    this.stage.style.touchAction = this.larger ? "none" : "pan-y"   // a swipe over a picture that cannot move scrolls the page
    this.scale.textContent = percent(this.zoom)
    const mode = MODES.find(([name]) => name === view.mode)[1].toLowerCase()
    const overlay = view.overlay ? `, ${OVERLAYS[view.overlay].label}` : ""
    const label = `${this.shown.map((name) => this.called(name)).join(" and ")}, ${mode}${overlay}, ${percent(this.zoom)}`
    this.stage.setAttribute("aria-label", `${label}; arrow keys pan, plus and minus zoom, digits choose the picture`)
    clearTimeout(this.speaking)
    this.speaking = setTimeout(() => (this.status.textContent = `${label}. ${this.scores.textContent}`), 800)
  }

  // The legend of an overlay: its fixed scale, or why it is not drawn.
  explain(overlay) {
    const { brightness } = this.view
    this.legend.hidden = !overlay && brightness === 1
    this.legend.replaceChildren(brightness > 1 ? `${brightness}× as bright` : "")
    if (!overlay) return
    const large = tooLarge(this.region)
    const bar = h("i", { style: `background:linear-gradient(to right, ${HEAT.map((rgb) => `rgb(${rgb})`).join(", ")})` })
    this.legend.replaceChildren(overlay.label, " ", ...(large ? ["zoom in to see it"] : [overlay.scale[0], bar, overlay.scale[1]]),
      brightness > 1 ? `, pictures ${brightness}× as bright` : "")
  }

  // The chosen name comes into sight in its row, and nothing else scrolls.
  bring(group, name) {
    const button = [...group.children].find((each) => each.dataset.name === name)
    group.scrollLeft = button.offsetLeft - (group.clientWidth - button.offsetWidth) / 2
    group.dataset.chosen = name
  }

  paneLabel(name, at) {
    const [left, top] = this.corner(at).map((place, axis) => `${(100 * place) / this.frame[axis]}%`)
    const place = this.view.mode === "wipe" && at ? "right:0;top:0" : `left:${left};top:${top}`
    return h("span", { style: place }, this.called(name))
  }

  // The same words and places whether the pointer is over the picture or not, so that nothing jumps.
  showValues() {
    if (!this.opened) return
    const [width, height] = this.size
    const [x, y] = this.pointer ? this.hrUnder(this.pointer).map(Math.floor) : [-1, -1]
    const inside = x >= 0 && y >= 0 && x < width && y < height
    const value = (picture) => {
      const [across, down] = this.offsetOf(picture.name)
      const has = inside && x - across >= 0 && y - down >= 0 && x - across < width && y - down < height
      const { rgb, true: known } = has ? this.pictures.valueAt(picture, x - across, y - down) : { rgb: ["–", "–", "–"], true: true }
      return h("span", { class: "value" }, h("i", { style: has ? `background:rgb(${rgb})` : "" }), h("b", {}, this.called(picture.name)),
        h("span", { class: "rgb" }, ` ${known ? "" : "≈ "}${rgb.join(" ")}`), picture.exact ? "" : " (lossy)")
    }
    this.values.replaceChildren(h("span", { class: "at" }, inside ? `x ${x}  y ${y}` : `${width} × ${height} px`),
      ...this.shown.map((name) => value(this.pictures.named(name))))
  }

  showScores() {
    this.scoring = null
    if (!this.opened) return
    const { region, pictures: { truth } } = this
    const before = this.missing
    this.missing = 0
    const scores = this.blind.on ? [] : this.shown.map((name) => this.scoreOf(this.pictures.named(name), region))
    const words = this.blind.on ? "no scores in a blind test" : truth ? `in view, against ${truth}` : "no HR, no scores"
    const caption = h("span", { class: "quiet", title: "PSNR and SSIM (wang_rgb) of the part in view" }, words)
    this.scores.replaceChildren(...(truth ? scores : []), caption)
    this.showTable(region)
    if (this.view.overlay && this.missing !== before) this.later()   // there is more of it to be drawn
  }

  scoreOf(picture, region) {
    const why = this.unscored(picture)
    if (why) return h("span", { class: "unscored quiet", "data-name": picture.name }, h("b", {}, picture.name), ` ${why}`)
    const { psnr, ssim, share, missing } = this.pictures.score(picture, region, Boolean(this.view.overlay))
    this.missing += missing.length
    const [decibels, likeness] = inWords({ psnr, ssim, share })
    const about = share < 1 ? `From ${Math.ceil(100 * share)} % of the view${missing.length ? "" : "; zoom in for all of it"}` : "From every pixel in view"
    return h("span", { class: share ? "score" : "coming", "data-name": picture.name, title: about }, h("b", {}, picture.name), ` ${decibels} dB `,
      h("span", { class: "ssim" }, `SSIM ${likeness}`))
  }

  // All pictures in one table, the best of each column in bold.
  showTable(region) {
    this.table.hidden = !this.root.hasAttribute("data-all") || this.blind.on || !this.pictures.truth
    if (this.table.hidden) return
    const rows = this.pictures.list.map((picture) => {
      const why = this.unscored(picture)
      return { name: picture.name, why, ...(why ? {} : this.pictures.score(picture, region, Boolean(this.view.overlay))) }
    })
    const scored = rows.filter(({ why, share }) => !why && share)
    const best = (key) => Math.max(...scored.map((row) => row[key]))
    const cell = (text, wins) => h("td", {}, wins ? h("b", {}, text) : text)
    const line = (row) => {
      if (row.why) return [h("td", { class: "quiet", colspan: "2" }, row.why)]
      const [decibels, likeness] = inWords(row)
      return [cell(decibels, row.share && row.psnr === best("psnr")), cell(likeness, row.share && row.ssim === best("ssim"))]
    }
    this.table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ["picture", "PSNR, dB", "SSIM"].map((text) => h("th", {}, text)))),
      h("tbody", {}, rows.map((row) => h("tr", { "data-name": row.name }, h("td", {}, row.name), line(row))))))
  }

  // Words that pass by.
  say(words) {
    this.toast.textContent = words
    this.toast.hidden = false
    clearTimeout(this.saying)
    this.saying = setTimeout(() => (this.toast.hidden = true), 4000)
  }
}

// PSNR and SSIM as they are written; ≈ where not all of the view has been measured.
function inWords({ psnr, ssim, share }) {
  const near = share < 1 ? "≈ " : ""
  return share ? [`${near}${decibel(psnr)}`, Number.isNaN(ssim) ? "–" : near + ssim.toFixed(4)] : ["…", "…"]
}
