// The viewer of `compare`: in a notebook, in a saved output, and on a page without a kernel. This file is its ways in; the others hold an idea each,
// and Python joins them to one module, which needs neither a bundler nor a network.
//
// There is one owner of what is seen: the model's `view`, in pixels of the HR grid. A gesture writes a new view into the model and nothing
// else; drawing reads the model and never writes it. So Python, two views of one widget and the mouse cannot chase one another.
//   view      {mode: "wipe" | "side" | "grid" | "flip" | "strip", left, right, x, y, zoom, split, overlay: "" | "difference" | "ssim",
//              loupe, brightness, low: "nearest" | "bicubic", offsets, boxes, blind}
//             left and right name pictures; x and y are the centre in HR pixels; zoom is device pixels per HR pixel, or "fit";
//             split is where the wipe stands, 0-1; loupe is the zoom of the magnifier, 0 where there is none; brightness is 1, 2, 4 or 8;
//             low is how LR is enlarged; offsets {name: [right, down]} and boxes [[left, top, width, height, label]] are in HR pixels
//   frame     [width, height] of the stage in device pixels, told by the browser
//   pictures  [{name, width, height, ratio, exact, type, data, reduced, whole}]
//             ratio: HR pixels per pixel of this picture; exact: nothing was lost on the way; data: bytes of a preview, each of its pixels the
//             mean of reduced x reduced; whole: the preview is the picture itself, so that there are no tiles
//   truth     name of the picture the others are measured against, or ""
//   answers   what was answered in blind tests; blind.js says how
// Pictures that are not whole come in tiles, when they are looked at: from the kernel in a notebook, from the page on a page, and not at all
// in a saved output, which has the previews alone. Level 0 are the true pixels, each of level n the mean of 2^n x 2^n of them, so that what travels
// and what is kept depend on the stage and not on the picture.

import { linked } from "./sharing.js"
import { Viewer } from "./viewer.js"

const PATIENCE = 400   // milliseconds that a saved output waits for the kernel's model before it shows what it carries

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
