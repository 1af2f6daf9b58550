/** Outlines and their geometry: unions, differences and strokes by Clipper; all coordinates are px of the image. */

import {
  Clipper,
  ClipType,
  EndType,
  FillRule,
  JoinType,
  PolyTreeD,
  type PathD,
  type PathsD,
  type PolyPathD,
} from "clipper2-ts";
import type { Collection, Feature, Point } from "./server";

/** One outline; the first ring is the outer one, the others are holes. Shapes are never changed, only replaced. */
export interface Shape {
  readonly name: string;
  readonly rings: Point[][];
  /** Proposed by the model, and not accepted yet. */
  readonly predicted: boolean;
}

/** Class of a rectangle of a slide in which every gland is outlined. */
export const REGION = "Region";
/** Smallest part that an operation leaves, px. */
const LEAST = 4;
const DECIMALS = 2;

/** Area that a stroke of the brush covers, as rings. */
export function stroke(points: Point[], radius: number): Point[][] {
  const path = Clipper.ramerDouglasPeuckerD(points.map(toD), radius / 20);
  const outline = Clipper.inflatePathsD([path], radius, JoinType.Round, EndType.Round, 2, DECIMALS, radius / 80);
  return outline.map((ring) => ring.map(toPoint));
}

/** Area inside of a drawn line, as rings; where it crosses itself, by the even-odd rule. */
export function enclosed(points: Point[], tolerance: number): Point[][] {
  const path = Clipper.ramerDouglasPeuckerD(points.map(toD), tolerance);
  return pieces(ClipType.Union, [path], [], FillRule.EvenOdd).flat();
}

/** Polygons of the union of two areas. */
export function union(one: Point[][], other: Point[][]): Point[][][] {
  return pieces(ClipType.Union, toPaths(one), toPaths(other));
}

/** Polygons of an area without another. */
export function difference(one: Point[][], other: Point[][]): Point[][][] {
  return pieces(ClipType.Difference, toPaths(one), toPaths(other));
}

/** Polygons of the common part of two areas. */
export function intersection(one: Point[][], other: Point[][]): Point[][][] {
  return pieces(ClipType.Intersection, toPaths(one), toPaths(other));
}

export function rectangle(x: number, y: number, width: number, height: number): Point[][] {
  return [[[x, y], [x + width, y], [x + width, y + height], [x, y + height]]];
}

export function area(rings: Point[][]): number {
  return Math.abs(Clipper.areaPathsD(toPaths(rings)));
}

/** Whether two areas can touch: their bounding boxes do. */
export function near(one: Point[][], other: Point[][]): boolean {
  const a = bounds(one);
  const b = bounds(other);
  return a[0] <= b[2] && b[0] <= a[2] && a[1] <= b[3] && b[1] <= a[3];
}

/** Left, top, right and bottom of an area. */
export function bounds(rings: Point[][]): [number, number, number, number] {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of rings[0] ?? []) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return [left, top, right, bottom];
}

/** Whether a point is inside of an area, and not in a hole. */
export function contains(rings: Point[][], [x, y]: Point): boolean {
  let inside = false;
  for (const ring of rings) {
    ring.forEach(([x1, y1], index) => {
      const [x2, y2] = ring[(index + 1) % ring.length]!;
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
    });
  }
  return inside;
}

export function fromCollection(collection: Collection, predicted: boolean, fallback: string): Shape[] {
  return collection.features.flatMap(({ geometry, properties }) => {
    const name = properties.classification?.name ?? fallback;
    const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
    return polygons.map((rings) => ({ name, predicted, rings: rings.map(open) }));
  });
}

export function toCollection(shapes: readonly Shape[]): Collection {
  const features = shapes.map(
    ({ name, rings }): Feature => ({
      type: "Feature",
      geometry: { type: "Polygon", coordinates: rings.map((ring) => [...ring, ring[0]!]) },
      properties: { objectType: "annotation", classification: { name } },
    }),
  );
  return { type: "FeatureCollection", features };
}

/** A ring without the repetition of its first point at the end. */
function open(ring: Point[]): Point[] {
  const [first, last] = [ring[0], ring[ring.length - 1]];
  return first && last && ring.length > 1 && first[0] === last[0] && first[1] === last[1] ? ring.slice(0, -1) : ring;
}

function pieces(type: ClipType, subject: PathsD, clip: PathsD, rule = FillRule.EvenOdd): Point[][][] {
  const tree = new PolyTreeD();
  Clipper.booleanOpDWithPolyTree(type, subject, clip, tree, rule, DECIMALS);
  const found: Point[][][] = [];
  const visit = (node: PolyPathD): void => {
    for (let index = 0; index < node.count; index++) {
      const outer = node.child(index);
      const holes = Array.from({ length: outer.count }, (_, hole) => outer.child(hole));
      const rings = [outer, ...holes].map((part) => (part.poly ?? []).map(toPoint));
      const kept = rings.filter((ring, number) => ring.length > 2 && (number === 0 || area([ring]) >= LEAST));
      if (rings[0] && rings[0].length > 2 && area([rings[0]]) >= LEAST) found.push(kept);
      holes.forEach(visit);
    }
  };
  visit(tree);
  return found;
}

function toD([x, y]: Point): { x: number; y: number } {
  return { x, y };
}

function toPoint({ x, y }: { x: number; y: number }): Point {
  return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
}

function toPaths(rings: Point[][]): PathD[] {
  return rings.map((ring) => ring.map(toD));
}
