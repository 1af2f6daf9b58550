/** Outlines of the open image: drawing, correcting, undo, and the draft in the browser. */

import { type Draft, readDraft, removeDraft, writeDraft } from "./drafts";
import type { Point } from "./server";
import {
  area,
  contains,
  difference,
  enclosed,
  intersection,
  near,
  rectangle,
  REGION,
  type Shape,
  stroke,
  union,
} from "./shapes";

const MOST_UNDO = 200;
/** Share of a predicted outline that drawn ones may cover; above it, it shows a gland that is outlined already. */
const COVERED = 0.3;

export class Editor {
  shapes: readonly Shape[] = [];
  selected: Shape | null = null;
  /** Corners of an outline that is not closed yet. */
  corners: Point[] = [];
  /** Class of new outlines. */
  className = "";
  /** Version of the label that is being changed; empty if there is none. */
  base = "";
  name = "";
  /** Called after each change. */
  onChange: () => void = () => {};
  /** Called when the storage of the browser is full. */
  onFull: () => void = () => {};

  private bytes = 0;
  private saved: readonly Shape[] = [];
  private past: (readonly Shape[])[] = [];
  private future: (readonly Shape[])[] = [];

  /** Open an image with its label, or with its draft, if there is one. Returns the draft. */
  open(name: string, bytes: number, label: readonly Shape[], version: string): Draft | null {
    const draft = readDraft(name, bytes);
    [this.name, this.bytes, this.base, this.saved] = [name, bytes, draft?.base ?? version, label];
    this.shapes = draft?.shapes ?? label;
    this.corners = draft?.corners ?? [];
    [this.past, this.future, this.selected] = [draft ? [label] : [], [], null];
    this.onChange();
    return draft;
  }

  close(): void {
    this.name = "";
    [this.shapes, this.saved, this.corners, this.past, this.future, this.selected] = [[], [], [], [], [], null];
    this.onChange();
  }

  /** Outlines that a save sends: all but predicted ones that are not accepted. */
  get accepted(): readonly Shape[] {
    return this.shapes.filter((shape) => !shape.predicted);
  }

  get predicted(): readonly Shape[] {
    return this.shapes.filter((shape) => shape.predicted);
  }

  get dirty(): boolean {
    const { accepted, saved } = this;
    return this.corners.length > 0 || accepted.length !== saved.length || accepted.some((one, at) => one !== saved[at]);
  }

