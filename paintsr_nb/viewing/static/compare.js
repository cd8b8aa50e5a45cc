// The whole viewer of `compare`: in a notebook, in a saved output, and on a page without a kernel.
//
// There is one owner of what is seen: the model's `view`, in pixels of the HR grid. A gesture writes a new view into the model and nothing
// else; drawing reads the model and never writes it. So Python, two views of one widget and the mouse cannot chase one another.
//   view      {mode: "wipe" | "side" | "grid" | "flip", left, right, x, y, zoom, split, overlay: "" | "difference" | "ssim"}
//             left and right name pictures; x and y are the centre in HR pixels; zoom is device pixels per HR pixel, or "fit";
//             split is where the wipe stands, 0-1
//   frame     [width, height] of the stage in device pixels, told by the browser
//   pictures  [{name, width, height, ratio, exact, type, data, reduced, whole}]
//             ratio: HR pixels per pixel of this picture; exact: nothing was lost on the way; data: bytes of a preview, each of its pixels the
//             mean of reduced x reduced; whole: the preview is the picture itself, so that there are no tiles
//   truth     name of the picture the others are measured against, or ""
// Pictures that are not whole come in tiles, when they are looked at: from the kernel in a notebook, from the page on a page, and not at all
// in a saved output, which has the previews alone. Level 0 are the true pixels, each of level n the mean of 2^n x 2^n of them, so that what travels
// and what is kept depend on the stage and not on the picture.

const TILE = 512           // pixels along a tile, as in Python
const KEPT = 160           // decoded tiles that are kept, 1 MB each
const BLOCK = 256          // HR pixels along a block that is measured at once
const MAPS = 128           // blocks whose maps are kept, 0.5 MB each; of all others the sums
const MOST_BLOCKS = 128    // a view of more is scored by a sample of SAMPLE blocks, and has no overlay
const SAMPLE = 48
const GAP = 2              // device pixels between panes
const LEAST = 0.01         // bounds of zoom, as `ZOOMS` in Python
const MOST = 64
const LADDER = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
const PATIENCE = 400       // milliseconds that a saved output waits for the kernel's model before it shows what it carries

const clamp = (value, least, most) => Math.min(Math.max(value, least), most)

// ------------------------------------------------------------------ geometry: where is what (as `region` in Python)
export function columnsOf(view, [width, height], size, count) {
  if (view.mode !== "grid") return view.mode === "side" ? 2 : 1
  let best = 0, columns = 1
  for (let c = 1; c <= count; c++) {
    const rows = Math.ceil(count / c)
    const fit = Math.min((width - GAP * (c - 1)) / c / size[0], (height - GAP * (rows - 1)) / rows / size[1])
    if (fit > best) [best, columns] = [fit, c]
  }
  return columns
}

export function paneOf(view, [width, height], size, count) {
  const columns = columnsOf(view, [width, height], size, count)
  const rows = view.mode === "grid" ? Math.ceil(count / columns) : 1
  return [Math.max(1, Math.floor((width - GAP * (columns - 1)) / columns)), Math.max(1, Math.floor((height - GAP * (rows - 1)) / rows))]
}

export function zoomOf(view, frame, size, count) {
  const [width, height] = paneOf(view, frame, size, count)
  return view.zoom === "fit" ? clamp(Math.min(width / size[0], height / size[1]), LEAST, MOST) : view.zoom
}

// Where on a pane the picture begins: at a whole device pixel, so that squares are squares.
const startOf = (centre, pane, zoom) => Math.floor(pane / 2 - centre * zoom + 0.5)

// First and last + 1 of the pixels that are drawn: from 100 % on those that hold the middle of a device pixel, below those that touch one.
function seen(centre, pane, size, zoom) {
  const start = startOf(centre, pane, zoom)
  const first = Math.floor(((zoom < 1 ? 0 : 0.5) - start) / zoom)
  const end = zoom < 1 ? Math.ceil((pane - start) / zoom) : Math.floor((pane - 0.5 - start) / zoom) + 1
  return [clamp(first, 0, size - 1), clamp(end, 1, size)]
}

export function regionOf(view, frame, size, count) {
  const zoom = zoomOf(view, frame, size, count)
  const pane = paneOf(view, frame, size, count)
  const [left, right] = seen(view.x, pane[0], size[0], zoom)
  const [top, bottom] = seen(view.y, pane[1], size[1], zoom)
  return { top, left, height: bottom - top, width: right - left }
}

// ------------------------------------------------------------------ numbers
// PSNR and SSIM by the protocol wang_rgb (Wang et al. 2004, each of R, G, B, mean): 11x11 Gaussian of sigma 1.5, population covariance,
// only windows that lie wholly inside. The SSIM of one window does not depend on what is looked at, so the picture is cut into blocks, each is
// measured once, and the number of any region is a mean over blocks and parts of blocks. A window belongs to the block of its top left pixel.
const TAPS = 11
const REACH = TAPS - 1
const KERNEL = (() => {
  const bell = Array.from({ length: TAPS }, (_, k) => Math.exp(-((k - 5) ** 2) / (2 * 1.5 ** 2)))
  const sum = bell.reduce((total, value) => total + value)
  return bell.map((value) => value / sum)
})()
const C1 = (0.01 * 255) ** 2
const C2 = (0.03 * 255) ** 2

