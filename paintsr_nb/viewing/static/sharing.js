import { HEAT, OVERLAYS } from "./overlays.js"
import { download, makeCanvas } from "./furniture.js"
import { fitting } from "./geometry.js"

// What is seen, to be taken elsewhere: as a picture, as a call, as a link.

// A canvas of the stage with the names, the line of the wipe, the legend and the loupe on it.
export function pictureOf(viewer) {
  const { view, frame: [width, height], ratio } = viewer
  const [canvas, context] = makeCanvas(width, height)
  context.fillStyle = getComputedStyle(viewer.stage).backgroundColor
  context.fillRect(0, 0, width, height)
  context.drawImage(viewer.canvas, 0, 0)
  context.font = `600 ${13 * ratio}px system-ui, "DejaVu Sans", sans-serif`
  context.textBaseline = "middle"
  const tag = (text, x, y, toTheRight = false, extra = 0) => {
    const wide = context.measureText(text).width + 16 * ratio + extra
    context.fillStyle = "rgb(22 22 22 / .75)"
    context.fillRect(toTheRight ? x - wide : x, y, wide, 24 * ratio)
    context.fillStyle = "#fff"
    context.fillText(text, (toTheRight ? x - wide : x) + 8 * ratio, y + 12 * ratio)
    return wide
  }
  const cut = Math.round(view.split * width), edge = 8 * ratio
  if (view.mode === "wipe") {
    context.fillStyle = "#fff"
    context.fillRect(cut - ratio, 0, 2 * ratio, height)
  }
  viewer.shown.forEach((name, at) => {
    const [x, y] = viewer.corner(at)
    if (view.mode === "wipe" && at) tag(viewer.called(name), width - edge, edge, true)
    else tag(viewer.called(name), x + edge, y + edge)
  })
  const overlay = OVERLAYS[view.overlay]
  if (overlay) {
    const bar = 90 * ratio, y = height - 32 * ratio
    const wide = tag(`${overlay.label}   ${overlay.scale[0]} `, edge, y)
    const colours = context.createLinearGradient(edge + wide, 0, edge + wide + bar, 0)
    HEAT.forEach((rgb, at) => colours.addColorStop(at / (HEAT.length - 1), `rgb(${rgb})`))
    context.fillStyle = colours
    context.fillRect(edge + wide, y, bar, 24 * ratio)
    tag(overlay.scale[1], edge + wide + bar, y)
  }
  if (view.brightness > 1) tag(`${view.brightness}× as bright`, width - edge, height - 32 * ratio, true)
  const { element, canvas: magnified } = viewer.loupe
  if (!element.hidden) context.drawImage(magnified, element.offsetLeft * ratio, element.offsetTop * ratio)
  return canvas
}

export function savePicture(viewer) {
  const { view } = viewer
  const name = [...viewer.shown.map((each) => viewer.called(each)), view.mode, `x${Math.round(view.x)}`, `y${Math.round(view.y)}`].join("-").replace(/[^\w.-]+/g, "_")
  pictureOf(viewer).toBlob((blob) => download(blob, `${name}.png`), "image/png")
}

// Two lines of Python that draw the same.
export function figureCall(viewer) {
  const parts = Object.entries(viewer.view).filter(([key]) => key !== "blind").map(([key, value]) => `${key}=${JSON.stringify(value)}`)
  return `widget.frame, widget.view = [${viewer.frame.join(", ")}], dict(${parts.join(", ")})\nwidget.figure()`
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch {   // not allowed here: the old way
    const field = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }))
    field.select()
    document.execCommand("copy")
    field.remove()
  }
}

// A view as the fragment of an address, and back: what differs from `start`.
export function fragmentOf(view, start) {
  const parsed = (text) => { try { return JSON.parse(text) } catch { return text } }
  const word = (value) => (typeof value === "string" && parsed(value) === value ? value : JSON.stringify(value))
  const different = Object.entries(view).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(start[key]))
  return new URLSearchParams(different.map(([key, value]) => [key, word(value)])).toString()
}

export function viewIn(fragment, names, size) {
  const parsed = (text) => { try { return JSON.parse(text) } catch { return text } }
  const part = Object.fromEntries([...new URLSearchParams(fragment)].map(([key, text]) => [key, parsed(text)]))
  return fitting(part, names, size)
}

// Ties the view of a page to its address, so that a link keeps it, and a page that is loaded again too.
export function linked(model) {
  const start = model.get("view"), names = model.get("pictures").map(({ name }) => name)
  const read = () => model.set("view", { ...start, ...viewIn(location.hash.slice(1), names, model.get("size")) })
  model.link = () => `${location.href.split("#")[0]}#${fragmentOf(model.get("view"), start)}`
  if (location.hash) read()
  let waiting
  model.on("change:view", () => {
    clearTimeout(waiting)
    waiting = setTimeout(() => {
      try { history.replaceState(null, "", model.link()) } catch {}   // a page within another may have no address
    }, 250)
  })
  addEventListener("hashchange", read)
  return model
}
