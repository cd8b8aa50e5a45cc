// The whole viewer of `compare`, in a notebook and on a page without a kernel.
//
// There is one owner of what is seen: the model's `view`, in pixels of the HR grid. A gesture writes a new view into the model and nothing
// else; drawing reads the model and never writes it. So Python, two views of one widget and the mouse cannot chase one another.
//   view      {mode: "wipe" | "side", left, right, x, y, zoom, split}   left and right name pictures; x and y are the centre in HR pixels;
//             zoom is device pixels per HR pixel, or "fit"; split is where the wipe stands, 0-1
//   frame     [width, height] of the stage in device pixels, told by the browser
//   pictures  [{name, width, height, ratio, type, exact, data}]         ratio: HR pixels per pixel of this picture; data: encoded bytes
//   truth     name of the picture the others are measured against, or ""
// In a notebook anywidget supplies the model; on a static page `localModel` does.

const GAP = 2              // device pixels between the panes of "side"
const LEAST = 0.01         // bounds of zoom, as `ZOOMS` in Python
const MOST = 64
const LADDER = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]

const clamp = (value, least, most) => Math.min(Math.max(value, least), most)

// ------------------------------------------------------------------ geometry: where is what (as `region` in Python)
export function paneOf(view, [width, height]) {
  return view.mode === "side" ? [Math.floor((width - GAP) / 2), height] : [width, height]
}

export function zoomOf(view, frame, [width, height]) {
  const [paneWidth, paneHeight] = paneOf(view, frame)
  return view.zoom === "fit" ? clamp(Math.min(paneWidth / width, paneHeight / height), LEAST, MOST) : view.zoom
}

export function regionOf(view, frame, [width, height]) {
  const zoom = zoomOf(view, frame, [width, height])
  const edges = (centre, pane, size) => [
    Math.max(0, Math.floor(centre - pane / zoom / 2 + 1e-6)),
    Math.min(size, Math.ceil(centre + pane / zoom / 2 - 1e-6)),
  ]
  const [paneWidth, paneHeight] = paneOf(view, frame)
  const [left, right] = edges(view.x, paneWidth, width)
  const [top, bottom] = edges(view.y, paneHeight, height)
  return { top, left, height: bottom - top, width: right - left }
}

// ------------------------------------------------------------------ pictures and numbers
async function decode(picture) {
  const blob = new Blob([picture.data], { type: picture.type })
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
  return { ...picture, data: null, bitmap, pixels: null }
}

// RGBA of a whole picture, read once and kept.
function pixelsOf(picture) {
  if (!picture.pixels) {
    const canvas = document.createElement("canvas")
    canvas.width = picture.width
    canvas.height = picture.height
    const context = canvas.getContext("2d", { willReadFrequently: true })
    context.drawImage(picture.bitmap, 0, 0)
    picture.pixels = context.getImageData(0, 0, picture.width, picture.height).data
  }
  return picture.pixels
}

function pixelAt(picture, x, y) {
  const at = 4 * (Math.floor(y / picture.ratio) * picture.width + Math.floor(x / picture.ratio))
  return [...pixelsOf(picture).subarray(at, at + 3)]
}

// PSNR and SSIM by the protocol wang_rgb (Wang et al. 2004, each of R, G, B, mean): 11x11 Gaussian of sigma 1.5, population covariance,
// only windows that lie wholly inside. The SSIM of one window does not depend on what is looked at, so the map is made once and
// the number of any region is a mean over the part of the map whose windows the region holds.
const TAPS = 11
const KERNEL = (() => {
  const bell = Array.from({ length: TAPS }, (_, k) => Math.exp(-((k - 5) ** 2) / (2 * 1.5 ** 2)))
  const sum = bell.reduce((total, value) => total + value)
  return bell.map((value) => value / sum)
})()
const C1 = (0.01 * 255) ** 2
const C2 = (0.03 * 255) ** 2

// Rows of a, b, a²+b² and ab of one channel, blurred across.
function blurAcross(a, b, offset, width, into, at) {
  const rows = [0, 1, 2, 3].map(() => new Float64Array(width))
  for (let x = 0, p = offset; x < width; x++, p += 4) {
    rows[0][x] = a[p]
    rows[1][x] = b[p]
    rows[2][x] = a[p] * a[p] + b[p] * b[p]
    rows[3][x] = a[p] * b[p]
  }
  for (let m = 0; m < 4; m++) {
    const row = rows[m]
    const out = into[m][at]
    for (let x = 0; x < out.length; x++) {
      let sum = KERNEL[5] * row[x + 5]
      for (let k = 0; k < 5; k++) sum += KERNEL[k] * (row[x + k] + row[x + 10 - k])
      out[x] = sum
    }
  }
}

