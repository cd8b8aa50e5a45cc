import { clamp } from "./geometry.js"

export const BLOCK = 256   // HR pixels along a block that is measured at once
const MAPS = 128           // blocks whose maps are kept, 0.5 MB each; of all others the sums
const MOST_BLOCKS = 128    // a view of more is scored by a sample of SAMPLE blocks, and has no overlay
const SAMPLE = 48

// PSNR and SSIM by the protocol wang_rgb (Wang et al. 2004, each of R, G, B, mean): 11x11 Gaussian of sigma 1.5, population covariance,
// only windows that lie wholly inside. The SSIM of one window does not depend on what is looked at, so the picture is cut into blocks, each is
// measured once, and the number of any region is a mean over blocks and parts of blocks. A window belongs to the block of its top left pixel.
const TAPS = 11
export const REACH = TAPS - 1
const KERNEL = (() => {
  const bell = Array.from({ length: TAPS }, (_, k) => Math.exp(-((k - 5) ** 2) / (2 * 1.5 ** 2)))
  const sum = bell.reduce((total, value) => total + value)
  return bell.map((value) => value / sum)
})()
const C1 = (0.01 * 255) ** 2
const C2 = (0.03 * 255) ** 2

// `values` blurred along one axis, where `step` leads from a pixel to the next one along it; `into` has `lines` times `length` places.
function blur(values, stride, step, into, lines, length) {
  const [k0, k1, k2, k3, k4, k5] = KERNEL
  const [s1, s2, s3, s4, s5, s6, s7, s8, s9, s10] = Array.from({ length: REACH }, (_, k) => (k + 1) * step)
  for (let line = 0, at = 0; line < lines; line++) {
    for (let p = line * stride, end = p + length; p < end; p++, at++) {
      into[at] = k0 * (values[p] + values[p + s10]) + k1 * (values[p + s1] + values[p + s9]) + k2 * (values[p + s2] + values[p + s8]) +
        k3 * (values[p + s3] + values[p + s7]) + k4 * (values[p + s4] + values[p + s6]) + k5 * values[p + s5]
    }
  }
}

// Levels are counted from MIDDLE, which changes no variance and lets single precision do: a, b, a² + b² and ab of one channel.
const MIDDLE = 128
const [PLANE, ACROSS, ...MEANS] = Array.from({ length: 6 }, () => new Float32Array((BLOCK + REACH) ** 2))   // used again and again

// Squared errors of `width` x `height` pixels at the top left of two RGBA parts of `columns` x `rows`, and the SSIM of all windows in the parts.
export function measure(a, b, columns, rows, width, height) {
  const errors = new Float32Array(width * height)
  const across = Math.max(0, columns - REACH), down = Math.max(0, rows - REACH)
  const ssim = new Float32Array(across * down)
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0, i = 0; y < height; y++)
      for (let p = 4 * y * columns + channel, end = p + 4 * width; p < end; p += 4, i++) errors[i] += (a[p] - b[p]) * (a[p] - b[p])
    if (!ssim.length) continue
    MEANS.forEach((means, m) => {
      fill(m, a, b, channel, columns * rows)
      blur(PLANE, columns, 1, ACROSS, rows, across)
      blur(ACROSS, across, across, means, down, across)
    })
    addSsim(ssim)
  }
  return { width, height, across, down, errors, ssim, error: sum(errors), likeness: sum(ssim) }
}

function fill(which, a, b, channel, count) {
  for (let i = 0, p = channel; i < count; i++, p += 4) {
    const x = a[p] - MIDDLE, y = b[p] - MIDDLE
    PLANE[i] = which === 0 ? x : which === 1 ? y : which === 2 ? x * x + y * y : x * y
  }
}

function addSsim(ssim) {
  const [as, bs, squares, products] = MEANS
  for (let i = 0; i < ssim.length; i++) {
    const x = as[i], y = bs[i]
    const mx = x + MIDDLE, my = y + MIDDLE
    ssim[i] += ((2 * mx * my + C1) * (2 * (products[i] - x * y) + C2)) / ((mx * mx + my * my + C1) * (squares[i] - x * x - y * y + C2)) / 3
  }
}

function sum(values) {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i]
  return total
}

