import { button, h } from "./furniture.js"
import { clamp } from "./geometry.js"

// Labelled boxes, kept with the view as [left, top, width, height, label] in HR pixels. Armed by the key b: the next drag draws one, or Enter
// puts it about the middle of what is in view; then it is named.
export class Boxes {
  constructor(viewer) {
    this.viewer = viewer
    this.armed = false
    this.from = null
    this.list = h("span", { class: "list" })
  }

  arm(armed = !this.armed) {
    this.armed = armed
    this.from = null
    this.viewer.stage.classList.toggle("armed", armed)
    if (armed) this.viewer.say("Draw a box on the picture, or press Enter for one in the middle; Escape gives up")
    this.viewer.later()
  }

  press(place) {
    this.from = this.to = this.viewer.hrUnder(place)
  }

  move(place) {
    this.to = this.viewer.hrUnder(place)
    this.viewer.later()
  }

  release() {
    const { from, to } = this
    this.arm(false)
    this.add([0, 1].map((axis) => Math.min(from[axis], to[axis])), [0, 1].map((axis) => Math.max(from[axis], to[axis])))
  }

  middle() {
    const { top, left, height, width } = this.viewer.region
    this.arm(false)
    this.add([left + width / 4, top + height / 4], [left + (3 * width) / 4, top + (3 * height) / 4])
  }

  add(first, last) {
    const { viewer } = this
    const [left, top] = first.map((at, axis) => clamp(Math.floor(at), 0, viewer.size[axis] - 1))
    const [right, bottom] = last.map((at, axis) => clamp(Math.ceil(at), 1, viewer.size[axis]))
    if (right - left < 2 || bottom - top < 2) return viewer.say("That box is too small")
    viewer.change({ boxes: [...viewer.view.boxes, [left, top, right - left, bottom - top, ""]] })
    this.name(viewer.view.boxes.length - 1)
  }

  // A field on the stage, where the box begins.
  name(number) {
    const { viewer } = this
    const [x, y] = viewer.onStage(viewer.view.boxes[number].slice(0, 2)).map((at, axis) => clamp(at / viewer.ratio, 0, viewer.frame[axis] / viewer.ratio - 40))
    const field = h("input", { class: "field", "aria-label": "Label of the box", placeholder: "label", style: `left:${x}px;top:${y}px`,
      onblur: () => done(true), onkeydown: (event) => ["Enter", "Escape"].includes(event.key) && done(event.key === "Enter", event) })
    const done = (kept, event) => {
      if (!field.isConnected || this.closing) return
      event?.stopPropagation()
      this.closing = true   // removing a focused field blurs it
      if (kept) viewer.change({ boxes: viewer.view.boxes.map((box, at) => (at === number ? [...box.slice(0, 4), field.value.trim()] : box)) })
      field.remove()
      this.closing = false
      viewer.stage.focus({ preventScroll: true, focusVisible: false })
    }
    field.dataset.lmSuppressShortcuts = "true"
    viewer.stage.append(field)
    field.focus({ preventScroll: true })
  }

  // In the tools: a name goes there, × takes the box away.
  show() {
    const { viewer } = this
    const { boxes } = viewer.view
    if (this.listed === JSON.stringify(boxes)) return
    this.listed = JSON.stringify(boxes)
    this.list.replaceChildren(...boxes.flatMap((box, at) => {
      const label = box[4] || `box ${at + 1}`
      return [button(label, `Go to ${label}`, () => this.visit(box)),
        button("×", `Remove ${label}`, () => viewer.change({ boxes: viewer.view.boxes.filter((_, other) => other !== at) }), { class: "remove" })]
    }))
  }

  visit([left, top, width, height]) {
    const { viewer } = this
    viewer.change({ x: left + width / 2, y: top + height / 2, zoom: clamp(0.7 * Math.min(viewer.pane[0] / width, viewer.pane[1] / height), 0.01, 64) })
  }

  // On the canvas, so that a saved picture has them: white on black is seen on any painting.
  draw(context, { zoom, left, top, box: [x0, y0, x1, y1] }) {
    const { viewer: { view, ratio }, armed, from, to } = this
    const drawn = armed && from ? [...view.boxes, [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]), ""]] : view.boxes
    if (!drawn.length) return
    context.save()
    context.beginPath()
    context.rect(x0, y0, x1 - x0, y1 - y0)
    context.clip()
    context.font = `600 ${12 * ratio}px system-ui, "DejaVu Sans", sans-serif`
    context.textBaseline = "middle"
    for (const [x, y, width, height, label] of drawn) {
      const edges = [Math.round(left + x * zoom), Math.round(top + y * zoom), Math.round(width * zoom), Math.round(height * zoom)]
      for (const [colour, thick] of [["rgb(0 0 0 / .75)", 4], ["#fff", 2]]) {
        Object.assign(context, { strokeStyle: colour, lineWidth: thick * ratio })
        context.strokeRect(...edges)
      }
      if (!label) continue
      const tall = 20 * ratio, wide = context.measureText(label).width + 12 * ratio
      const above = edges[1] - tall >= y0 ? edges[1] - tall : edges[1]
      context.fillStyle = "rgb(22 22 22 / .85)"
      context.fillRect(edges[0] - ratio, above, wide, tall)
      context.fillStyle = "#fff"
      context.fillText(label, edges[0] + 5 * ratio, above + tall / 2)
    }
    context.restore()
  }
}