// SSIM of the windows whose last row has just come in, added to `ssim`; `ring` holds the last 11 blurred rows, `newest` the last of them.
function ssimRow(ring, newest, ssim, offset) {
  const rows = Array.from({ length: TAPS }, (_, k) => (newest + 1 + k) % TAPS)
  const columns = ring[0][0].length
  for (let x = 0; x < columns; x++) {
    let ma = 0, mb = 0, squares = 0, product = 0
    for (let k = 0; k < TAPS; k++) {
      const g = KERNEL[k], r = rows[k]
      ma += g * ring[0][r][x]
      mb += g * ring[1][r][x]
      squares += g * ring[2][r][x]
      product += g * ring[3][r][x]
    }
    const means = ma * mb, powers = ma * ma + mb * mb
    ssim[offset + x] += ((2 * means + C1) * (2 * (product - means) + C2)) / ((powers + C1) * (squares - powers + C2)) / 3
  }
}

// Yields its progress 0-1 after each row, so that the caller can let the browser breathe; ends with the two maps.
function* measure(picture, truth) {
  const { width, height } = truth
  const a = pixelsOf(picture), b = pixelsOf(truth)
  const columns = Math.max(0, width - TAPS + 1)
  const maps = { width, columns, errors: new Float32Array(width * height), ssim: new Float32Array(columns * Math.max(0, height - TAPS + 1)) }
  const rings = [0, 1, 2].map(() => [0, 1, 2, 3].map(() => Array.from({ length: TAPS }, () => new Float64Array(columns))))
  for (let y = 0; y < height; y++) {
    const start = 4 * width * y
    for (let x = 0, p = start; x < width; x++, p += 4)
      maps.errors[width * y + x] = (a[p] - b[p]) ** 2 + (a[p + 1] - b[p + 1]) ** 2 + (a[p + 2] - b[p + 2]) ** 2
    for (let c = 0; c < 3 && columns; c++) {
      blurAcross(a, b, start + c, width, rings[c], y % TAPS)
      if (y >= TAPS - 1) ssimRow(rings[c], y % TAPS, maps.ssim, columns * (y - TAPS + 1))
    }
    yield (y + 1) / height
  }
  return maps
}

function meanOver(map, stride, { top, left, height, width }) {
  let sum = 0
  for (let y = top; y < top + height; y++) {
    const end = y * stride + left + width
    for (let p = y * stride + left; p < end; p++) sum += map[p]
  }
  return sum / (width * height)
}

// NaN for the SSIM of a region that holds no whole window.
export function scoreOf(maps, region) {
  const mse = meanOver(maps.errors, maps.width, region) / 3
  const inner = { ...region, height: region.height - TAPS + 1, width: region.width - TAPS + 1 }
  const ssim = inner.height > 0 && inner.width > 0 ? meanOver(maps.ssim, maps.columns, inner) : NaN
  return { psnr: 10 * Math.log10(255 ** 2 / mse), ssim }
}

// One for each model, shared by all its views: decoding and measuring are done once.
class Pictures {
  constructor(model) {
    this.truth = model.get("truth")
    this.maps = new Map()
    this.listeners = new Set()
    this.ready = Promise.all(model.get("pictures").map(decode)).then((list) => (this.list = list))
  }

  named(name) {
    return this.list.find((picture) => picture.name === name)
  }

  // The two maps of a picture, or how far they are (0-1), or null where there is nothing to measure.
  mapsOf(name) {
    if (!this.truth || name === this.truth || this.named(name).ratio !== 1) return null
    if (!this.maps.has(name)) this.measure(name)
    return this.maps.get(name)
  }

  // In slices of some milliseconds on the one thread: no worker, which not every host of a notebook allows.
  async measure(name) {
    this.maps.set(name, 0)
    await breathe()
    const rows = measure(this.named(name), this.named(this.truth))
    let until = performance.now() + 12
    for (let step = rows.next(); ; step = rows.next()) {
      this.maps.set(name, step.value)
      if (step.done) break
      if (performance.now() < until) continue
      this.listeners.forEach((tell) => tell())
      await breathe()
      until = performance.now() + 12
    }
    this.listeners.forEach((tell) => tell())
  }
}

