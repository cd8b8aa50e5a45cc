// The front end of `explore`, in a notebook, in a saved output and on a page. It follows compare.js in one module and mounts its viewer.
//
// The table of scored folders: a click on a row, or on a crop, opens the viewer.
//   table   {methods, metrics: [{name, label, digits, better}], rows: [{id, problem, values: {metric: [a number or null per method]}}],
//            sentences: {metric: [text]}, crops: [{id, data}], truth}
//   chosen  id of the row that is open, or ""
//   notes   {id: text}
// The slider over the previews of runs:
//   runs    [{name, label, steps: [{label, value or null, best}]}]
//   step    which step all of them show, 0 for the first
// The slider between two nets:
//   share   0 (the first net) to 1 (the second); shown: the share of `image`, which the kernel sends when it is done
//   corner  [left, top] of what is seen, in LR pixels; side: its side; size: of the LR picture; names: of the nets
//   image, truth  bytes of the blend and of HR (or none); map: bytes of the whole LR picture, small; scores: {name: number}; problem: a sentence
// `supply` answers {open: id} with the state of a comparison, and {frame: [run, step]} with bytes of a picture; null in a saved output.

const COLOURS = ["#2f6fde", "#d9702a", "#2f9e63", "#a64bc4", "#c43d5a", "#7d8a12", "#178fa3", "#8a5a3c"]
const written = (value, digits) => (value === null ? "–" : value.toFixed(digits))

// The kernel repeats the number of a question in its answer.
function kernelSupply(model) {
  const waiting = new Map()
  let asked = 0
  model.on("msg:custom", (content, buffers) => {
    waiting.get(content.number)?.({ ...content, data: buffers?.[0] })
    waiting.delete(content.number)
  })
  return (message) => new Promise((come) => {
    waiting.set(++asked, come)
    model.send({ ...message, number: asked })
  })
}

// What a page holds: script#state-3 and script#tile-3-0-0-7 of the fourth row, img bytes in script#tile-RUN-STEP.
async function pageSupply({ open, row, tile, frame }) {
  if (tile) return pageTiles([row, ...tile])
  if (frame) return pageTiles(frame)
  if (document.readyState === "loading") await new Promise((go) => addEventListener("DOMContentLoaded", go, { once: true }))
  const text = document.getElementById(`state-${row}`)?.textContent
  return text ? { state: text } : { problem: `${open} is not in this page: write it again with more rows, or with room for more megabytes` }
}

class Table {
  constructor(el, model, supply) {
    Object.assign(this, { model, supply, table: model.get("table") })
    this.metric = this.table.metrics[0].name
    this.sorted = { by: 0, down: this.better < 0 }
    this.build(el)
    this.listening = { "change:chosen": () => this.open(), "change:notes": () => this.fillNotes() }
    for (const [event, act] of Object.entries(this.listening)) model.on(event, act)
    this.draw()
    if (model.get("chosen")) this.open()
  }

  get about() { return this.table.metrics.find(({ name }) => name === this.metric) }
  get better() { return this.about.better }

  build(el) {
    const metrics = this.table.metrics.map(({ name, label }) => h("button", { type: "button", "data-metric": name, onclick: () => this.measure(name) }, label))
    this.metrics = h("div", { class: "metrics", role: "group", "aria-label": "Metric" }, metrics)
    this.said = h("ul", { class: "said" })
    this.head = h("thead")
    this.body = h("tbody")
    this.foot = h("tfoot")
    this.chart = h("div", { class: "chart" })
    this.crops = h("div", { class: "crops", role: "group", "aria-label": "The worst" }, this.table.crops.map(({ id, data }) =>
      h("button", { type: "button", title: `Compare ${id}`, onclick: () => this.choose(id) }, h("img", { alt: `Crops of ${id}`, src: `data:image/jpeg;base64,${data}` }))))
    this.place = h("div", { class: "place" })
    this.status = h("p", { class: "status", role: "status" })
    this.save = h("button", { type: "button", class: "save", onclick: () => this.saveNotes() }, "Save notes as CSV")
    this.root = h("div", { class: "explorer" }, this.metrics, this.said,
      h("div", { class: "columns" }, h("div", { class: "scroll", tabindex: "0", "aria-label": "Scores" }, h("table", {}, this.head, this.body, this.foot)), this.chart),
      this.crops, this.status, this.place, this.save)
    for (const element of this.root.querySelectorAll("button, .scroll")) element.dataset.lmSuppressShortcuts = "true"
    el.append(this.root)
  }

