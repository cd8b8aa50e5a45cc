import { clamp } from "./geometry.js"
import { makeCanvas } from "./furniture.js"

// Colours of 0, ¼, ½, ¾ and 1 (inferno, as in Python): the worse, the brighter.
export const HEAT = [[0, 0, 3], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]
export const OVERLAYS = {
  difference: { label: "Difference", key: "d", scale: ["0", "32 levels and more"], worse: (error) => Math.sqrt(error / 3) / 32 },
  ssim: { label: "SSIM map", key: "m", scale: ["SSIM 1", "0 and less"], worse: (ssim) => 1 - ssim },
}

function heat(worse) {
  const at = 4 * clamp(worse, 0, 1), k = Math.min(Math.floor(at), 3)
  return HEAT[k].map((level, channel) => level + (at - k) * (HEAT[k + 1][channel] - level))
}

// A block in colours, made once: the difference of each pixel, or the SSIM of each window, at its middle.
export function drawnMap(maps, kind) {
  if (!maps[`${kind}Canvas`]) {
    const [values, width, height] = kind === "ssim" ? [maps.ssim, maps.across, maps.down] : [maps.errors, maps.width, maps.height]
    const [canvas, context] = makeCanvas(Math.max(1, width), Math.max(1, height))
    const image = new ImageData(canvas.width, canvas.height)
    values.forEach((value, at) => image.data.set([...heat(OVERLAYS[kind].worse(value)), 255], 4 * at))
    context.putImageData(image, 0, 0)
    maps[`${kind}Canvas`] = canvas
  }
  return maps[`${kind}Canvas`]
}