// `values` blurred along one axis, where `step` leads from a pixel to the next one along it; `into` has `lines` times `length` places.
function blur(values, stride, step, into, lines, length) {
  const [k0, k1, k2, k3, k4, k5] = KERNEL
  const [s1, s2, s3, s4, s5, s6, s7, s8, s9, s10] = Array.from({ length: REACH }, (_, k) => (k + 1) * step)
  for (let line = 0, at = 0; line < lines; line++) {
    for (let p = line * stride, end = p + length; p < end; p++, at++) {
      into[at] = k0 * (values[p] + values[p + s10]) + k1 * (values[p + s1] + values[p + s9]) + k2 * (values[p + s2] + values[p + s8]) +
        k3 * (values[p + s3] + values[p + s7]) + k4 * (values[p + s4] + values[p + s6]) + k5 * values[p + s5]
    }
  }
}

// Levels are counted from MIDDLE, which changes no variance and lets single precision do: a, b, a² + b² and ab of one channel.
const MIDDLE = 128
const [PLANE, ACROSS, ...MEANS] = Array.from({ length: 6 }, () => new Float32Array((BLOCK + REACH) ** 2))   // used again and again

// Squared errors of `width` x `height` pixels at the top left of two RGBA parts of `columns` x `rows`, and the SSIM of all windows in the parts.
export function measure(a, b, columns, rows, width, height) {
  const errors = new Float32Array(width * height)
  const across = Math.max(0, columns - REACH), down = Math.max(0, rows - REACH)
  const ssim = new Float32Array(across * down)
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0, i = 0; y < height; y++)
      for (let p = 4 * y * columns + channel, end = p + 4 * width; p < end; p += 4, i++) errors[i] += (a[p] - b[p]) * (a[p] - b[p])
    if (!ssim.length) continue
    MEANS.forEach((means, m) => {
      fill(m, a, b, channel, columns * rows)
      blur(PLANE, columns, 1, ACROSS, rows, across)
      blur(ACROSS, across, across, means, down, across)
    })
    addSsim(ssim)
  }
  return { width, height, across, down, errors, ssim, error: sum(errors), likeness: sum(ssim) }
}

function fill(which, a, b, channel, count) {
  for (let i = 0, p = channel; i < count; i++, p += 4) {
    const x = a[p] - MIDDLE, y = b[p] - MIDDLE
    PLANE[i] = which === 0 ? x : which === 1 ? y : which === 2 ? x * x + y * y : x * y
  }
}

function addSsim(ssim) {
  const [as, bs, squares, products] = MEANS
  for (let i = 0; i < ssim.length; i++) {
    const x = as[i], y = bs[i]
    const mx = x + MIDDLE, my = y + MIDDLE
    ssim[i] += ((2 * mx * my + C1) * (2 * (products[i] - x * y) + C2)) / ((mx * mx + my * my + C1) * (squares[i] - x * x - y * y + C2)) / 3
  }
}

function sum(values) {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i]
  return total
}

// Sum of the part of `map` (rows of `stride`, first pixel at `corner`) that lies in `region`, and how many that are.
function partOf(map, stride, rows, corner, region) {
  const left = Math.max(region.left - corner.left, 0), right = Math.min(region.left + region.width - corner.left, stride)
  const top = Math.max(region.top - corner.top, 0), bottom = Math.min(region.top + region.height - corner.top, rows)
  let total = 0
  for (let y = top; y < bottom; y++) for (let p = y * stride + left, end = y * stride + right; p < end; p++) total += map[p]
  return [total, Math.max(0, right - left) * Math.max(0, bottom - top)]
}

const holds = (outer, { top, left, height, width }) =>
  top >= outer.top && left >= outer.left && top + height <= outer.top + outer.height && left + width <= outer.left + outer.width

const spanOf = ({ top, left, height, width }) => [[top, left], [top + height - 1, left + width - 1]].map((place) => place.map((at) => Math.floor(at / BLOCK)))

function tooLarge(region) {
  const [first, last] = spanOf(region)
  return (last[0] - first[0] + 1) * (last[1] - first[1] + 1) > MOST_BLOCKS
}

// The blocks that hold something of `region`, in an order that is scattered over it, so that the first few already tell of the whole.
function blocksOf(region) {
  const [first, last] = spanOf(region)
  const [rows, columns] = [last[0] - first[0] + 1, last[1] - first[1] + 1]
  const count = rows * columns
  const cut = count - Math.max(0, rows - 2) * Math.max(0, columns - 2)   // those that the region may cut: their maps are needed all at once
  const place = (at) => (at * 0.6180339887498949) % 1
  const order = Array.from({ length: count }, (_, at) => at).sort((one, other) => place(one) - place(other))
  const chosen = tooLarge(region) || cut > MAPS / 2 ? order.slice(0, SAMPLE) : order
  return chosen.map((at) => [first[0] + Math.floor(at / columns), first[1] + (at % columns)])
}

// The blocks of one picture that were measured against the truth: sums of all, maps of the last MAPS.
class Blocks {
  constructor([width, height]) {
    this.size = { width, height }
    this.sums = new Map()
    this.maps = new Map()
  }

