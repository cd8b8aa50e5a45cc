import { makeCanvas } from "./furniture.js"
import { clamp } from "./geometry.js"
import { BLOCK, Blocks, REACH, measure, tooLarge } from "./scores.js"

const TILE = 512   // pixels along a tile, as in Python
const KEPT = 160   // decoded tiles that are kept, 1 MB each
const PIECE = 64   // LR pixels along a piece that is enlarged at once

const decode = (data, type) => createImageBitmap(new Blob([data], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" })

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

// Bicubic weights (Keys 1981, a = -0.5) of the four LR pixels about each of the `ratio` places within one: [first, weights].
function weightsOf(ratio) {
  const near = (x) => 1.5 * x ** 3 - 2.5 * x ** 2 + 1, far = (x) => -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2
  return Array.from({ length: ratio }, (_, place) => {
    const at = (place + 0.5) / ratio - 0.5, first = Math.floor(at) - 1
    return [first, [0, 1, 2, 3].map((k) => Math.abs(at - first - k)).map((x) => (x < 1 ? near(x) : far(x)))]
  })
}

const mirrored = (at, count) => clamp(at < 0 ? -1 - at : at >= count ? 2 * count - 1 - at : at, 0, count - 1)

// A canvas of a part of an LR picture at the size of the HR grid, down first and then across, or null while its pixels are to come.
function enlargedPart(pictures, picture, { top, left, height, width }) {
  const { ratio } = picture
  const [y0, x0] = [Math.max(0, top - 2), Math.max(0, left - 2)]
  const around = { top: y0, left: x0, height: Math.min(picture.height, top + height + 2) - y0, width: Math.min(picture.width, left + width + 2) - x0 }
  const data = pictures.pixels(picture, around)
  if (!data) return null
  const weights = weightsOf(ratio), stride = around.width * 4
  const [canvas, context] = makeCanvas(width * ratio, height * ratio)
  const image = new ImageData(canvas.width, canvas.height), line = new Uint8ClampedArray(stride)   // rounded after each pass, as in Python
  const taps = (place, begin, least, count, step) => [0, 1, 2, 3].map((k) => (mirrored(begin + Math.floor(place / ratio) + weights[place % ratio][0] + k, count) - least) * step)
  const columns = Array.from({ length: canvas.width }, (_, x) => taps(x, left, x0, picture.width, 4))
  for (let y = 0, at = 0; y < canvas.height; y++) {
    const [r0, r1, r2, r3] = taps(y, top, y0, picture.height, stride), [v0, v1, v2, v3] = weights[y % ratio][1]
    for (let i = 0; i < stride; i++) line[i] = Math.floor(0.5 + v0 * data[r0 + i] + v1 * data[r1 + i] + v2 * data[r2 + i] + v3 * data[r3 + i])
    for (let x = 0; x < canvas.width; x++) {
      const [c0, c1, c2, c3] = columns[x], [w0, w1, w2, w3] = weights[x % ratio][1]
      for (let c = 0; c < 4; c++, at++)
        image.data[at] = Math.floor(0.5 + w0 * line[c0 + c] + w1 * line[c1 + c] + w2 * line[c2 + c] + w3 * line[c3 + c])
    }
  }
  context.putImageData(image, 0, 0)
  return canvas
}

// One for each widget, shared by all its views: decoding and measuring are done once.
class Pictures {
  constructor(model) {
    this.truth = model.get("truth")
    this.size = model.get("size")
    this.supply = supplyOf(model)
    this.listeners = new Set()
    this.tiles = new Map()      // "picture,level,number" → {bitmap or null}, the least used first
    this.pieces = new Map()     // "picture,row,column" → canvas of an enlarged piece
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

  // Calls `act(canvas, left, top)` for pieces of a picture enlarged to the HR grid by bicubic interpolation, in HR pixels; pieces are kept.
  enlarged(picture, { top, left, height, width }, act) {
    for (let y = Math.floor(top / PIECE); y * PIECE < top + height; y++)
      for (let x = Math.floor(left / PIECE); x * PIECE < left + width; x++) {
        const key = String([picture.at, y, x])
        if (!this.pieces.has(key)) {
          const part = { top: y * PIECE, left: x * PIECE, height: Math.min(PIECE, picture.height - y * PIECE), width: Math.min(PIECE, picture.width - x * PIECE) }
          const canvas = enlargedPart(this, picture, part)
          if (!canvas) continue
          this.pieces.set(key, canvas)
          if (this.pieces.size > KEPT) this.pieces.delete(this.pieces.keys().next().value)
        }
        act(this.pieces.get(key), x * PIECE * picture.ratio, y * PIECE * picture.ratio)
      }
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

export const shared = new Map()
export const keyOf = (model) => model.get("key") || model

export function picturesOf(model) {
  const key = keyOf(model)
  if (!shared.has(key)) shared.set(key, new Pictures(model))
  return shared.get(key)
}
