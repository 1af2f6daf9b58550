/** Drawing of outlines on a canvas; the canvas is scaled, so that coordinates are px of the image. */

import type { Point } from "./server";
import { REGION, type Shape } from "./shapes";

/** Color of another version of the model. */
export const COMPARED = "#00b7ff";
const PREDICTED = "#ffd400";
const DARK = "rgb(0 0 0 / 60%)";
const paths = new WeakMap<Shape, Path2D>();

/** Draw an outline; `unit` is the size of a px of the screen. */
export function drawShape(
  context: CanvasRenderingContext2D,
  shape: Shape,
  classColor: string,
  isSelected: boolean,
  unit: number,
): void {
  const path = pathOf(shape);
  const color = shape.predicted ? PREDICTED : classColor;
  context.globalAlpha = isSelected ? 0.35 : 0.15;
  context.fillStyle = color;
  if (shape.name !== REGION) context.fill(path, "evenodd");
  context.globalAlpha = 1;
  line(context, path, isSelected ? "#ffffff" : DARK, (isSelected ? 6 : 4) * unit, []);
  line(context, path, color, 2 * unit, shape.predicted || shape.name === REGION ? [6 * unit, 4 * unit] : []);
}

export function line(context: CanvasRenderingContext2D, path: Path2D, color: string, width: number, dashes: number[]): void {
  context.setLineDash(dashes);
  context.lineWidth = width;
  context.strokeStyle = color;
  context.stroke(path);
}

/** All rings of an outline. */
export function pathOf(shape: Shape): Path2D {
  let path = paths.get(shape);
  if (!path) {
    path = new Path2D();
    for (const ring of shape.rings) path.addPath(closed(ring));
    paths.set(shape, path);
  }
  return path;
}

/** A line through points. */
export function tracePath(points: Point[]): Path2D {
  const path = new Path2D();
  points.forEach(([x, y], at) => (at ? path.lineTo(x, y) : path.moveTo(x, y)));
  return path;
}

function closed(ring: Point[]): Path2D {
  const path = tracePath(ring);
  path.closePath();
  return path;
}