  // The pixels of a block, and those that its windows reach.
  box([row, column]) {
    const [top, left] = [row * BLOCK, column * BLOCK]
    const pixels = { top, left, height: Math.min(BLOCK, this.size.height - top), width: Math.min(BLOCK, this.size.width - left) }
    const part = { top, left, height: Math.min(BLOCK + REACH, this.size.height - top), width: Math.min(BLOCK + REACH, this.size.width - left) }
    return { pixels, part, windows: { top, left, height: Math.max(0, part.height - REACH), width: Math.max(0, part.width - REACH) } }
  }

  // What is known of a block within a region, or null: squared errors, their number, SSIM, its number.
  within(block, region, inner) {
    const { pixels, windows } = this.box(block)
    if (holds(region, pixels) && (holds(inner, windows) || !windows.height || !windows.width)) return this.sums.get(String(block)) ?? null
    const maps = this.maps.get(String(block))
    if (!maps) return null
    return [...partOf(maps.errors, maps.width, maps.height, pixels, region), ...partOf(maps.ssim, maps.across, maps.down, pixels, inner)]
  }

  keep(block, maps) {
    const key = String(block)
    this.sums.set(key, [maps.error, maps.errors.length, maps.likeness, maps.ssim.length])
    this.maps.delete(key)
    this.maps.set(key, maps)
    if (this.maps.size > MAPS) this.maps.delete(this.maps.keys().next().value)
  }

  // psnr, ssim (NaN where the region holds no whole window), the share of the region that they rest on, and the blocks that are missing;
  // where `mapped`, those whose maps are.
  score(region, mapped = false) {
    const inner = { ...region, height: region.height - REACH, width: region.width - REACH }
    const total = [0, 0, 0, 0], missing = []
    const blocks = blocksOf(region)
    for (const block of blocks) {
      const found = this.within(block, region, inner)
      if (found) found.forEach((value, at) => (total[at] += value))
      if (!found || (mapped && !this.maps.has(String(block)))) missing.push(block)
    }
    const [error, pixels, likeness, windows] = total
    const psnr = 10 * Math.log10(255 ** 2 / (error / pixels / 3))
    return { psnr, ssim: windows ? likeness / windows : NaN, share: pixels / (region.width * region.height), missing }
  }
}

// ------------------------------------------------------------------ overlays
// Colours of 0, ¼, ½, ¾ and 1 (inferno, as in Python): the worse, the brighter.
const HEAT = [[0, 0, 3], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]
const OVERLAYS = {
  difference: { label: "Difference", key: "d", scale: ["0", "32 levels and more"], worse: (error) => Math.sqrt(error / 3) / 32 },
  ssim: { label: "SSIM map", key: "m", scale: ["SSIM 1", "0 and less"], worse: (ssim) => 1 - ssim },
}

function heat(worse) {
  const at = 4 * clamp(worse, 0, 1), k = Math.min(Math.floor(at), 3)
  return HEAT[k].map((level, channel) => level + (at - k) * (HEAT[k + 1][channel] - level))
}

// A block in colours, made once: the difference of each pixel, or the SSIM of each window, at its middle.
function drawnMap(maps, kind) {
  if (!maps[`${kind}Canvas`]) {
    const [values, width, height] = kind === "ssim" ? [maps.ssim, maps.across, maps.down] : [maps.errors, maps.width, maps.height]
    const [canvas, context] = makeCanvas(Math.max(1, width), Math.max(1, height))
    const image = new ImageData(canvas.width, canvas.height)
    values.forEach((value, at) => image.data.set([...heat(OVERLAYS[kind].worse(value)), 255], 4 * at))
    context.putImageData(image, 0, 0)
    maps[`${kind}Canvas`] = canvas
  }
  return maps[`${kind}Canvas`]
}

// ------------------------------------------------------------------ pictures
const decode = (data, type) => createImageBitmap(new Blob([data], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" })

function makeCanvas(width, height, often = false) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height })
  return [canvas, canvas.getContext("2d", { willReadFrequently: often })]
}

// How tiles come: a function of [picture, level, number] to a promise of {data, type}; null where there are none.
function supplyOf(model) {
  if (model.tiles !== undefined) return model.tiles
  const waiting = new Map()
  model.on("msg:custom", ({ tile, type }, buffers) => {
    waiting.get(String(tile))?.({ data: buffers[0], type })
    waiting.delete(String(tile))
  })
  return (tile) => new Promise((come) => {
    waiting.set(String(tile), come)
    model.send({ tile })
  })
}

// One for each widget, shared by all its views: decoding and measuring are done once.
class Pictures {
  constructor(model) {
    this.truth = model.get("truth")
    this.size = model.get("size")
    this.supply = supplyOf(model)
    this.listeners = new Set()
    this.tiles = new Map()      // "picture,level,number" → {bitmap or null}, the least used first
    this.wanted = []            // the last asked for comes first
    this.coming = 0
    this.blocks = new Map()
    this.waiting = new Map()    // name → blocks that are still to be measured
    this.list = model.get("pictures").map((picture, at) => ({ ...picture, data: null, at, preview: null }))
    this.ready = Promise.all(model.get("pictures").map(async ({ data, type }, at) => (this.list[at].preview = await decode(data, type))))
  }

  named(name) {
    return this.list.find((picture) => picture.name === name)
  }

  // To all views: "tile", there is more to draw, or "score", more to say.
  tell(what) {
    this.listeners.forEach((act) => act(what))
  }

