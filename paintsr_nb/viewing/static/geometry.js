// Where is what (as `region` in Python), and what a view may hold.

export const GAP = 2              // device pixels between panes
export const LEAST = 0.01         // bounds of zoom, as `_ZOOMS` in Python
export const MOST = 64
export const STRIP = 0.55         // greatest share of the stage's height that the panes of a strip take; above them lies the whole picture
export const LIGHTS = [1, 2, 4, 8]   // times as bright, as in Python: doublings, which a canvas can do exactly

export const clamp = (value, least, most) => Math.min(Math.max(value, least), most)

export function columnsOf(view, [width, height], size, count) {
  if (view.mode !== "grid") return { side: 2, strip: count }[view.mode] ?? 1
  let best = 0, columns = 1
  for (let c = 1; c <= count; c++) {
    const rows = Math.ceil(count / c)
    const fit = Math.min((width - GAP * (c - 1)) / c / size[0], (height - GAP * (rows - 1)) / rows / size[1])
    if (fit > best) [best, columns] = [fit, c]
  }
  return columns
}

export function paneOf(view, [width, height], size, count) {
  const columns = columnsOf(view, [width, height], size, count)
  const rows = view.mode === "grid" ? Math.ceil(count / columns) : 1
  const across = Math.max(1, Math.floor((width - GAP * (columns - 1)) / columns))
  const down = Math.max(1, Math.floor((height - GAP * (rows - 1)) / rows))
  return [across, view.mode === "strip" ? Math.max(1, Math.min(across, Math.floor(height * STRIP))) : down]
}

export function zoomOf(view, frame, size, count) {
  const [width, height] = paneOf(view, frame, size, count)
  return view.zoom === "fit" ? clamp(Math.min(width / size[0], height / size[1]), LEAST, MOST) : view.zoom
}

// Where on a pane the picture begins: at a whole device pixel, so that squares are squares.
export const startOf = (centre, pane, zoom) => Math.floor(pane / 2 - centre * zoom + 0.5)

// First and last + 1 of the pixels that are drawn: from 100 % on those that hold the middle of a device pixel, below those that touch one.
function seen(centre, pane, size, zoom) {
  const start = startOf(centre, pane, zoom)
  const first = Math.floor(((zoom < 1 ? 0 : 0.5) - start) / zoom)
  const end = zoom < 1 ? Math.ceil((pane - start) / zoom) : Math.floor((pane - 0.5 - start) / zoom) + 1
  return [clamp(first, 0, size - 1), clamp(end, 1, size)]
}

export function regionOf(view, frame, size, count) {
  const zoom = zoomOf(view, frame, size, count)
  const pane = paneOf(view, frame, size, count)
  const [left, right] = seen(view.x, pane[0], size[0], zoom)
  const [top, bottom] = seen(view.y, pane[1], size[1], zoom)
  return { top, left, height: bottom - top, width: right - left }
}

// What of `part` can be seen here: a link may come from another page, or from a hand.
export function fitting(part, names, size) {
  const within = (least, most) => (value) => typeof value === "number" && value >= least && value <= most
  const known = (name) => names.includes(name)
  const place = (value) => Array.isArray(value) && value.length === 5 && value.slice(0, 4).every(Number.isFinite) && typeof value[4] === "string" &&
    value[2] > 0 && value[3] > 0
  const fits = {
    mode: (value) => ["wipe", "side", "grid", "flip", "strip"].includes(value),
    left: known, right: known,
    x: within(0, size[0]), y: within(0, size[1]),
    zoom: (value) => value === "fit" || within(LEAST, MOST)(value),
    split: within(0, 1),
    overlay: (value) => ["", "difference", "ssim"].includes(value),
    loupe: (value) => value === 0 || within(1, MOST)(value),
    brightness: (value) => LIGHTS.includes(value),
    low: (value) => ["nearest", "bicubic"].includes(value),
    offsets: (value) => value !== null && typeof value === "object" &&
      Object.entries(value).every(([name, offset]) => known(name) && Array.isArray(offset) && offset.length === 2 && offset.every(Number.isInteger)),
    boxes: (value) => Array.isArray(value) && value.every(place),
    blind: (value) => typeof value === "boolean",
  }
  return Object.fromEntries(Object.entries(part).filter(([key, value]) => fits[key]?.(value)))
}