const breathe = () => new Promise((go) => setTimeout(go))
const shared = new WeakMap()

function picturesOf(model) {
  if (!shared.has(model)) shared.set(model, new Pictures(model))
  return shared.get(model)
}

// ------------------------------------------------------------------ the page furniture
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else if (value !== null) element.setAttribute(name, value)
  }
  element.append(...children.flat())
  return element
}

const KEYS = [
  ["1–9", "left"], ["⇧ 1–9", "right"], ["space", "swap"], ["w", "wipe"], ["s", "side by side"], ["⇧ ← →", "move the wipe"],
  ["← ↑ ↓ →", "pan"], ["+ −", "zoom"], ["0", "fit"], ["p", "1:1 pixels"],
]

const percent = (zoom) => `${zoom >= 0.1 ? Math.round(zoom * 100) : (zoom * 100).toFixed(1)} %`
const decibel = (psnr) => (psnr === Infinity ? "∞" : psnr.toFixed(2))

class Viewer {
  constructor(el, model) {
    this.el = el
    this.model = model
    this.pictures = picturesOf(model)
    this.size = model.get("size")
    this.pointers = new Map()
    this.pointer = null   // device pixels on the stage
    this.ratio = 1        // device pixels per CSS pixel
    this.undo = new AbortController()
    this.build()
    this.listen()
    this.pictures.ready.then(
      () => this.open(),
      () => (this.note.textContent = "A picture could not be decoded by this browser."),
    )
  }