  // A tile, or null where it is still to come.
  tile(address) {
    const key = String(address)
    const known = this.tiles.get(key)
    if (known) {
      this.tiles.delete(key)
      this.tiles.set(key, known)
      return known.bitmap
    }
    if (!this.supply) return null
    this.tiles.set(key, { bitmap: null })
    this.wanted.push(address)
    if (this.wanted.length > KEPT / 2) this.tiles.delete(String(this.wanted.shift()))
    this.fetch()
    return null
  }

  async fetch() {
    if (this.coming >= 4 || !this.wanted.length) return
    this.coming++
    const address = this.wanted.pop()
    try {
      const { data, type } = await this.supply(address)
      this.tiles.set(String(address), { bitmap: await decode(data, type) })
    } catch (error) {
      console.warn("paintsr: the preview stands in for a tile that did not come", error)
    }
    for (const [key, { bitmap }] of this.tiles) {
      if (this.tiles.size <= KEPT) break
      if (!bitmap) continue
      bitmap.close()
      this.tiles.delete(key)
    }
    this.coming--
    this.fetch()
    this.tell("tile")
  }

  // Calls `act(bitmap, left, top, step)` for what there is of a part of a picture, where a pixel of the bitmap is `step` of the picture's;
  // false where something is still to come.
  each(picture, { top, left, height, width }, act, level = 0) {
    if (picture.whole) return act(picture.preview, 0, 0, 1), true
    const step = 2 ** level, side = TILE * step
    const across = Math.ceil(picture.width / side)
    let complete = true
    for (let y = Math.floor(top / side); y * side < top + height; y++)
      for (let x = Math.floor(left / side); x * side < left + width; x++) {
        const bitmap = this.tile([picture.at, level, y * across + x])
        if (bitmap) act(bitmap, x * side, y * side, step)
        else complete = false
      }
    return complete
  }

  // Draws the true pixels of a part at the top left of a context; false where some are still to come.
  copy(picture, part, context) {
    context.clearRect(0, 0, part.width, part.height)
    return this.each(picture, part, (bitmap, x, y) => context.drawImage(bitmap, x - part.left, y - part.top))
  }

  // RGBA of a part, or null.
  pixels(picture, part) {
    this.reader ??= makeCanvas(BLOCK + REACH, BLOCK + REACH, true)[1]
    return this.copy(picture, part, this.reader) ? this.reader.getImageData(0, 0, part.width, part.height).data : null
  }

  // [r, g, b] under an HR pixel and whether they are true, or only those of the preview.
  valueAt(picture, x, y) {
    const [left, top] = [Math.floor(x / picture.ratio), Math.floor(y / picture.ratio)]
    const data = this.pixels(picture, { left, top, width: 1, height: 1 })
    if (data) return { rgb: [...data.subarray(0, 3)], true: true }
    this.reader.drawImage(picture.preview, -Math.floor(left / picture.reduced), -Math.floor(top / picture.reduced))
    return { rgb: [...this.reader.getImageData(0, 0, 1, 1).data.subarray(0, 3)], true: false }
  }

  // Why a picture has no score, or "".
  unscored(picture) {
    if (!this.truth) return "no HR to measure against"
    if (picture.name === this.truth) return "the reference"
    if (picture.ratio !== 1) return `has pixels of its own, ${picture.width} × ${picture.height}`
    return picture.whole || this.supply ? "" : "run the cell again for its scores"
  }

  // Score of a picture in a region, from what has been measured; the rest is measured behind it, what was asked for last first.
  score(picture, region, mapped) {
    if (!this.blocks.has(picture.name)) this.blocks.set(picture.name, new Blocks(this.size))
    const score = this.blocks.get(picture.name).score(region, mapped && !tooLarge(region))
    this.waiting.set(picture.name, [...score.missing])
    this.work()
    return score
  }

  // In slices of some milliseconds on the one thread: no worker, which not every host of a notebook allows.
  async work() {
    if (this.working) return
    this.working = true
    await breathe()
    let told = performance.now(), fresh = false
    while (this.measureNext()) {
      fresh = true
      if (performance.now() > told + 60) {
        this.tell("score")
        told = performance.now()
        fresh = false
      }
      await breathe()
    }
    this.working = false
    if (fresh) this.tell("score")
  }

  // Measures one block of each picture that waits; false where all that is missing waits for tiles, whose coming will ask again.
  measureNext() {
    const measured = [...this.waiting].map(([name, missing]) => {
      // of the next three, the first last: what is asked for last comes first
      const at = [2, 1, 0].find((at) => at < missing.length && this.measure(name, this.blocks.get(name), missing[at])) ?? -1
      if (at >= 0) missing.splice(at, 1)
      return at >= 0
    })
    return measured.includes(true)
  }

  measure(name, blocks, block) {
    const { pixels, part } = blocks.box(block)
    const a = this.pixels(this.named(name), part), b = this.pixels(this.named(this.truth), part)
    if (!a || !b) return false
    blocks.keep(block, measure(a, b, part.width, part.height, pixels.width, pixels.height))
    return true
  }
}

// A turn for the browser; `setTimeout` would wait at least 4 ms each time.
const breathe = () => new Promise((go) => {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = () => (port1.close(), go())
  port2.postMessage(0)
})

const shared = new Map()
const keyOf = (model) => model.get("key") || model

