import { writes } from "./furniture.js"
import { clamp } from "./geometry.js"
import { Words } from "./words.js"

const HELD = 350   // milliseconds from which on a key counts as held

// Mouse, fingers, wheel and keys. A gesture ends in a change of the view, and in nothing else.
export class Hands extends Words {
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
}
