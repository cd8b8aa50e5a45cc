import { h, makeCanvas } from "./furniture.js"
import { GAP } from "./geometry.js"

const SIDE = 136   // CSS pixels along a cell
const STEPS = [4, 8, 16, 32, 64]

// A magnifier that shows all pictures of the one spot under the pointer, side by side; without a pointer, of the middle of the stage.
export class Loupe {
  constructor(viewer) {
    this.viewer = viewer;
    [this.canvas, this.context] = makeCanvas(1, 1)
    this.names = h("div", {})
    this.element = h("div", { class: "loupe", "aria-hidden": "true", hidden: "" }, this.canvas, this.names)
    this.spot = h("div", { class: "spot", "aria-hidden": "true", hidden: "" })
  }

  // Two steps beyond what is seen already, then off.
  next() {
    const { view, zoom } = this.viewer
    const steps = STEPS.filter((step) => step > 1.5 * zoom).slice(0, 2)
    return steps.find((step) => step > view.loupe) ?? 0
  }

  draw() {
    const { viewer } = this
    const { loupe: zoom } = viewer.view
    this.element.hidden = this.spot.hidden = !zoom || !viewer.opened
    if (this.element.hidden) return
    const { ratio } = viewer
    const place = viewer.pointer ?? viewer.middle
    const [x, y] = viewer.hrUnder(place)
    const names = viewer.blind.on ? viewer.blind.question : viewer.names
    const side = Math.round(SIDE * ratio)
    const columns = Math.max(1, Math.min(names.length, Math.floor((viewer.frame[0] + GAP) / (side + GAP))))
    const [width, height] = [columns, Math.ceil(names.length / columns)].map((count) => count * (side + GAP) - GAP)
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height })
    this.context.clearRect(0, 0, width, height)
    names.forEach((name, at) => {
      const corner = [(at % columns) * (side + GAP), Math.floor(at / columns) * (side + GAP)]
      const [left, top] = viewer.offsetOf(name).map((offset, axis) => Math.floor(corner[axis] + side / 2 - ([x, y][axis] - offset) * zoom + 0.5))
      viewer.brush.paint(this.context, viewer.pictures.named(name), { zoom, left, top, box: [...corner, corner[0] + side, corner[1] + side] }, viewer.view)
    })
    this.names.replaceChildren(...names.map((name, at) => h("span", {
      style: `left:${((at % columns) * (side + GAP)) / ratio}px;top:${(Math.floor(at / columns) * (side + GAP)) / ratio}px;max-width:${SIDE}px`,
    }, viewer.called(name))))
    this.put(place, [width, height], (side / zoom) * viewer.zoomAt(place))
  }

  // Below the spot where there is room, else above; the spot itself is framed.
  put(place, [width, height], reach) {
    const { ratio, frame } = this.viewer
    const away = Math.max(reach / 2, 10 * ratio) + 10 * ratio
    const left = Math.min(Math.max(place[0] - width / 2, 0), Math.max(0, frame[0] - width))
    const below = place[1] + away + height <= frame[1] || place[1] - away - height < 0
    const top = Math.min(Math.max(below ? place[1] + away : place[1] - away - height, 0), Math.max(0, frame[1] - height))
    Object.assign(this.element.style, { left: `${left / ratio}px`, top: `${top / ratio}px`, width: `${width / ratio}px`, height: `${height / ratio}px` })
    Object.assign(this.spot.style, { left: `${(place[0] - reach / 2) / ratio}px`, top: `${(place[1] - reach / 2) / ratio}px`,
      width: `${reach / ratio}px`, height: `${reach / ratio}px` })
  }
}