  build() {
    const names = this.model.get("pictures").map(({ name }) => name)
    const button = (label, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, label)
    this.chips = ["left", "right"].map((side) => h("div", { class: `chips ${side}`, role: "group", "aria-label": `Picture on the ${side}` },
      names.map((name, at) => h("button", {
        type: "button", "aria-label": `${name} on the ${side}`, title: `${name} on the ${side} (${side === "left" ? "" : "Shift+"}${at + 1})`,
        onclick: () => this.choose(side, name),
      }, name))))
    this.modes = ["wipe", "side"].map((mode) => h("button", { type: "button", title: mode === "wipe" ? "Wipe (w)" : "Side by side (s)",
      onclick: () => this.change({ mode }) }, mode === "wipe" ? "Wipe" : "Side by side"))
    this.scale = h("output", { class: "scale", title: "Device pixels per HR pixel" }, "–")
    this.handle = h("div", { class: "handle", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100" },
      h("span", { class: "knob", "aria-hidden": "true" }))
    this.canvas = h("canvas", { "aria-hidden": "true" })
    this.note = h("p", { class: "note" }, "Loading …")
    this.stage = h("div", { class: "stage", tabindex: "0", role: "application", "aria-roledescription": "picture comparison",
      style: `height:${this.model.get("height")}px` }, this.canvas, this.note, this.handle, this.chips)
    this.values = h("div", { class: "values" })
    this.scores = h("div", { class: "scores" })
    this.status = h("div", { class: "aloud", role: "status", "aria-live": "polite" })
    this.root = h("div", { class: "paintsr" },
      h("div", { class: "bar" }, h("div", { class: "modes", role: "group", "aria-label": "Mode" }, this.modes),
        h("div", { class: "zooms", role: "group", "aria-label": "Zoom" },
          button("Fit", "Fit the whole picture (0)", () => this.change({ zoom: "fit" })),
          button("1:1", "True pixels (p)", () => this.zoomTo(1)),
          button("−", "Zoom out (-)", () => this.step(-1)), this.scale, button("+", "Zoom in (+)", () => this.step(1)))),
      this.stage,
      h("div", { class: "foot" }, this.values, this.scores),
      h("div", { class: "keys" }, KEYS.map(([keys, what]) => h("span", {}, h("kbd", {}, keys), what))),
      this.status)
    // JupyterLab's shortcuts pass over a focused element that carries this: without it "1" makes the cell a heading and "0 0" restarts the kernel.
    for (const element of [this.stage, this.handle, ...this.root.querySelectorAll("button")]) element.dataset.lmSuppressShortcuts = "true"
    this.el.append(this.root)
  }

  listen() {
    const on = (target, kinds, act, options = {}) => kinds.split(" ").forEach((kind) =>
      target.addEventListener(kind, act, { signal: this.undo.signal, ...options }))
    on(this.root, "keydown", (event) => this.key(event))
    on(this.stage, "wheel", (event) => this.wheel(event), { passive: false })
    on(this.stage, "pointerdown", (event) => this.press(event))
    on(this.stage, "pointermove", (event) => this.move(event))
    on(this.stage, "pointerup pointercancel", (event) => this.release(event))
    on(this.stage, "pointerleave", () => this.leave())
    on(this.stage, "dblclick", (event) => this.twice(event))
    this.watch = new ResizeObserver((entries) => this.measureStage(entries[0]))
    try {
      this.watch.observe(this.canvas, { box: "device-pixel-content-box" })   // also told when the window moves to a finer screen
    } catch {
      this.watch.observe(this.canvas)
    }
    this.redraw = () => this.later()
    this.model.on("change:view", this.redraw)
    this.pictures.listeners.add((this.tell = () => this.showScores()))
  }

  open() {
    this.note.remove()
    this.opened = true
    this.later()
  }

  close() {
    this.undo.abort()
    this.watch.disconnect()
    this.model.off("change:view", this.redraw)
    this.pictures.listeners.delete(this.tell)
    cancelAnimationFrame(this.waiting)
    clearTimeout(this.scoring)
    clearTimeout(this.speaking)
    this.root.remove()
  }

  // ---------------------------------------------------------------- reading and writing the one view
  get view() {
    return this.model.get("view")
  }

  get frame() {
    return [this.canvas.width, this.canvas.height]
  }

  get zoom() {
    return zoomOf(this.view, this.frame, this.size)
  }

  change(part) {
    const view = { ...this.view, ...part }
    const [width, height] = this.size
    const whole = view.zoom === "fit"
    view.x = whole ? width / 2 : clamp(view.x, 0, width)
    view.y = whole ? height / 2 : clamp(view.y, 0, height)
    view.split = clamp(view.split, 0, 1)
    this.model.set("view", view)
    this.model.save_changes()
  }

  choose(side, name) {
    if (!name) return
    const other = side === "left" ? "right" : "left"
    const part = { [side]: name }
    if (this.view[other] === name) part[other] = this.view[side]
    this.change(part)
  }

  pan(across, down) {
    const { x, y } = this.view
    this.change({ x: x + across / this.zoom, y: y + down / this.zoom, zoom: this.zoom })
  }

  // The HR point under `place` (device pixels on the stage; null: the centre) stays where it is.
  zoomTo(zoom, place = null) {
    const old = this.zoom
    const least = Math.max(LEAST, Math.min(1, zoomOf({ ...this.view, zoom: "fit" }, this.frame, this.size)) / 2)
    zoom = clamp(zoom, Math.min(least, old), MOST)
    const [across, down] = place ? this.fromCentre(place) : [0, 0]
    const shift = 1 / old - 1 / zoom
    this.change({ zoom, x: this.view.x + across * shift, y: this.view.y + down * shift })
  }

  step(direction) {
    const now = this.zoom
    const steps = direction > 0 ? LADDER.filter((zoom) => zoom > now * 1.001) : LADDER.filter((zoom) => zoom < now * 0.999).reverse()
    if (steps.length) this.zoomTo(steps[0])
  }

  // Left edge of the pane under `place`, the pane's size.
  paneUnder([across]) {
    const [width] = paneOf(this.view, this.frame)
    return this.view.mode === "side" && across >= width ? width + GAP : 0
  }

  fromCentre(place) {
    const [width, height] = paneOf(this.view, this.frame)
    return [place[0] - this.paneUnder(place) - width / 2, place[1] - height / 2]
  }

  // Top left of the picture on the stage, for the pane that begins at `edge`: whole device pixels, so that squares are squares.
  origin(edge) {
    const [width, height] = paneOf(this.view, this.frame)
    return [edge + Math.round(width / 2 - this.view.x * this.zoom), Math.round(height / 2 - this.view.y * this.zoom)]
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
    const turn = clamp(event.deltaY * lines, -240, 240) * (event.ctrlKey ? 0.01 : 0.0025)
    const zoom = this.zoom * 2 ** -turn
    const passes = (zoom - 1) * (this.zoom - 1) < -1e-9   // stop once at exactly 100 %
    this.zoomTo(passes ? 1 : zoom, this.place(event))
  }

  press(event) {
    if (event.button > 0 || event.target.closest("button")) return
    event.preventDefault()
    this.stage.setPointerCapture(event.pointerId)
    const onHandle = event.target.closest(".handle")
    ;(onHandle ?? this.stage).focus({ preventScroll: true })
    this.pointers.set(event.pointerId, { place: this.place(event), wipes: Boolean(onHandle) })
    this.stage.classList.toggle("held", !onHandle)
  }

  move(event) {
    const place = this.place(event)
    const held = this.pointers.get(event.pointerId)
    if (!held && !event.movementX && !event.movementY) return   // the page moved, not the pointer
    this.pointer = place
    if (!held) return this.showValues()
    const [before, others] = [held.place, [...this.pointers.values()].filter((each) => each !== held)]
    held.place = place
    if (held.wipes) this.change({ split: place[0] / this.frame[0] })
    else if (others.length) this.pinch(others[0].place, before, place)
    else this.pan(before[0] - place[0], before[1] - place[1])
  }

  pinch(fixed, before, after) {
    const span = ([x, y]) => Math.max(1, Math.hypot(x - fixed[0], y - fixed[1]))
    this.zoomTo(this.zoom * span(after) / span(before), fixed)
  }

  release(event) {
    this.pointers.delete(event.pointerId)
    if (!this.pointers.size) this.stage.classList.remove("held")
  }

  leave() {
    this.pointer = null
    this.showValues()
  }

  twice(event) {
    if (event.target.closest("button, .handle")) return
    if (this.zoom < 1) this.zoomTo(1, this.place(event))
    else this.change({ zoom: "fit" })
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (event.target.closest("button") && [" ", "Enter"].includes(event.key)) return
    const act = this.action(event)
    if (!act) return
    event.preventDefault()
    event.stopPropagation()
    act()
  }

  action(event) {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1]
    const names = this.model.get("pictures").map(({ name }) => name)
    if (digit) return () => this.choose(event.shiftKey ? "right" : "left", names[digit - 1])
    const [width, height] = paneOf(this.view, this.frame).map((side) => side / 8)
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (across && (event.shiftKey || event.target === this.handle))
      return () => this.change({ split: Math.round((this.view.split + across * 0.02) * 1000) / 1000 })
    if (across) return () => this.pan(across * width, 0)
    const { left, right } = this.view
    return {
      ArrowUp: () => this.pan(0, -height), ArrowDown: () => this.pan(0, height),
      "+": () => this.step(1), "=": () => this.step(1), "-": () => this.step(-1), "_": () => this.step(-1),
      0: () => this.change({ zoom: "fit" }), p: () => this.zoomTo(1), " ": () => this.change({ left: right, right: left }),
      w: () => this.change({ mode: "wipe" }), s: () => this.change({ mode: "side" }),
    }[event.key]
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
    if (!this.opened || !this.canvas.width) return
    const { view, frame: [width, height] } = this
    const [left, right] = [view.left, view.right].map((name) => this.pictures.named(name))
    this.context ??= this.canvas.getContext("2d", { alpha: true })
    this.context.clearRect(0, 0, width, height)
    const pane = paneOf(view, this.frame)[0]
    const cut = Math.round(view.split * width)
    if (view.mode === "side") {
      this.paint(left, 0, 0, pane)
      this.paint(right, pane + GAP, pane + GAP, width)
    } else {
      this.paint(left, 0, 0, cut)
      this.paint(right, 0, cut, width)
    }
    this.label()
    this.showValues()
    clearTimeout(this.scoring)
    this.scoring = setTimeout(() => this.showScores(), 60)
  }

