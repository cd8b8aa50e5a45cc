import { button, download, h } from "./furniture.js"

// Which of two is better, asked without their names. A question is a pair that was asked least so far, in random order, at a random place;
// its names are in the view as ever, and on the screen they are A and B. Answers are the model's `answers`:
//   {first, second, better, x, y, zoom, mode, seconds}   first was called A, second B; better is a name, or "" for no difference
export class Blind {
  constructor(viewer) {
    this.viewer = viewer
    this.question = null
    this.element = h("div", { class: "ask", role: "group", "aria-label": "Blind test", hidden: "" })
  }

  get on() {
    return this.viewer.view.blind && this.question !== null
  }

  get answers() {
    return this.viewer.model.get("answers") ?? []
  }

  // Results before everything else: those on the HR grid; where there are fewer than two, LR too, and then HR.
  get candidates() {
    const { list, truth } = this.viewer.pictures
    const choices = [list.filter(({ name, ratio }) => ratio === 1 && name !== truth), list.filter(({ name }) => name !== truth), list]
    return choices.find((some) => some.length > 1).map(({ name }) => name)
  }

  letter(name) {
    return "AB"[this.question.indexOf(name)] ?? "–"
  }

  toggle() {
    this.closed = false
    this.viewer.change({ blind: !this.viewer.view.blind })
  }

  // The view was changed, here or in Python.
  follow() {
    const { view } = this.viewer
    if (view.blind && !this.question) this.ask()
    else if (view.blind && ![view.left, view.right].every((name) => this.question.includes(name))) {
      this.question = [view.left, view.right]   // another view of this widget asks
      this.show()
    }
    if (!view.blind && this.question) {
      this.question = null
      this.closed = false
      this.show()
    }
  }

  ask() {
    const { viewer } = this
    const { view } = viewer
    const asked = ([one, other]) => this.answers.filter(({ first, second }) => [first, second].includes(one) && [first, second].includes(other)).length
    const pairs = this.candidates.flatMap((one, at, all) => all.slice(at + 1).map((other) => [one, other]))
    const least = Math.min(...pairs.map(asked))
    const open = pairs.filter((pair) => asked(pair) === least)
    const pair = open[Math.floor(Math.random() * open.length)]
    this.question = Math.random() < 0.5 ? pair : [pair[1], pair[0]]
    this.since = performance.now()
    const [left, right] = this.question
    const mode = ["wipe", "side", "flip"].includes(view.mode) ? view.mode : "side"
    const place = viewer.zoomOf({ ...view, mode, zoom: "fit" }) >= 1 ? {} :
      { zoom: Math.max(1, viewer.zoom), x: Math.random() * viewer.size[0], y: Math.random() * viewer.size[1] }
    viewer.change({ left, right, mode, split: 0.5, overlay: "", ...place })
    this.show()
  }

  answer(better) {
    const { viewer } = this
    const [first, second] = this.question
    const { x, y, mode } = viewer.view
    const answer = { first, second, better, x: Math.round(x), y: Math.round(y), zoom: Number(viewer.zoom.toFixed(3)), mode,
      seconds: Number(((performance.now() - this.since) / 1000).toFixed(1)) }
    viewer.model.set("answers", [...this.answers, answer])
    viewer.model.save_changes()
    this.ask()
  }

  // What a key means while names are hidden: an answer, or nothing for what would tell them.
  action(key, digit) {
    if (digit === "0") return null
    if (digit) return [() => this.answer(this.question[0]), () => this.answer(""), () => this.answer(this.question[1])][digit - 1] ?? (() => {})
    if (key === "Escape" || key === "z") return () => this.toggle()
    return "dmgtabcik".includes(key) ? () => {} : null
  }

  show() {
    const { view } = this.viewer
    const table = !view.blind && this.answers.length > 0 && !this.closed && this.closed !== undefined
    this.element.hidden = !view.blind && !table
    const key = (text) => h("kbd", { "aria-hidden": "true" }, text)
    if (view.blind && this.question) {
      const choice = (number, text, better) => button([key(number), text].map((part) => part), text, () => this.answer(better))
      this.element.replaceChildren(h("b", {}, "Which is better?"), choice("1", "A", this.question[0]), choice("2", "No difference", ""), choice("3", "B", this.question[1]),
        h("span", { class: "quiet" }, `${this.answers.length} answered`), button("End", "End the blind test and show the table (Escape)", () => this.toggle()))
    } else if (table) {
      this.element.replaceChildren(this.table(), button("Save CSV", "Save all answers as CSV", () => download(new Blob([this.csv()], { type: "text/csv" }), "answers.csv")),
        button("Close", "Close the table", () => (this.closed = true, this.show())))
    }
    this.element.querySelectorAll("button").forEach((each) => (each.dataset.lmSuppressShortcuts = "true"))
  }

  table() {
    const rows = this.candidates.map((name) => {
      const asked = this.answers.filter(({ first, second }) => [first, second].includes(name))
      const better = asked.filter((answer) => answer.better === name).length, equal = asked.filter((answer) => !answer.better).length
      return [name, better, equal, asked.length - better - equal]
    })
    const row = (tag, cells) => h("tr", {}, cells.map((cell) => h(tag, {}, String(cell))))
    return h("table", {}, h("thead", {}, row("th", ["picture", "better", "no difference", "worse"])), h("tbody", {}, rows.map((cells) => row("td", cells))))
  }

  csv() {
    const columns = ["first", "second", "better", "x", "y", "zoom", "mode", "seconds"]
    const cell = (value) => (typeof value === "string" ? `"${value.replaceAll('"', '""')}"` : value)
    return [columns.join(","), ...this.answers.map((answer) => columns.map((column) => cell(answer[column])).join(","))].join("\r\n") + "\r\n"
  }
}