function picturesOf(model) {
  const key = keyOf(model)
  if (!shared.has(key)) shared.set(key, new Pictures(model))
  return shared.get(key)
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

const MODES = [["wipe", "Wipe", "w"], ["side", "Side by side", "s"], ["grid", "Grid", "g"], ["flip", "Flip", "f"]]
const KEYS = [
  ["1–9", "left picture"], ["⇧ 1–9", "right picture"], ["space", "swap (held: only so long)"], ["w", "wipe"], ["s", "side by side"], ["g", "grid"], ["f", "flip"],
  ["⇧ ← →", "move the wipe"], ["← ↑ ↓ →", "pan"], ["+ −", "zoom"], ["0", "fit"], ["p", "1:1 pixels"], ["d", "difference"], ["m", "SSIM map"], ["h", "hide what lies on the picture"],
]
const HELD = 350   // milliseconds from which on a key counts as held

const percent = (zoom) => `${zoom >= 0.1 ? Math.round(zoom * 100) : (zoom * 100).toFixed(1)} %`
const decibel = (psnr) => (psnr === Infinity ? "∞" : psnr.toFixed(2))
const writes = (element) => element?.isContentEditable || element?.matches?.("input, textarea, select, [role=textbox]")

class Viewer {
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
    this.build()
    this.listen()
    this.pictures.ready.then(
      () => this.open(),
      () => (this.note.textContent = "A picture could not be decoded by this browser."),
    )
  }

  build() {
    const button = (label, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, label)
    this.chips = ["left", "right"].map((side) => h("div", { class: `chips ${side}`, role: "group", "aria-label": `Picture on the ${side}` },
      this.names.map((name, at) => h("button", {
        type: "button", "aria-label": `${name} on the ${side}`, title: `${name} on the ${side} (${side === "left" ? "" : "Shift+"}${at + 1})`, "data-name": name,
        onclick: () => this.choose(side, name),
      }, h("kbd", { "aria-hidden": "true" }, at > 8 ? "" : `${side === "left" ? "" : "⇧"}${at + 1}`), name))))
    this.modes = MODES.filter(([mode]) => mode !== "grid" || this.names.length > 2).map(([mode, label, key]) => h("button", {
      type: "button", title: `${label} (${key})`, "data-mode": mode, onclick: () => this.change({ mode }) }, label))
    this.scale = h("output", { class: "scale", title: "Device pixels per HR pixel" }, "–")
    this.handle = h("div", { class: "handle", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "100" },
      h("span", { class: "knob", "aria-hidden": "true" }))
    this.canvas = h("canvas", { "aria-hidden": "true" })
    this.note = h("p", { class: "note" }, "Loading …")
    this.labels = h("div", { class: "labels", "aria-hidden": "true" })
    this.legend = h("div", { class: "legend" })
    this.stage = h("div", { class: "stage", tabindex: "0", role: "application", "aria-roledescription": "picture comparison",
      style: `height:${this.model.get("height")}px` }, this.canvas, this.note, this.labels, this.legend, this.handle, this.chips)
    this.values = h("div", { class: "values" })
    this.scores = h("div", { class: "scores" })
    this.status = h("div", { class: "aloud", role: "status", "aria-live": "polite" })
    this.overlays = this.pictures.truth ? Object.entries(OVERLAYS).map(([overlay, { label, key }]) => h("button", {
      type: "button", title: `${label} to ${this.pictures.truth} (${key})`, "data-overlay": overlay, onclick: () => this.lay(overlay) }, label)) : []
    this.bare = button("Hide", "Hide what lies on the picture (h)", () => this.hide())
    // The stage comes first, so that the first Tab reaches it; the style sheet puts the bar above it.
    this.root = h("div", { class: "paintsr" },
      this.stage,
      h("div", { class: "bar" }, h("div", { class: "modes", role: "group", "aria-label": "Mode" }, this.modes),
        h("div", { class: "zooms", role: "group", "aria-label": "Zoom and overlays" }, this.overlays, this.bare,
          button("Fit", "Fit the whole picture (0)", () => this.change({ zoom: "fit" })),
          button("1:1", "True pixels (p)", () => this.zoomTo(1)),
          button("−", "Zoom out (-)", () => this.step(-1)), this.scale, button("+", "Zoom in (+)", () => this.step(1)))),
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
    on(this.root, "keyup", (event) => this.keyUp(event))
    on(this.root, "click", (event) => this.clicked(event))
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
    return mode === "grid" ? this.names : mode === "flip" ? [left] : [left, right]
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
    return this.view.mode === "wipe" ? [0, 0] : [(number % columns) * (width + GAP), Math.floor(number / columns) * (height + GAP)]
  }

  paneUnder([across, down]) {
    const columns = columnsOf(this.view, this.frame, this.size, this.names.length)
    const [column, row] = [across, down].map((place, axis) => Math.max(0, Math.floor(place / (this.pane[axis] + GAP))))
    return this.view.mode === "wipe" ? 0 : clamp(Math.min(column, columns - 1) + columns * row, 0, this.shown.length - 1)
  }

  fromCentre(place, within = place) {
    const corner = this.corner(this.paneUnder(within))
    return this.pane.map((side, axis) => place[axis] - corner[axis] - side / 2)
  }

  // Top left of the picture on the stage, in the pane that begins at `corner`.
  origin(corner) {
    const centre = [this.view.x, this.view.y]
    return this.pane.map((side, axis) => corner[axis] + startOf(centre[axis], side, this.zoom))
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
    this.zoomTo(passes ? 1 : zoom, this.place(event))
  }

  press(event) {
    if (event.button > 0 || event.target.closest("button")) return
    event.preventDefault()
    this.stage.setPointerCapture(event.pointerId)
    const onHandle = event.target.closest(".handle")
    ;(onHandle ?? this.stage).focus({ preventScroll: true, focusVisible: false })
    const place = this.place(event)
    const grip = onHandle ? this.view.split * this.frame[0] - place[0] : null   // the handle stays where it was gripped
    this.pointers.set(event.pointerId, { place, grip })
    this.stage.classList.toggle("held", !onHandle)
    this.pointer = place
    this.showValues()
  }

  move(event) {
    const place = this.place(event)
    const held = this.pointers.get(event.pointerId)
    if (!held && !event.movementX && !event.movementY) return   // the page moved, not the pointer
    this.pointer = place
    if (!held) {
      this.listenHere()
      return this.showValues()
    }
    const [before, other] = [held.place, [...this.pointers.values()].find((each) => each !== held)]
    held.place = place
    if (held.grip !== null) this.change({ split: (place[0] + held.grip) / this.frame[0] })
    else if (other) this.pinch(other.place, before, place)
    else this.pan(before[0] - place[0], before[1] - place[1])
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
    if (!this.pointers.size) this.stage.classList.remove("held")
  }

  // A finger that is lifted leaves the values of where it was.
  leave(event) {
    if (event.pointerType === "touch") return
    this.pointer = null
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
    if (event.ctrlKey || event.metaKey || event.altKey) return
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
    if (digit === "0") return () => this.change({ zoom: "fit" })
    if (digit) return () => this.choose(shiftKey ? "right" : "left", this.names[digit - 1])
    if (key === " ") return () => this.spaceDown(event)
    const [width, height] = this.pane.map((side) => side / 8)
    const across = { ArrowLeft: -1, ArrowRight: 1 }[key]
    if (across && (shiftKey || event.target === this.handle))
      return () => this.change({ split: Math.round((this.view.split + across * 0.02) * 1000) / 1000 })
    if (across) return () => this.pan(across * width, 0)
    const mode = this.modes.find((button) => button.title.endsWith(`(${key})`))?.dataset.mode
    if (mode) return () => this.change({ mode })
    const overlay = this.overlays.find((button) => button.title.endsWith(`(${key})`))?.dataset.overlay
    if (overlay) return () => this.lay(overlay)
    return {
      ArrowUp: () => this.pan(0, -height), ArrowDown: () => this.pan(0, height),
      "+": () => this.step(1), "=": () => this.step(1), "-": () => this.step(-1), "_": () => this.step(-1),
      p: () => this.zoomTo(1), h: () => this.hide(),
    }[key]
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
    this.shown.forEach((name, at) => {
      const corner = this.corner(at)
      const sides = view.mode === "wipe" ? [[0, cut], [cut, width]][at] : [corner[0], corner[0] + pane[0]]
      this.paint(this.pictures.named(name), corner, sides)
    })
    this.label()
    this.showValues()
    this.scoring ??= setTimeout(() => this.showScores(), 30)
  }

  // `picture` in the pane that begins at `corner`, drawn between the columns `from` and `to` of the stage.
  paint(picture, corner, [from, to]) {
    if (to <= from) return
    const { context, zoom, pane } = this
    const scale = zoom * picture.ratio   // device pixels per pixel of this picture
    const [left, top] = this.origin(corner)
    const x0 = clamp(Math.floor((from - left) / scale), 0, picture.width), x1 = clamp(Math.ceil((to - left) / scale), x0, picture.width)
    const y0 = clamp(Math.floor((corner[1] - top) / scale), 0, picture.height), y1 = clamp(Math.ceil((corner[1] + pane[1] - top) / scale), y0, picture.height)
    if (x1 <= x0 || y1 <= y0) return
    context.save()
    context.beginPath()
    context.rect(from, corner[1], to - from, pane[1])
    context.clip()
    const part = { left: x0, top: y0, width: x1 - x0, height: y1 - y0 }
    const level = Math.max(0, Math.floor(Math.log2(1 / scale)))   // just fine enough
    const finer = picture.whole || 2 ** level < picture.reduced
    if (!finer || !this.pictures.each(picture, part, () => {}, level)) this.paintPreview(picture, left, top, scale)
    if (scale >= 1) this.paintTrue(picture, part, left, top, scale)
    else if (finer) this.paintSmaller(picture, part, left, top, scale, level)
    if (this.view.overlay && !this.pictures.unscored(picture)) this.paintOverlay(picture, left, top)
    context.restore()
  }

  // What there is at once; soft where it is enlarged, so that nobody takes it for true pixels.
  paintPreview({ preview, width, height, reduced }, left, top, scale) {
    this.context.imageSmoothingEnabled = reduced > 1 || scale < 1
    this.context.imageSmoothingQuality = scale * reduced < 1 ? "high" : "low"
    this.context.drawImage(preview, 0, 0, width / reduced, height / reduced, left, top, width * scale, height * scale)
  }

  // From 100 % on: true pixels; put together first where tiles would meet within a device pixel.
  paintTrue(picture, part, left, top, scale) {
    this.context.imageSmoothingEnabled = false
    if (Number.isInteger(scale))
      return this.pictures.each(picture, part, (bitmap, x, y) =>
        this.context.drawImage(bitmap, left + x * scale, top + y * scale, bitmap.width * scale, bitmap.height * scale))
    if (!this.patch || this.patch.width < part.width || this.patch.height < part.height)
      [this.patch, this.patchContext] = makeCanvas(Math.max(part.width, this.patch?.width ?? 0), Math.max(part.height, this.patch?.height ?? 0))
    this.pictures.copy(picture, part, this.patchContext)
    this.context.drawImage(this.patch, 0, 0, part.width, part.height,
      left + part.left * scale, top + part.top * scale, part.width * scale, part.height * scale)
  }

  // Below 100 %: tiles, each to whole device pixels, so that no seam shows.
  paintSmaller(picture, part, left, top, scale, level) {
    this.context.imageSmoothingEnabled = true
    this.context.imageSmoothingQuality = "high"
    const snap = picture.whole ? (place) => place : Math.round
    this.pictures.each(picture, part, (bitmap, x, y, step) => {
      const right = Math.min(x + bitmap.width * step, picture.width), bottom = Math.min(y + bitmap.height * step, picture.height)
      const [x0, y0, x1, y1] = [left + x * scale, top + y * scale, left + right * scale, top + bottom * scale].map(snap)
      this.context.drawImage(bitmap, 0, 0, (right - x) / step, (bottom - y) / step, x0, y0, x1 - x0, y1 - y0)
    }, level)
  }

  // What has been measured of the part in view; the rest of the picture shows itself until then.
  paintOverlay({ name }, left, top) {
    const region = regionOf(this.view, this.frame, this.size, this.names.length)
    const blocks = this.pictures.blocks.get(name)
    if (!blocks || tooLarge(region)) return
    const { zoom, view: { overlay } } = this
    this.context.imageSmoothingEnabled = zoom < 1
    for (const [row, column] of blocksOf({ ...region, top: Math.max(0, region.top - REACH), left: Math.max(0, region.left - REACH) })) {
      const maps = blocks.maps.get(String([row, column]))
      if (!maps || (overlay === "ssim" && !maps.ssim.length)) continue
      const canvas = drawnMap(maps, overlay)
      const shift = overlay === "ssim" ? REACH / 2 : 0
      const [x0, y0, x1, y1] = [left + (column * BLOCK + shift) * zoom, top + (row * BLOCK + shift) * zoom,
        left + (column * BLOCK + shift + canvas.width) * zoom, top + (row * BLOCK + shift + canvas.height) * zoom].map(Math.round)
      this.context.drawImage(canvas, x0, y0, x1 - x0, y1 - y0)
    }
  }

  // ---------------------------------------------------------------- words
  label() {
    const { view } = this
    const wipes = view.mode === "wipe"
    this.root.dataset.mode = view.mode
    this.modes.forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === view.mode))
    this.chips.forEach((group, at) => {
      group.hidden = view.mode === "grid" || (view.mode === "flip" && at === 1)
      const chosen = at ? view.right : view.left
      for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.name === chosen)
      if (group.dataset.chosen !== chosen) this.bring(group, chosen)
    })
    this.labels.replaceChildren(...(view.mode === "grid" ? this.names.map((name, at) => this.paneLabel(name, at)) : []))
    this.overlays.forEach((button) => button.setAttribute("aria-pressed", button.dataset.overlay === view.overlay))
    this.explain(OVERLAYS[view.overlay])
    this.handle.hidden = !wipes
    this.handle.style.left = `${(Math.round(view.split * this.frame[0]) / this.frame[0]) * 100}%`
    this.handle.setAttribute("aria-label", `Wipe between ${view.left} and ${view.right}`)
    this.handle.setAttribute("aria-valuenow", Math.round(view.split * 100))
    this.handle.setAttribute("aria-valuetext", `${Math.round(view.split * 100)} % ${view.left}`)
    this.stage.style.touchAction = this.larger ? "none" : "pan-y"   // a swipe over a picture that cannot move scrolls the page
    this.scale.textContent = percent(this.zoom)
    const mode = MODES.find(([name]) => name === view.mode)[1].toLowerCase()
    const overlay = view.overlay ? `, ${OVERLAYS[view.overlay].label}` : ""
    const label = `${this.shown.join(" and ")}, ${mode}${overlay}, ${percent(this.zoom)}`
    this.stage.setAttribute("aria-label", `${label}; arrow keys pan, plus and minus zoom, digits choose the picture`)
    clearTimeout(this.speaking)
    this.speaking = setTimeout(() => (this.status.textContent = `${label}. ${this.scores.textContent}`), 800)
  }

  // The legend of an overlay: its fixed scale, or why it is not drawn.
  explain(overlay) {
    this.legend.hidden = !overlay
    if (!overlay) return
    const large = tooLarge(regionOf(this.view, this.frame, this.size, this.names.length))
    const bar = h("i", { style: `background:linear-gradient(to right, ${HEAT.map((rgb) => `rgb(${rgb})`).join(", ")})` })
    this.legend.replaceChildren(overlay.label, " ", ...(large ? ["zoom in to see it"] : [overlay.scale[0], bar, overlay.scale[1]]))
  }

  // The chosen name comes into sight in its row, and nothing else scrolls.
  bring(group, name) {
    const button = [...group.children].find((each) => each.dataset.name === name)
    group.scrollLeft = button.offsetLeft - (group.clientWidth - button.offsetWidth) / 2
    group.dataset.chosen = name
  }

  paneLabel(name, at) {
    const [left, top] = this.corner(at).map((place, axis) => `${(100 * place) / this.frame[axis]}%`)
    return h("span", { style: `left:${left};top:${top}` }, name)
  }

  // The same words and places whether the pointer is over the picture or not, so that nothing jumps.
  showValues() {
    if (!this.opened) return
    const [width, height] = this.size
    const [left, top] = this.pointer ? this.origin(this.corner(this.paneUnder(this.pointer))) : [0, 0]
    const [x, y] = this.pointer ? [(this.pointer[0] - left) / this.zoom, (this.pointer[1] - top) / this.zoom].map(Math.floor) : [-1, -1]
    const inside = x >= 0 && y >= 0 && x < width && y < height
    const value = (picture) => {
      const { rgb, true: known } = inside ? this.pictures.valueAt(picture, x, y) : { rgb: ["–", "–", "–"], true: true }
      return h("span", { class: "value" }, h("i", { style: inside ? `background:rgb(${rgb})` : "" }), h("b", {}, picture.name),
        h("span", { class: "rgb" }, ` ${known ? "" : "≈ "}${rgb.join(" ")}`), picture.exact ? "" : " (lossy)")
    }
    this.values.replaceChildren(h("span", { class: "at" }, inside ? `x ${x}  y ${y}` : `${width} × ${height} px`),
      ...this.shown.map((name) => value(this.pictures.named(name))))
  }

  showScores() {
    this.scoring = null
    if (!this.opened) return
    const region = regionOf(this.view, this.frame, this.size, this.names.length)
    const { truth } = this.pictures
    const before = this.missing
    this.missing = 0
    const scores = this.shown.map((name) => this.scoreOf(this.pictures.named(name), region))
    const caption = h("span", { class: "quiet", title: "PSNR and SSIM (wang_rgb) of the part in view" }, truth ? `in view, against ${truth}` : "no HR, no scores")
    this.scores.replaceChildren(...(truth ? scores : []), caption)
    if (this.view.overlay && this.missing !== before) this.later()   // there is more of it to be drawn
  }

  scoreOf(picture, region) {
    const why = this.pictures.unscored(picture)
    if (why) return h("span", { class: "unscored quiet", "data-name": picture.name }, h("b", {}, picture.name), ` ${why}`)
    const { psnr, ssim, share, missing } = this.pictures.score(picture, region, Boolean(this.view.overlay))
    this.missing += missing.length
    const near = share < 1 ? "≈ " : ""
    const [decibels, likeness] = share ? [`${near}${decibel(psnr)}`, Number.isNaN(ssim) ? "–" : near + ssim.toFixed(4)] : ["…", "…"]
    const about = share < 1 ? `From ${Math.ceil(100 * share)} % of the view${missing.length ? "" : "; zoom in for all of it"}` : "From every pixel in view"
    return h("span", { class: share ? "score" : "coming", "data-name": picture.name, title: about }, h("b", {}, picture.name), ` ${decibels} dB `,
      h("span", { class: "ssim" }, `SSIM ${likeness}`))
  }
}