  // `picture` in the pane that begins at `edge`, drawn between the columns `from` and `to` of the stage.
  paint(picture, edge, from, to) {
    if (to <= from) return
    const { context, canvas } = this
    const scale = this.zoom * picture.ratio   // device pixels per pixel of this picture
    const [left, top] = this.origin(edge)
    const smooth = picture.ratio === 1 ? scale < 1 : scale < 2
    let [x0, y0, x1, y1] = [0, 0, picture.width, picture.height]
    if (!smooth) {
      x0 = clamp(Math.floor((from - left) / scale), 0, picture.width)
      x1 = clamp(Math.ceil((to - left) / scale), x0, picture.width)
      y0 = clamp(Math.floor(-top / scale), 0, picture.height)
      y1 = clamp(Math.ceil((canvas.height - top) / scale), y0, picture.height)
    }
    if (x1 <= x0 || y1 <= y0) return
    context.save()
    context.beginPath()
    context.rect(from, 0, to - from, canvas.height)
    context.clip()
    context.imageSmoothingEnabled = smooth
    context.imageSmoothingQuality = "high"
    context.drawImage(picture.bitmap, x0, y0, x1 - x0, y1 - y0, left + x0 * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale)
    context.restore()
  }

  // ---------------------------------------------------------------- words
  label() {
    const { view } = this
    const wipes = view.mode === "wipe"
    this.root.dataset.mode = view.mode
    this.modes.forEach((button, at) => button.setAttribute("aria-pressed", (at === 0) === wipes))
    this.chips.forEach((group, at) => {
      const chosen = at ? view.right : view.left
      for (const button of group.children) button.setAttribute("aria-pressed", button.textContent === chosen)
    })
    this.handle.hidden = !wipes
    this.handle.style.left = `${(Math.round(view.split * this.frame[0]) / this.frame[0]) * 100}%`
    this.handle.setAttribute("aria-label", `Wipe between ${view.left} and ${view.right}`)
    this.handle.setAttribute("aria-valuenow", Math.round(view.split * 100))
    this.handle.setAttribute("aria-valuetext", `${Math.round(view.split * 100)} % ${view.left}`)
    this.scale.textContent = percent(this.zoom)
    const label = `${view.left} and ${view.right}, ${wipes ? "wipe" : "side by side"}, ${percent(this.zoom)}`
    this.stage.setAttribute("aria-label", `${label}; arrow keys pan, plus and minus zoom, digits choose the picture`)
    clearTimeout(this.speaking)
    this.speaking = setTimeout(() => (this.status.textContent = `${label}. ${this.scores.textContent}`), 800)
  }

