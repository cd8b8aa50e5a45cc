import { clamp, regionOf, startOf } from "./geometry.js"
import { makeCanvas } from "./furniture.js"
import { drawnMap } from "./overlays.js"
import { BLOCK, REACH, blocksOf, tooLarge } from "./scores.js"

// Draws a picture on a context, true to the pixel from 100 % on. Where it goes is told by
//   zoom      device pixels per HR pixel
//   left, top device pixel at which the HR grid begins
//   box       [left, top, right, bottom] that may be drawn on
//   region    what of the HR grid is in view, where an overlay is wanted
export class Brush {
  constructor(pictures, size) {
    this.pictures = pictures
    this.size = size
  }

  paint(context, picture, { zoom, left, top, box, region = null }, { low, overlay, brightness }) {
    const scale = zoom * picture.ratio   // device pixels per pixel of this picture
    const [x0, x1] = [box[0], box[2]].map((edge, end) => clamp((end ? Math.ceil : Math.floor)((edge - left) / scale), 0, picture.width))
    const [y0, y1] = [box[1], box[3]].map((edge, end) => clamp((end ? Math.ceil : Math.floor)((edge - top) / scale), 0, picture.height))
    if (x1 <= x0 || y1 <= y0 || box[2] <= box[0]) return
    context.save()
    context.beginPath()
    context.rect(box[0], box[1], box[2] - box[0], box[3] - box[1])
    context.clip()
    const part = { left: x0, top: y0, width: x1 - x0, height: y1 - y0 }
    const level = Math.max(0, Math.floor(Math.log2(1 / scale)))   // just fine enough
    const finer = picture.whole || 2 ** level < picture.reduced
    if (!finer || !this.pictures.each(picture, part, () => {}, level)) this.preview(context, picture, left, top, scale)
    if (picture.ratio > 1 && low === "bicubic" && scale >= 1) this.smooth(context, picture, part, left, top, zoom)
    else if (scale >= 1) this.true(context, picture, part, left, top, scale)
    else if (finer) this.smaller(context, picture, part, left, top, scale, level)
    if (brightness > 1) this.lighten(context, box, brightness)
    if (region && overlay) this.overlay(context, picture, region, overlay, left, top, zoom)
    context.restore()
  }

  // What there is at once; soft where it is enlarged, so that nobody takes it for true pixels.
  preview(context, { preview, width, height, reduced }, left, top, scale) {
    context.imageSmoothingEnabled = reduced > 1 || scale < 1
    context.imageSmoothingQuality = scale * reduced < 1 ? "high" : "low"
    context.drawImage(preview, 0, 0, width / reduced, height / reduced, left, top, width * scale, height * scale)
  }

  // From 100 % on: true pixels; put together first where tiles would meet within a device pixel.
  true(context, picture, part, left, top, scale) {
    context.imageSmoothingEnabled = false
    if (Number.isInteger(scale))
      return this.pictures.each(picture, part, (bitmap, x, y) =>
        context.drawImage(bitmap, left + x * scale, top + y * scale, bitmap.width * scale, bitmap.height * scale))
    if (!this.patch || this.patch.width < part.width || this.patch.height < part.height)
      [this.patch, this.patchContext] = makeCanvas(Math.max(part.width, this.patch?.width ?? 0), Math.max(part.height, this.patch?.height ?? 0))
    this.pictures.copy(picture, part, this.patchContext)
    context.drawImage(this.patch, 0, 0, part.width, part.height,
      left + part.left * scale, top + part.top * scale, part.width * scale, part.height * scale)
  }

  // Below 100 %: tiles, each to whole device pixels, so that no seam shows.
  smaller(context, picture, part, left, top, scale, level) {
    context.imageSmoothingEnabled = true
    context.imageSmoothingQuality = "high"
    const snap = picture.whole ? (place) => place : Math.round
    this.pictures.each(picture, part, (bitmap, x, y, step) => {
      const right = Math.min(x + bitmap.width * step, picture.width), bottom = Math.min(y + bitmap.height * step, picture.height)
      const [x0, y0, x1, y1] = [left + x * scale, top + y * scale, left + right * scale, top + bottom * scale].map(snap)
      context.drawImage(bitmap, 0, 0, (right - x) / step, (bottom - y) / step, x0, y0, x1 - x0, y1 - y0)
    }, level)
  }

  // An LR picture by bicubic interpolation instead of squares: the pixels that `enlarge` gives in Python.
  smooth(context, picture, part, left, top, zoom) {
    context.imageSmoothingEnabled = zoom < 1
    this.pictures.enlarged(picture, part, (canvas, x, y) => this.snapped(context, canvas, left + x * zoom, top + y * zoom, zoom))
  }

  // Onto whole device pixels, so that no seam shows.
  snapped(context, canvas, x, y, zoom) {
    const [x0, y0, x1, y1] = [x, y, x + canvas.width * zoom, y + canvas.height * zoom].map(Math.round)
    context.drawImage(canvas, x0, y0, x1 - x0, y1 - y0)
  }

  // Doubled by adding the canvas to itself, which is exact.
  lighten(context, [left, top, right, bottom], brightness) {
    context.globalCompositeOperation = "lighter"
    for (let times = 1; times < brightness; times *= 2)
      context.drawImage(context.canvas, left, top, right - left, bottom - top, left, top, right - left, bottom - top)
    context.globalCompositeOperation = "source-over"
  }

  // What has been measured of the part in view; the rest of the picture shows itself until then.
  overlay(context, { name }, region, kind, left, top, zoom) {
    const blocks = this.pictures.blocks.get(name)
    if (!blocks || tooLarge(region)) return
    context.imageSmoothingEnabled = zoom < 1
    for (const [row, column] of blocksOf({ ...region, top: Math.max(0, region.top - REACH), left: Math.max(0, region.left - REACH) })) {
      const maps = blocks.maps.get(String([row, column]))
      if (!maps || (kind === "ssim" && !maps.ssim.length)) continue
      const shift = kind === "ssim" ? REACH / 2 : 0
      this.snapped(context, drawnMap(maps, kind), left + (column * BLOCK + shift) * zoom, top + (row * BLOCK + shift) * zoom, zoom)
    }
  }
}
