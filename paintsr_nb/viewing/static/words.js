import { MODES, decibel, h, percent } from "./furniture.js"
import { HEAT, OVERLAYS } from "./overlays.js"
import { tooLarge } from "./scores.js"
import { Stage } from "./stage.js"

// Names, values, scores, and what is said to those who do not see.
export class Words extends Stage {
  label() {
    const { view } = this
    const wipes = view.mode === "wipe"
    this.root.dataset.mode = view.mode
    this.modes.forEach((button) => {
      button.setAttribute("aria-pressed", button.dataset.mode === view.mode)
      button.disabled = this.blind.on && ["grid", "strip"].includes(button.dataset.mode)
    })
    this.chips.forEach((group, at) => {
      group.hidden = this.blind.on || view.mode === "grid" || (["flip", "strip"].includes(view.mode) && at === 1)
      const chosen = at ? view.right : view.left
      for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.name === chosen)
      if (group.dataset.chosen !== chosen) this.bring(group, chosen)
    })
    this.labels.replaceChildren(...(this.chips[0].hidden || view.mode === "strip" ? this.shown.map((name, at) => this.paneLabel(name, at)) : []))
    this.overlays.forEach((button) => (button.disabled = this.blind.on))
    this.magnify.setAttribute("aria-pressed", view.loupe > 0)
    this.magnify.textContent = view.loupe ? `Loupe ${view.loupe}×` : "Loupe"
    this.tools.show()
    this.overlays.forEach((button) => button.setAttribute("aria-pressed", button.dataset.overlay === view.overlay))
    this.explain(OVERLAYS[view.overlay])
    this.handle.hidden = !wipes
    this.handle.style.left = `${(Math.round(view.split * this.frame[0]) / this.frame[0]) * 100}%`
    this.handle.setAttribute("aria-label", `Wipe between ${this.called(view.left)} and ${this.called(view.right)}`)
    this.handle.setAttribute("aria-valuenow", Math.round(view.split * 100))
    this.handle.setAttribute("aria-valuetext", `${Math.round(view.split * 100)} % ${this.called(view.left)}`)
    this.stage.style.touchAction = this.larger ? "none" : "pan-y"   // a swipe over a picture that cannot move scrolls the page
    this.scale.textContent = percent(this.zoom)
    const mode = MODES.find(([name]) => name === view.mode)[1].toLowerCase()
    const overlay = view.overlay ? `, ${OVERLAYS[view.overlay].label}` : ""
    const label = `${this.shown.map((name) => this.called(name)).join(" and ")}, ${mode}${overlay}, ${percent(this.zoom)}`
    this.stage.setAttribute("aria-label", `${label}; arrow keys pan, plus and minus zoom, digits choose the picture`)
    clearTimeout(this.speaking)
    this.speaking = setTimeout(() => (this.status.textContent = `${label}. ${this.scores.textContent}`), 800)
  }

  // The legend of an overlay: its fixed scale, or why it is not drawn.
  explain(overlay) {
    const { brightness } = this.view
    this.legend.hidden = !overlay && brightness === 1
    this.legend.replaceChildren(brightness > 1 ? `${brightness}× as bright` : "")
    if (!overlay) return
    const large = tooLarge(this.region)
    const bar = h("i", { style: `background:linear-gradient(to right, ${HEAT.map((rgb) => `rgb(${rgb})`).join(", ")})` })
    this.legend.replaceChildren(overlay.label, " ", ...(large ? ["zoom in to see it"] : [overlay.scale[0], bar, overlay.scale[1]]),
      brightness > 1 ? `, pictures ${brightness}× as bright` : "")
  }

  // The chosen name comes into sight in its row, and nothing else scrolls.
  bring(group, name) {
    const button = [...group.children].find((each) => each.dataset.name === name)
    group.scrollLeft = button.offsetLeft - (group.clientWidth - button.offsetWidth) / 2
    group.dataset.chosen = name
  }

  paneLabel(name, at) {
    const [left, top] = this.corner(at).map((place, axis) => `${(100 * place) / this.frame[axis]}%`)
    const place = this.view.mode === "wipe" && at ? "right:0;top:0" : `left:${left};top:${top}`
    return h("span", { style: place }, this.called(name))
  }

  // The same words and places whether the pointer is over the picture or not, so that nothing jumps.
  showValues() {
    if (!this.opened) return
    const [width, height] = this.size
    const [x, y] = this.pointer ? this.hrUnder(this.pointer).map(Math.floor) : [-1, -1]
    const inside = x >= 0 && y >= 0 && x < width && y < height
    const value = (picture) => {
      const [across, down] = this.offsetOf(picture.name)
      const has = inside && x - across >= 0 && y - down >= 0 && x - across < width && y - down < height
      const { rgb, true: known } = has ? this.pictures.valueAt(picture, x - across, y - down) : { rgb: ["–", "–", "–"], true: true }
      return h("span", { class: "value" }, h("i", { style: has ? `background:rgb(${rgb})` : "" }), h("b", {}, this.called(picture.name)),
        h("span", { class: "rgb" }, ` ${known ? "" : "≈ "}${rgb.join(" ")}`), picture.exact ? "" : " (lossy)")
    }
    this.values.replaceChildren(h("span", { class: "at" }, inside ? `x ${x}  y ${y}` : `${width} × ${height} px`),
      ...this.shown.map((name) => value(this.pictures.named(name))))
  }

  showScores() {
    this.scoring = null
    if (!this.opened) return
    const { region, pictures: { truth } } = this
    const before = this.missing
    this.missing = 0
    const scores = this.blind.on ? [] : this.shown.map((name) => this.scoreOf(this.pictures.named(name), region))
    const words = this.blind.on ? "no scores in a blind test" : truth ? `in view, against ${truth}` : "no HR, no scores"
    const caption = h("span", { class: "quiet", title: "PSNR and SSIM (wang_rgb) of the part in view" }, words)
    this.scores.replaceChildren(...(truth ? scores : []), caption)
    this.showTable(region)
    if (this.view.overlay && this.missing !== before) this.later()   // there is more of it to be drawn
  }

  scoreOf(picture, region) {
    const why = this.unscored(picture)
    if (why) return h("span", { class: "unscored quiet", "data-name": picture.name }, h("b", {}, picture.name), ` ${why}`)
    const { psnr, ssim, share, missing } = this.pictures.score(picture, region, Boolean(this.view.overlay))
    this.missing += missing.length
    const [decibels, likeness] = inWords({ psnr, ssim, share })
    const about = share < 1 ? `From ${Math.ceil(100 * share)} % of the view${missing.length ? "" : "; zoom in for all of it"}` : "From every pixel in view"
    return h("span", { class: share ? "score" : "coming", "data-name": picture.name, title: about }, h("b", {}, picture.name), ` ${decibels} dB `,
      h("span", { class: "ssim" }, `SSIM ${likeness}`))
  }

  // All pictures in one table, the best of each column in bold.
  showTable(region) {
    this.table.hidden = !this.root.hasAttribute("data-all") || this.blind.on || !this.pictures.truth
    if (this.table.hidden) return
    const rows = this.pictures.list.map((picture) => {
      const why = this.unscored(picture)
      return { name: picture.name, why, ...(why ? {} : this.pictures.score(picture, region, Boolean(this.view.overlay))) }
    })
    const scored = rows.filter(({ why, share }) => !why && share)
    const best = (key) => Math.max(...scored.map((row) => row[key]))
    const cell = (text, wins) => h("td", {}, wins ? h("b", {}, text) : text)
    const line = (row) => {
      if (row.why) return [h("td", { class: "quiet", colspan: "2" }, row.why)]
      const [decibels, likeness] = inWords(row)
      return [cell(decibels, row.share && row.psnr === best("psnr")), cell(likeness, row.share && row.ssim === best("ssim"))]
    }
    this.table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ["picture", "PSNR, dB", "SSIM"].map((text) => h("th", {}, text)))),
      h("tbody", {}, rows.map((row) => h("tr", { "data-name": row.name }, h("td", {}, row.name), line(row))))))
  }

  // Words that pass by.
  say(words) {
    this.toast.textContent = words
    this.toast.hidden = false
    clearTimeout(this.saying)
    this.saying = setTimeout(() => (this.toast.hidden = true), 4000)
  }
}

// PSNR and SSIM as they are written; ≈ where not all of the view has been measured.
function inWords({ psnr, ssim, share }) {
  const near = share < 1 ? "≈ " : ""
  return share ? [`${near}${decibel(psnr)}`, Number.isNaN(ssim) ? "–" : near + ssim.toFixed(4)] : ["…", "…"]
}