  showValues() {
    if (!this.opened) return
    const [width, height] = this.size
    const [left, top] = this.pointer ? this.origin(this.paneUnder(this.pointer)) : [0, 0]
    const [x, y] = this.pointer ? [(this.pointer[0] - left) / this.zoom, (this.pointer[1] - top) / this.zoom].map(Math.floor) : [-1, -1]
    if (x < 0 || y < 0 || x >= width || y >= height) {
      this.values.replaceChildren(h("span", { class: "quiet" }, `${width} × ${height} px`))
      return
    }
    const shown = [this.view.left, this.view.right].map((name) => this.pictures.named(name))
    this.values.replaceChildren(h("span", { class: "at" }, `x ${x}  y ${y}`), ...shown.map((picture) => {
      const rgb = pixelAt(picture, x, y)
      return h("span", { class: "value" }, h("i", { style: `background:rgb(${rgb})` }), h("b", {}, picture.name), ` ${rgb.join(" ")}`, picture.exact ? "" : " (lossy)")
    }))
  }

  showScores() {
    if (!this.opened) return
    const region = regionOf(this.view, this.frame, this.size)
    const scored = [this.view.left, this.view.right].flatMap((name) => {
      const maps = this.pictures.mapsOf(name)
      if (maps === null) return []
      if (typeof maps === "number") return h("span", { class: "quiet" }, `measuring ${name} … ${Math.floor(maps * 100)} %`)
      const { psnr, ssim } = scoreOf(maps, region)
      return h("span", { class: "score", "data-name": name }, h("b", {}, name), ` ${decibel(psnr)} dB `,
        h("span", { class: "ssim" }, `SSIM ${Number.isNaN(ssim) ? "–" : ssim.toFixed(4)}`))
    })
    const caption = h("span", { class: "quiet", title: "PSNR and SSIM (wang_rgb) of the part in view" }, "in view, against " + this.pictures.truth)
    this.scores.replaceChildren(...(scored.length ? [...scored, caption] : []))
  }
}

// ------------------------------------------------------------------ the two ways in
export function mount(el, model) {
  const viewer = new Viewer(el, model)
  return () => viewer.close()
}

// What anywidget's model is, for a page that has no kernel; bytes come as base64.
export function localModel(state) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  const values = { ...state, pictures: state.pictures.map((picture) => ({ ...picture, data: bytes(picture.data) })) }
  const listeners = {}
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value
      for (const act of listeners[`change:${name}`] ?? []) act()
    },
    save_changes() {},
    on: (event, act) => (listeners[event] ??= new Set()).add(act),
    off: (event, act) => listeners[event]?.delete(act),
  }
}

export default { render: ({ model, el }) => mount(el, model) }
