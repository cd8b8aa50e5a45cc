import { button, h } from "./furniture.js"
import { LIGHTS } from "./geometry.js"
import { copy, figureCall, savePicture } from "./sharing.js"

// What is needed now and then, in a second row that opens on demand; each tool has a key that works whether the row is open or not.
export class Tools {
  constructor(viewer) {
    this.viewer = viewer
    const { pictures } = viewer
    this.actions = {
      ",": () => this.light(-1), ".": () => this.light(1), u: () => this.interpolate(), b: () => viewer.boxes.arm(), a: () => this.all(),
      z: () => viewer.blind.toggle(), i: () => savePicture(viewer), c: () => this.copied(figureCall(viewer), "The call is copied; it needs the widget by the name `widget`"),
      k: () => this.link(), x: () => this.full(), "?": () => this.open(),
    }
    const keyed = (key, label, title) => button([h("kbd", { "aria-hidden": "true" }, key), label], `${title} (${key})`, this.actions[key], { "data-key": key })
    const small = (label, title, act) => button(label, title, act, { class: "small" })
    const nudge = (label, word, across, down) => small(label, `Move the left picture ${word} by 1 HR pixel (Alt+arrow)`, () => this.nudge(across, down))
    this.brightness = h("output", { title: "Times as bright as it is" })
    this.moved = h("output", {})
    const group = (label, ...parts) => h("span", { class: "group", role: "group", "aria-label": label }, h("span", { class: "quiet" }, label), parts)
    this.element = h("div", { class: "tools", hidden: "", role: "group", "aria-label": "Tools" },
      group("Brightness", small("−", "Half as bright (,)", this.actions[","]), this.brightness, small("+", "Twice as bright, for dark passages (.)", this.actions["."])),
      group("Nudge", nudge("←", "left", -1, 0), nudge("↑", "up", 0, -1), nudge("↓", "down", 0, 1), nudge("→", "right", 1, 0), this.moved,
        button("Reset", "Every picture back to its place (Alt+0)", () => viewer.change({ offsets: {} }))),
      h("span", { class: "group", role: "group", "aria-label": "Boxes" }, keyed("b", "Box", "Draw a labelled box"), viewer.boxes.list),
      pictures.list.some(({ ratio }) => ratio > 1) ? keyed("u", "LR bicubic", "LR by bicubic interpolation instead of squares") : [],
      pictures.truth ? keyed("a", "All scores", "A table of the scores of all pictures in view") : [],
      keyed("z", "Blind test", "Ask which is better, without names"),
      keyed("i", "Save PNG", "Save what is seen as a PNG picture"),
      keyed("c", "Copy as figure", "Copy a Python call that draws this view"),
      viewer.model.link ? keyed("k", "Copy link", "Copy a link that keeps this view") : [],
      keyed("x", "Full screen", "The whole screen"))
    this.opener = button("Tools", "More tools (?)", this.actions["?"], { "aria-expanded": "false" })
  }

  open() {
    this.element.toggleAttribute("hidden")
    this.opener.setAttribute("aria-expanded", !this.element.hidden)
  }

  light(step) {
    const { brightness } = this.viewer.view
    this.viewer.change({ brightness: LIGHTS[LIGHTS.indexOf(brightness) + step] ?? brightness })
  }

  interpolate() {
    this.viewer.change({ low: this.viewer.view.low === "nearest" ? "bicubic" : "nearest" })
  }

  nudge(across, down, name = this.viewer.view.left) {
    const [x, y] = this.viewer.offsetOf(name)
    const { [name]: _, ...others } = this.viewer.view.offsets
    const offset = [x + across, y + down]
    this.viewer.change({ offsets: offset.some(Boolean) ? { ...others, [name]: offset } : others })
  }

  all() {
    this.viewer.root.toggleAttribute("data-all")
    this.viewer.showScores()
    this.show()
  }

  link() {
    const { link } = this.viewer.model
    if (link) this.copied(link(), "The link is copied")
    else this.viewer.say("A link needs a saved page: `widget.save_html(path)`")
  }

  copied(text, words) {
    copy(text).then(() => this.viewer.say(words))
  }

  // The browser's full screen, and where there is none (phones), the whole window.
  full() {
    const { root } = this.viewer
    if (document.fullscreenElement) return document.exitFullscreen()
    const whole = () => root.classList.toggle("full")
    if (root.classList.contains("full") || !root.requestFullscreen) return whole()
    root.requestFullscreen().catch(whole)
  }

  // Buttons tell what is on.
  show() {
    const { view, root } = this.viewer
    this.brightness.textContent = `${view.brightness}×`
    this.moved.textContent = `${this.viewer.called(view.left)} ${this.viewer.offsetOf(view.left).join(", ")}`
    const on = { u: view.low === "bicubic", b: this.viewer.boxes.armed, a: root.hasAttribute("data-all"), z: view.blind }
    for (const key of "abcik") this.element.querySelector(`[data-key=${key}]`)?.toggleAttribute("disabled", this.viewer.blind.on)   // they tell names
    for (const [key, pressed] of Object.entries(on)) this.element.querySelector(`[data-key=${key}]`)?.setAttribute("aria-pressed", pressed)
    this.viewer.boxes.show()
  }
}