// Sum of the part of `map` (rows of `stride`, first pixel at `corner`) that lies in `region`, and how many that are.
function partOf(map, stride, rows, corner, region) {
  const left = Math.max(region.left - corner.left, 0), right = Math.min(region.left + region.width - corner.left, stride)
  const top = Math.max(region.top - corner.top, 0), bottom = Math.min(region.top + region.height - corner.top, rows)
  let total = 0
  for (let y = top; y < bottom; y++) for (let p = y * stride + left, end = y * stride + right; p < end; p++) total += map[p]
  return [total, Math.max(0, right - left) * Math.max(0, bottom - top)]
}

const holds = (outer, { top, left, height, width }) =>
  top >= outer.top && left >= outer.left && top + height <= outer.top + outer.height && left + width <= outer.left + outer.width

const spanOf = ({ top, left, height, width }) => [[top, left], [top + height - 1, left + width - 1]].map((place) => place.map((at) => Math.floor(at / BLOCK)))

export function tooLarge(region) {
  const [first, last] = spanOf(region)
  return (last[0] - first[0] + 1) * (last[1] - first[1] + 1) > MOST_BLOCKS
}

// The blocks that hold something of `region`, in an order that is scattered over it, so that the first few already tell of the whole.
export function blocksOf(region) {
  const [first, last] = spanOf(region)
  const [rows, columns] = [last[0] - first[0] + 1, last[1] - first[1] + 1]
  const count = rows * columns
  const cut = count - Math.max(0, rows - 2) * Math.max(0, columns - 2)   // those that the region may cut: their maps are needed all at once
  const place = (at) => (at * 0.6180339887498949) % 1
  const order = Array.from({ length: count }, (_, at) => at).sort((one, other) => place(one) - place(other))
  const chosen = tooLarge(region) || cut > MAPS / 2 ? order.slice(0, SAMPLE) : order
  return chosen.map((at) => [first[0] + Math.floor(at / columns), first[1] + (at % columns)])
}

// The blocks of one picture that were measured against the truth: sums of all, maps of the last MAPS.
export class Blocks {
  constructor([width, height]) {
    this.size = { width, height }
    this.sums = new Map()
    this.maps = new Map()
  }

  // The pixels of a block, and those that its windows reach.
  box([row, column]) {
    const [top, left] = [row * BLOCK, column * BLOCK]
    const pixels = { top, left, height: Math.min(BLOCK, this.size.height - top), width: Math.min(BLOCK, this.size.width - left) }
    const part = { top, left, height: Math.min(BLOCK + REACH, this.size.height - top), width: Math.min(BLOCK + REACH, this.size.width - left) }
    return { pixels, part, windows: { top, left, height: Math.max(0, part.height - REACH), width: Math.max(0, part.width - REACH) } }
  }

  // What is known of a block within a region, or null: squared errors, their number, SSIM, its number.
  within(block, region, inner) {
    const { pixels, windows } = this.box(block)
    if (holds(region, pixels) && (holds(inner, windows) || !windows.height || !windows.width)) return this.sums.get(String(block)) ?? null
    const maps = this.maps.get(String(block))
    if (!maps) return null
    return [...partOf(maps.errors, maps.width, maps.height, pixels, region), ...partOf(maps.ssim, maps.across, maps.down, pixels, inner)]
  }

  keep(block, maps) {
    const key = String(block)
    this.sums.set(key, [maps.error, maps.errors.length, maps.likeness, maps.ssim.length])
    this.maps.delete(key)
    this.maps.set(key, maps)
    if (this.maps.size > MAPS) this.maps.delete(this.maps.keys().next().value)
  }

  // psnr, ssim (NaN where the region holds no whole window), the share of the region that they rest on, and the blocks that are missing;
  // where `mapped`, those whose maps are.
  score(region, mapped = false) {
    const inner = { ...region, height: region.height - REACH, width: region.width - REACH }
    const total = [0, 0, 0, 0], missing = []
    const blocks = blocksOf(region)
    for (const block of blocks) {
      const found = this.within(block, region, inner)
      if (found) found.forEach((value, at) => (total[at] += value))
      if (!found || (mapped && !this.maps.has(String(block)))) missing.push(block)
    }
    const [error, pixels, likeness, windows] = total
    const psnr = 10 * Math.log10(255 ** 2 / (error / pixels / 3))
    return { psnr, ssim: windows ? likeness / windows : NaN, share: pixels / (region.width * region.height), missing }
  }
}