  get canUndo(): boolean {
    return this.past.length > 0 || this.corners.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** These outlines are now the label on the server. */
  markSaved(shapes: readonly Shape[], version: string): void {
    [this.saved, this.base] = [shapes, version];
    this.changed();
  }

  /** Take the label of the server instead of the outlines here; undo brings these back. */
  takeLabel(label: readonly Shape[], version: string): void {
    [this.saved, this.base] = [label, version];
    this.replace(label);
  }

  undo(): void {
    if (this.corners.length) this.corners = this.corners.slice(0, -1);
    else this.move(this.past, this.future);
    this.changed();
  }

  redo(): void {
    this.move(this.future, this.past);
    this.changed();
  }

  /** Add a corner to the outline that is being drawn. */
  addCorner(point: Point): void {
    this.corners = [...this.corners, point];
    this.changed();
  }

  /** Forget the outline that is being drawn. */
  dropCorners(): void {
    this.corners = [];
    this.changed();
  }

  /** Close the outline that is being drawn: a new outline, or a hole in those below it. */
  closeOutline(cuts: boolean, tolerance: number): void {
    const rings = this.corners.length > 2 ? enclosed(this.corners, tolerance) : [];
    this.corners = [];
    if (!rings.length) this.changed();
    else if (cuts) this.erase(rings);
    else this.add(rings);
  }

  /** Paint with the brush: extends the outline below the first point, else makes a new one. */
  paint(points: Point[], radius: number): void {
    const rings = stroke(points, radius);
    const extended = this.at(points[0]!);
    if (!extended || extended.name === REGION) {
      this.add(rings);
      return;
    }
    const grown = this.without(union(extended.rings, rings), extended);
    this.exchange(extended, grown.map((part) => ({ ...extended, predicted: false, rings: part })));
  }

  /** Remove an area from all outlines that it touches; these count as accepted. */
  erase(rings: Point[][]): void {
    const touched = this.shapes.filter((shape) => shape.name !== REGION && near(shape.rings, rings));
    let next = this.shapes;
    for (const shape of touched) {
      if (!intersection(shape.rings, rings).length) continue;
      const left = difference(shape.rings, rings).map((part) => ({ ...shape, predicted: false, rings: part }));
      next = next.flatMap((one) => (one === shape ? left : [one]));
    }
    if (next !== this.shapes) this.replace(next);
  }

  eraseStroke(points: Point[], radius: number): void {
    this.erase(stroke(points, radius));
  }

  /** Mark a rectangle as a region in which every gland is outlined. */
  addRegion(x: number, y: number, width: number, height: number): void {
    this.replace([...this.shapes, { name: REGION, predicted: false, rings: rectangle(x, y, width, height) }]);
  }

  /** Show predicted outlines instead of earlier ones: all, or those that touch an area. Returns how many are new. */
  propose(shapes: readonly Shape[], within?: Point[][]): number {
    const drawn = this.accepted.filter((shape) => shape.name !== REGION);
    const earlier = (shape: Shape): boolean => shape.predicted && (!within || intersection(shape.rings, within).length > 0);
    const found = shapes.flatMap((shape) => {
      const { rings } = shape;
      if (within && !intersection(rings, within).length) return [];
      const covering = drawn.filter((one) => near(one.rings, rings));
      const covered = covering.reduce((sum, one) => sum + total(intersection(rings, one.rings)), 0);
      if (covered > COVERED * area(rings)) return [];
      return this.without([rings]).map((part) => ({ ...shape, rings: part, predicted: true }));
    });
    this.replace([...this.shapes.filter((shape) => !earlier(shape)), ...found]);
    return found.length;
  }

  /** Accept predicted outlines: the given ones, or all. */
  accept(shapes: readonly Shape[] = this.predicted): void {
    const chosen = new Set(shapes.filter((shape) => shape.predicted));
    if (chosen.size) this.replace(this.shapes.map((one) => (chosen.has(one) ? { ...one, predicted: false } : one)));
  }

  remove(shapes: readonly Shape[]): void {
    const chosen = new Set(shapes);
    if (chosen.size) this.replace(this.shapes.filter((shape) => !chosen.has(shape)));
  }

  rename(shape: Shape, name: string): void {
    const renamed = { ...shape, name };
    this.exchange(shape, [renamed]);
    this.select(renamed);
  }

  select(shape: Shape | null): void {
    this.selected = shape;
    this.onChange();
  }

  /** The uppermost outline at a point; regions lie below all others. */
  at(point: Point): Shape | null {
    const found = this.shapes.filter((shape) => contains(shape.rings, point)).reverse();
    return found.find((shape) => shape.name !== REGION) ?? found[0] ?? null;
  }

  /** Keep the draft: in the browser, until it is saved. */
  private changed(): void {
    if (!this.name) return;
    if (!this.dirty) removeDraft(this.name, this.bytes);
    else {
      const draft = { base: this.base, shapes: [...this.accepted], corners: this.corners };
      if (!writeDraft(this.name, this.bytes, draft)) this.onFull();
    }
    this.onChange();
  }

  private add(rings: Point[][]): void {
    const name = this.className;
    const parts = name === REGION ? [rings] : this.without(union(rings, []));
    this.replace([...this.shapes, ...parts.map((part) => ({ name, predicted: false, rings: part }))]);
  }

  /** Parts of polygons that no other accepted outline covers: glands stay apart. */
  private without(polygons: Point[][][], except?: Shape): Point[][][] {
    const others = this.accepted.filter((shape) => shape !== except && shape.name !== REGION);
    return others.reduce(
      (parts, other) =>
        parts.flatMap((rings) => (near(rings, other.rings) ? difference(rings, other.rings) : [rings])),
      polygons,
    );
  }

  private exchange(old: Shape, replacements: Shape[]): void {
    this.replace(this.shapes.flatMap((shape) => (shape === old ? replacements : [shape])));
  }

  private replace(shapes: readonly Shape[]): void {
    this.past = [...this.past, this.shapes].slice(-MOST_UNDO);
    [this.future, this.shapes] = [[], shapes];
    this.keepSelection();
    this.changed();
  }

  private move(from: (readonly Shape[])[], to: (readonly Shape[])[]): void {
    const shapes = from.pop();
    if (!shapes) return;
    to.push(this.shapes);
    this.shapes = shapes;
    this.keepSelection();
  }

  private keepSelection(): void {
    if (this.selected && !this.shapes.includes(this.selected)) this.selected = null;
  }
}

function total(polygons: Point[][][]): number {
  return polygons.reduce((sum, rings) => sum + area(rings), 0);
}