  measure(metric) {
    this.metric = metric
    this.sorted = { by: Math.max(0, this.sorted.by), down: this.better < 0 }
    this.draw()
  }

  // A first click shows the worst on top, a second the best.
  sort(by) {
    const worst = by === "id" ? false : this.better < 0
    this.sorted = { by, down: this.sorted.by === by ? !this.sorted.down : worst }
    this.draw()
  }

  // Of two methods the last column is their lead.
  columns() {
    const { methods } = this.table
    const columns = methods.map((label, at) => ({ key: at, label, of: (row) => row.values[this.metric][at] }))
    if (methods.length !== 2) return columns
    const lead = (row) => { const [a, b] = row.values[this.metric]; return a === null || b === null ? null : a - b }
    return [...columns, { key: "lead", label: `${methods[0]} − ${methods[1]}`, of: lead }]
  }

  draw() {
    const columns = this.columns(), { digits } = this.about, { by, down } = this.sorted
    for (const button of this.metrics.children) button.setAttribute("aria-pressed", button.dataset.metric === this.metric)
    this.said.replaceChildren(...(this.table.sentences[this.metric] ?? []).map((text) => h("li", {}, text)))
    const heading = (key, label) => h("th", { scope: "col", "aria-sort": key !== by ? "none" : down ? "descending" : "ascending" },
      h("button", { type: "button", "data-lm-suppress-shortcuts": "true", onclick: () => this.sort(key) }, label, h("i", {}, key !== by ? "" : down ? " ▾" : " ▴")))
    this.head.replaceChildren(h("tr", {}, heading("id", "picture"), columns.map(({ key, label }) => heading(key, label)), h("th", { scope: "col" }, "note")))
    const value = by === "id" ? (row) => row.id : (columns.find(({ key }) => key === by) ?? columns[0]).of
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)]
      if (x === null || y === null) return (y === null) - (x === null)   // what has no number comes first
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1)
    }
    this.body.replaceChildren(...[...this.table.rows].sort(order).map((row) => this.row(row, columns, digits)))
    const whole = this.table.rows.filter((row) => row.values[this.metric].every((number) => number !== null))
    const mean = ({ of }) => (whole.length ? whole.reduce((total, row) => total + of(row), 0) / whole.length : null)
    this.foot.replaceChildren(h("tr", {}, h("th", { scope: "row" }, `mean of ${whole.length}`), columns.map((column) => h("td", {}, written(mean(column), digits))), h("td", {})))
    this.drawChart()
    this.mark()
    this.fillNotes()
  }

  row(row, columns, digits) {
    const numbers = columns.map(({ of }) => of(row))
    const own = numbers.slice(0, this.table.methods.length).filter((number) => number !== null)
    const best = own.length > 1 ? Math[this.better > 0 ? "max" : "min"](...own) : null
    const note = h("input", { type: "text", "aria-label": `Note on ${row.id}`, "data-lm-suppress-shortcuts": "true", onchange: (event) => this.write(row.id, event.target.value) })
    note.addEventListener("click", (event) => event.stopPropagation())
    return h("tr", { "data-id": row.id, title: row.problem, onclick: () => this.choose(row.id) },
      h("th", { scope: "row" }, h("button", { type: "button", "data-lm-suppress-shortcuts": "true", "aria-label": `Compare ${row.id}` }, row.id), row.problem ? h("i", { class: "flag" }, " !") : ""),
      numbers.map((number, at) => h("td", { class: number !== null && number === best && at < this.table.methods.length ? "best" : "" }, written(number, digits))),
      h("td", {}, note))
  }

  // How many pictures have which number, an outline per method.
  drawChart() {
    const { methods, rows } = this.table, { label, digits } = this.about
    const all = methods.map((_, at) => rows.map((row) => row.values[this.metric][at]).filter((number) => number !== null))
    const flat = all.flat()
    if (!flat.length) return this.chart.replaceChildren()
    const [least, most] = flat.reduce(([a, b], number) => [Math.min(a, number), Math.max(b, number)], [Infinity, -Infinity])
    const count = Math.min(24, Math.ceil(Math.log2(rows.length) + 3)), width = (most - least) / count || 1
    const bars = all.map((numbers) => numbers.reduce((bins, number) => { bins[Math.min(count - 1, Math.floor((number - least) / width))]++; return bins }, Array(count).fill(0)))
    const top = Math.max(...bars.flat())
    const outline = (bins, at) => `<path fill="${COLOURS[at % 8]}22" stroke="${COLOURS[at % 8]}" stroke-width="1.5" d="M0 100${bins.map((n, bin) => `V${100 - 92 * n / top}H${300 * (bin + 1) / count}`).join("")}V100Z"/>`
    const picture = h("div", { class: "bars", role: "img", "aria-label": `Histogram of ${label}` })
    picture.innerHTML = `<svg viewBox="0 0 300 101" preserveAspectRatio="none">${bars.map(outline).join("")}</svg>`
    const legend = methods.map((name, at) => h("span", {}, h("i", { style: `background:${COLOURS[at % 8]}` }), name))
    this.chart.replaceChildren(picture, h("div", { class: "axis" }, h("span", {}, written(least, digits)), h("b", {}, label), h("span", {}, written(most, digits))), h("div", { class: "legend" }, legend))
  }

  choose(id) {
    if (this.model.get("chosen") === id) return this.open()
    this.model.set("chosen", id)
    this.model.save_changes()
  }

  mark() {
    const chosen = this.model.get("chosen")
    for (const row of this.body.children) row.toggleAttribute("data-chosen", row.dataset.id === chosen)
  }

  // An answer that comes after another row was chosen is dropped.
  async open() {
    const id = this.model.get("chosen"), row = this.table.rows.findIndex((each) => each.id === id)
    this.mark()
    if (row < 0) return
    this.status.textContent = `Opening ${id} …`
    const { state, problem } = this.supply ? await this.supply({ open: id, row }) : { problem: `Run the cell again to compare ${id}.` }
    if (id !== this.model.get("chosen") || !this.root.isConnected) return
    this.close?.()
    this.place.replaceChildren()
    this.status.textContent = problem ?? `${id}, where ${this.table.methods.length > 1 ? "the methods differ most" : "it differs most"}`
    if (problem) return
    const inner = localModel({ ...JSON.parse(state), key: null }, (tile) => this.supply({ tile, row, of: id }))
    this.place.model = inner
    this.close = mount(this.place, inner)
    this.place.scrollIntoView({ block: "nearest" })
  }

  write(id, text) {
    this.model.set("notes", { ...this.model.get("notes"), [id]: text })
    this.model.save_changes()
  }

  fillNotes() {
    const notes = this.model.get("notes")
    for (const row of this.body.children) row.querySelector("input").value = notes[row.dataset.id] ?? ""
  }

  // Where there is no kernel to write a file.
  saveNotes() {
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`
    const lines = Object.entries(this.model.get("notes")).filter(([, note]) => note).map((pair) => pair.map(quoted).join(","))
    const link = h("a", { href: URL.createObjectURL(new Blob([["picture,note", ...lines, ""].join("\n")], { type: "text/csv" })), download: "notes.csv" })
    link.click()
    URL.revokeObjectURL(link.href)
  }

  end() {
    for (const [event, act] of Object.entries(this.listening)) this.model.off(event, act)
    this.close?.()
    this.root.remove()
  }
}

class Slider {
  constructor(el, model, supply) {
    Object.assign(this, { model, supply, runs: model.get("runs"), frames: new Map() })
    const most = Math.max(...this.runs.map(({ steps }) => steps.length)) - 1
    this.input = h("input", { type: "range", min: "0", max: String(most), step: "1", "aria-label": "Step of the run", "data-lm-suppress-shortcuts": "true", oninput: (event) => this.move(Number(event.target.value)) })
    this.panels = this.runs.map(({ name }) => ({ title: h("b", {}, name), text: h("span", {}), curve: h("div", { class: "curve" }), image: h("img", { alt: "" }) }))
    this.root = h("div", { class: "explorer runs" }, this.input, h("p", { class: "status", role: "status" }, ""),
      h("div", { class: "panels" }, this.panels.map(({ title, text, curve, image }) => h("figure", {}, h("figcaption", {}, title, " ", text), curve, image))))
    el.append(this.root)
    this.redraw = () => this.draw()
    model.on("change:step", this.redraw)
    this.draw()
  }

  move(step) {
    this.model.set("step", step)
    this.model.save_changes()
  }

  draw() {
    const now = this.model.get("step")
    this.input.value = now
    this.runs.forEach(({ label, steps }, run) => {
      const step = Math.min(now, steps.length - 1), { title, text, curve, image } = this.panels[run]
      text.textContent = steps[step].label + (steps[step].best ? " ★ best" : "")
      curve.innerHTML = curveOf(steps, step, COLOURS[run % 8])
      curve.title = label
      image.alt = `LR, SR and HR: ${title.textContent}, ${steps[step].label}`
      this.show(run, step, image)
    })
  }

  // The last frame stays until the next has come, so that nothing flickers under the thumb.
  async show(run, step, image) {
    const key = `${run},${step}`
    image.wanted = key
    if (!this.frames.has(key)) {
      if (!this.supply) return
      this.frames.set(key, this.supply({ frame: [run, step] }).then(({ data, type }) => URL.createObjectURL(new Blob([data], { type }))))
    }
    const address = await this.frames.get(key)
    if (image.wanted === key) Object.assign(image, { src: address }).dataset.step = step
  }

  end() {
    this.model.off("change:step", this.redraw)
    this.frames.forEach((address) => address.then(URL.revokeObjectURL))
    this.root.remove()
  }
}

function curveOf(steps, now, colour) {
  const known = steps.map(({ value }, at) => [at, value]).filter(([, value]) => value !== null)
  if (known.length < 2) return ""
  const values = known.map(([, value]) => value), [least, most] = [Math.min(...values), Math.max(...values)]
  const x = (at) => (300 * at) / Math.max(1, steps.length - 1), y = (value) => 46 - (40 * (value - least)) / (most - least || 1)
  const line = known.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ")
  return `<svg viewBox="-3 0 306 50" preserveAspectRatio="none"><line x1="${x(now)}" x2="${x(now)}" y1="0" y2="50" stroke="currentColor" stroke-opacity=".4"/><polyline fill="none" stroke="${colour}" stroke-width="1.6" points="${line}"/></svg>`
}

// Each move of the thumb is told at once; the kernel gives up what it was computing for the last one.
class Texture {
  constructor(el, model) {
    this.model = model
    const [one, two] = model.get("names")
    this.input = h("input", { type: "range", min: "0", max: "1", step: "0.01", "aria-label": `From ${one} to ${two}`, "data-lm-suppress-shortcuts": "true",
      oninput: (event) => this.set("share", Number(event.target.value)) })
    this.blend = h("img", { alt: `Between ${one} and ${two}`, draggable: "false" })
    this.truth = h("img", { alt: "HR", draggable: "false" })
    this.map = h("img", { alt: "The whole picture; a click moves the view", draggable: "false" })
    this.frame = h("i", { class: "frame" })
    this.said = h("p", { class: "status", role: "status" })
    const panel = (name, ...what) => h("figure", {}, h("figcaption", {}, name), ...what)
    this.overview = h("div", { class: "overview", onclick: (event) => this.jump(event) }, this.map, this.frame)
    this.root = h("div", { class: "explorer runs texture" },
      h("div", { class: "ends" }, h("span", {}, one), this.input, h("span", {}, two)), this.said,
      h("div", { class: "panels" }, panel("blend", this.blend), ...(model.get("truth")?.byteLength ? [panel("HR", this.truth)] : []), panel("picture", this.overview)))
    for (const image of [this.blend, this.truth]) {
      image.addEventListener("pointerdown", (event) => { image.setPointerCapture(event.pointerId); this.grip = [event.clientX, event.clientY, ...model.get("corner")] })
      image.addEventListener("pointermove", (event) => this.grip && this.drag(event, image))
      image.addEventListener("pointerup", () => (this.grip = null))
    }
    el.append(this.root)
    this.redraw = () => this.draw()
    this.kinds = ["share", "shown", "corner", "image", "truth", "scores", "problem"].map((name) => `change:${name}`)
    for (const kind of this.kinds) model.on(kind, this.redraw)
    this.put(this.map, "map")
    this.draw()
  }

  set(name, value) {
    this.model.set(name, value)
    this.model.save_changes()
  }

  move(corner) {
    const side = this.model.get("side")
    const whole = this.model.get("size").map((size, axis) => clamp(Math.round(corner[axis]), 0, size - side[axis]))
    if (String(whole) !== String(this.model.get("corner"))) this.set("corner", whole)
  }

  drag(event, image) {
    const [x, y, left, top] = this.grip, scale = this.model.get("side")[0] / image.clientWidth
    this.move([left - (event.clientX - x) * scale, top - (event.clientY - y) * scale])
  }

  jump(event) {
    const box = this.map.getBoundingClientRect(), size = this.model.get("size"), side = this.model.get("side")
    this.move([(event.clientX - box.left) / box.width * size[0] - side[0] / 2, (event.clientY - box.top) / box.height * size[1] - side[1] / 2])
  }

  put(image, name) {
    const data = this.model.get(name)
    if (image.data === data || !data?.byteLength) return
    URL.revokeObjectURL(image.src)
    Object.assign(image, { data, src: URL.createObjectURL(new Blob([data])) })
  }

  draw() {
    const { model } = this, [width, height] = model.get("size"), [left, top] = model.get("corner"), side = model.get("side")
    this.input.value = model.get("share")
    this.put(this.blend, "image")
    this.put(this.truth, "truth")
    this.frame.style.cssText = `left:${100 * left / width}%;top:${100 * top / height}%;width:${100 * side[0] / width}%;height:${100 * side[1] / height}%`
    const scores = Object.entries(model.get("scores")).map(([name, value]) => `${name} ${value.toFixed(name === "PSNR" ? 2 : 4)}`)
    const coming = model.get("shown") !== model.get("share")
    this.root.toggleAttribute("data-coming", coming)
    this.said.textContent = model.get("problem") || [`${Math.round(100 * model.get("shown"))} % of ${model.get("names")[1]}`, ...scores].join("   ") + (coming ? "   …" : "")
  }

  end() {
    for (const kind of this.kinds) this.model.off(kind, this.redraw)
    for (const image of [this.blend, this.truth, this.map]) URL.revokeObjectURL(image.src)
    this.root.remove()
  }
}

// ------------------------------------------------------------------ the ways in
export function mountExplorer(el, model, supply) {
  const kind = model.get("table") ? Table : model.get("runs") ? Slider : Texture
  const shown = new kind(el, model, supply)
  return () => shown.end()
}

export function plainModel(state) {
  return localModel({ ...state, pictures: [] })
}

// A saved output shows its table, or else the picture that it holds, and takes up the kernel's widget where there is one.
export function reviveExplorer(el, state) {
  let close = () => {}
  const show = (model, supply) => {
    close()
    el.replaceChildren()
    close = mountExplorer(el, (el.model = model), supply)
  }
  const kernel = () => liveModels().get(state.key)
  const found = () => kernel() && el.model !== kernel() && show(kernel(), kernelSupply(kernel()))
  if (state.table) show(plainModel(state), null)
  addEventListener("paintsr-model", found)
  found()
}

export default {
  initialize: comparer.initialize,
  render: ({ model, el }) => mountExplorer(el, model, kernelSupply(model)),
}