// ------------------------------------------------------------------ the ways in
export function mount(el, model) {
  const viewer = new Viewer(el, model)
  return () => viewer.close()
}

// What anywidget's model is, where there is no kernel; bytes come as base64. `tiles` as of `supplyOf`.
export function localModel(state, tiles = null) {
  const values = { ...state, pictures: state.pictures.map((picture) => ({ ...picture, data: bytes(picture.data) })) }
  const listeners = {}
  return {
    tiles,
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

const bytes = (text) => Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))

// The tiles of a page lie in elements of their own, which the browser may still be reading, as base64: `script#tile-0-0-7` of type image/webp.
export async function pageTiles(tile) {
  const id = `tile-${tile.join("-")}`
  for (;;) {
    const complete = document.readyState !== "loading"
    const element = document.getElementById(id)
    if (element && (complete || element.nextSibling)) return { data: bytes(element.textContent), type: element.type }
    if (complete) throw new Error(`the page lacks ${id}`)
    await new Promise((go) => setTimeout(go, 30))
  }
}

// A saved output looks at the widget of the running kernel where there is one, and else at what it carries itself.
export function revive(el, state) {
  let close = () => {}
  const show = (model) => {
    close()
    el.replaceChildren()
    close = mount(el, (el.model = model))
  }
  const kernel = () => liveModels().get(state.key)
  const waiting = setTimeout(() => show(localModel({ ...state, key: null })), kernel() ? 1e9 : PATIENCE)
  const found = () => kernel() && el.model !== kernel() && (clearTimeout(waiting), show(kernel()))
  addEventListener("paintsr-model", found)
  found()
}

// Models of this window by their key, for outputs that were written with a copy of this module of their own.
const liveModels = () => (globalThis.paintsrModels ??= new Map())

export default {
  initialize({ model }) {
    liveModels().set(model.get("key"), model)
    dispatchEvent(new Event("paintsr-model"))
    return () => liveModels().delete(model.get("key"))
  },
  render: ({ model, el }) => mount(el, model),
}
