// Small things that everything else is made of: elements, canvases, words, keys.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else if (value !== null) element.setAttribute(name, value)
  }
  element.append(...children.flat())
  return element
}

export const button = (label, title, onclick, more = {}) => h("button", { type: "button", title, "aria-label": title, onclick, ...more }, label)

export function makeCanvas(width, height, often = false) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height })
  return [canvas, canvas.getContext("2d", { willReadFrequently: often })]
}

export const MODES = [["wipe", "Wipe", "w"], ["side", "Side by side", "s"], ["grid", "Grid", "g"], ["strip", "Strip", "t"], ["flip", "Flip", "f"]]
export const KEYS = [
  ["1–9", "left picture"], ["⇧ 1–9", "right picture"], ["space", "swap (held: only so long)"], ["w", "wipe"], ["s", "side by side"], ["g", "grid"],
  ["t", "strip"], ["f", "flip"], ["l", "loupe"], ["⇧ ← →", "move the wipe"], ["← ↑ ↓ →", "pan"], ["+ −", "zoom"], ["0", "fit"], ["p", "1:1 pixels"],
  ["d", "difference"], ["m", "SSIM map"], ["h", "hide what lies on the picture"], ["x", "full screen"], ["?", "more tools"],
]

export const percent = (zoom) => `${zoom >= 0.1 ? Math.round(zoom * 100) : (zoom * 100).toFixed(1)} %`
export const decibel = (psnr) => (psnr === Infinity ? "∞" : psnr.toFixed(2))
export const writes = (element) => element?.isContentEditable || element?.matches?.("input, textarea, select, [role=textbox]")

// A file for whoever looks, made here.
export function download(blob, name) {
  const address = URL.createObjectURL(blob)
  h("a", { href: address, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(address), 10000)
}

// JupyterLab's shortcuts pass over a focused element that carries this: without it "1" makes the cell a heading and "0 0" restarts the kernel.
export function keepKeys(root) {
  for (const element of root.querySelectorAll("button, input, [tabindex]")) element.dataset.lmSuppressShortcuts = "true"
}
