import { GAP, LEAST, MOST, clamp, columnsOf, paneOf, regionOf, startOf, zoomOf } from "./geometry.js"

const LADDER = [0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]

// What is seen, and where on the stage it lies: everything that reads the one view, and everything that writes it.
export class Stage {
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
}
