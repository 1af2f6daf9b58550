/** The viewer: OpenSeadragon shows the image, a canvas above it the outlines, and the pointer draws. */

import OpenSeadragon from "openseadragon";
import type { Editor } from "./editor";
import { COMPARED, drawShape, line, pathOf, tracePath } from "./drawing";
import type { ImageFacts, Point } from "./server";
import type { Shape } from "./shapes";

export type Tool = "move" | "outline" | "brush" | "eraser" | "hole";

/** Distance of two clicks at one place, and of a click from the first corner that closes an outline; px of the screen. */
const CLOSE = 9;
const OTHER = "rgb(230 230 230)";

export class Viewer {
  tool: Tool = "move";
  /** Radius of brush and eraser, px of the screen. */
  radius = 14;
  /** Outlines of another version of the model. */
  compared: readonly Shape[] = [];
  /** Whether outlines are shown. */
  shown = true;
  /** Whether the space bar is held: the pointer moves the image, whatever the tool. */
  moving = false;
  facts: ImageFacts | null = null;

  private readonly osd: OpenSeadragon.Viewer;
  private readonly canvas = document.createElement("canvas");
  private drawn: Point[] | null = null;
  private pointer: Point | null = null;

  constructor(
    private readonly element: HTMLElement,
    private readonly editor: Editor,
  ) {
    this.osd = new OpenSeadragon.Viewer({
      element,
      showNavigationControl: false,
      showNavigator: false,
      drawer: "canvas",
      animationTime: 0.2,
      minZoomImageRatio: 0.8,
      maxZoomPixelRatio: 16,
      imageSmoothingEnabled: true,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: false, flickEnabled: false },
      gestureSettingsPen: { clickToZoom: false, dblClickToZoom: false },
    } as OpenSeadragon.Options);
    this.canvas.className = "outlines";
    this.osd.canvas.append(this.canvas);
    for (const event of ["open", "animation", "resize", "update-viewport", "viewport-change"]) {
      this.osd.addHandler(event as "open", () => this.draw());
    }
    this.listen();
  }

  /** Show an image; resolves when its first tiles can be loaded. */
  open(facts: ImageFacts, tile: (level: number, x: number, y: number) => string, headers: Record<string, string>): void {
    this.facts = facts;
    this.compared = [];
    this.osd.open({
      tileSource: {
        width: facts.width,
        height: facts.height,
        tileSize: facts.side,
        minLevel: facts.first,
        maxLevel: facts.deepest,
        getTileUrl: tile,
      },
      loadTilesWithAjax: Object.keys(headers).length > 0,
      ajaxHeaders: headers,
    } as never);
  }

  close(): void {
    this.facts = null;
    this.osd.close();
    this.draw();
  }

  /** Show all of the image, or a rectangle of it. */
  fit(box?: readonly number[]): void {
    const item = this.osd.world.getItemAt(0);
    if (!item) {
      this.osd.addOnceHandler("open", () => this.fit(box));
      return;
    }
    if (box) this.osd.viewport.fitBounds(item.imageToViewportRectangle(box[0]!, box[1]!, box[2]!, box[3]!));
    else this.osd.viewport.goHome();
  }

  zoom(factor: number): void {
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  /** The visible part of the image: x, y, width, height in px of the image. */
  get view(): [number, number, number, number] {
    const item = this.osd.world.getItemAt(0);
    const { facts } = this;
    if (!item || !facts) return [0, 0, 0, 0];
    const seen = item.viewportToImageRectangle(this.osd.viewport.getBounds(true));
    const left = Math.max(Math.floor(seen.x), 0);
    const top = Math.max(Math.floor(seen.y), 0);
    const right = Math.min(Math.ceil(seen.x + seen.width), facts.width);
    const bottom = Math.min(Math.ceil(seen.y + seen.height), facts.height);
    return [left, top, Math.max(right - left, 0), Math.max(bottom - top, 0)];
  }

  /** Px of the image in one px of the screen. */
  get scale(): number {
    const [, , zoom] = this.placement();
    return 1 / zoom;
  }

  /** Position of the image in the viewer, px of the screen, and its zoom. */
  private placement(): [number, number, number] {
    const item = this.osd.world.getItemAt(0);
    if (!item || !this.facts) return [0, 0, 1];
    const origin = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const end = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.facts.width, 0));
    return [origin.x, origin.y, (end.x - origin.x) / this.facts.width];
  }

  private listen(): void {
    type Event = { position: OpenSeadragon.Point; preventDefaultAction: boolean; quick?: boolean };
    const on = (name: string, handler: (event: Event) => void): void => {
      this.osd.addHandler(name as "canvas-click", handler as never);
    };
    on("canvas-press", (event) => this.press(this.toImage(event.position)));
    on("canvas-drag", (event) => {
      event.preventDefaultAction = this.drawn !== null;
      if (this.drawn) this.drag(this.toImage(event.position));
    });
    on("canvas-drag-end", (event) => (event.preventDefaultAction = this.tool !== "move" && !this.moving));
    on("canvas-release", () => this.release());
    on("canvas-key", (event) => (event.preventDefaultAction = true)); // the page has its own keys
    on("canvas-pinch", () => this.cancelStroke());
    on("canvas-click", (event) => {
      if (event.quick && this.tool === "move") this.editor.select(this.editor.at(this.toImage(event.position)));
    });
    on("canvas-double-click", (event) => {
      const { editor } = this;
      if (this.tool === "outline" || this.tool === "hole") this.finishOutline();
      else if (this.tool === "move") editor.accept([editor.at(this.toImage(event.position))].flatMap((one) => one ?? []));
    });
    this.element.addEventListener("pointermove", (event) => {
      const box = this.element.getBoundingClientRect();
      this.pointer = [event.clientX - box.left, event.clientY - box.top];
      if (this.tool !== "move") this.draw();
    });
    this.element.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.draw();
    });
  }

  /** Close the outline that is being drawn. */
  finishOutline(): void {
    this.editor.closeOutline(this.tool === "hole", this.scale / 2);
  }

  /** Forget what is being drawn. */
  cancelStroke(): void {
    this.drawn = null;
    this.draw();
  }

  private press(point: Point): void {
    if (!this.facts || this.tool === "move" || this.moving) return;
    this.drawn = [point];
    this.draw();
  }

  private drag(point: Point): void {
    const last = this.drawn?.[this.drawn.length - 1];
    if (last && distance(last, point) > this.scale) this.drawn?.push(point);
    this.draw();
  }

  private release(): void {
    const points = this.drawn;
    this.drawn = null;
    if (!points) return;
    const { editor, scale } = this;
    if (this.tool === "brush") editor.paint(points, this.radius * scale);
    else if (this.tool === "eraser") editor.eraseStroke(points, this.radius * scale);
    else this.releaseOutline(points);
    this.draw();
  }

  /** A click adds a corner, or closes the outline at its first corner; a drawn line is closed at once. */
  private releaseOutline(points: Point[]): void {
    const { editor, scale } = this;
    const [first, last] = [points[0]!, points[points.length - 1]!];
    const start = editor.corners[0];
    const lastCorner = editor.corners[editor.corners.length - 1];
    const length = points.reduce((sum, point, at) => sum + (at ? distance(points[at - 1]!, point) : 0), 0);
    if (length > 3 * CLOSE * scale) {
      editor.corners = [...editor.corners, ...points];
      this.finishOutline();
    } else if (start && editor.corners.length > 2 && distance(start, last) < CLOSE * scale) this.finishOutline();
    else if (!lastCorner || distance(lastCorner, first) > 2 * scale) editor.addCorner(first);
  }

  private toImage(position: OpenSeadragon.Point): Point {
    const [x, y, zoom] = this.placement();
    return [(position.x - x) / zoom, (position.y - y) / zoom];
  }

  private colorOf(name: string): string {
    const color = this.facts?.classes[name];
    return color ? `rgb(${color.join(" ")})` : OTHER;
  }

  /** Draw all outlines. */
  draw(): void {
    const { canvas, element, editor } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [element.clientWidth, element.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.facts) return;
    const [x, y, zoom] = this.placement();
    context.setTransform(zoom * ratio, 0, 0, zoom * ratio, x * ratio, y * ratio);
    const unit = 1 / zoom;
    if (this.shown) {
      for (const shape of editor.shapes) drawShape(context, shape, this.colorOf(shape.name), shape === editor.selected, unit);
      for (const shape of this.compared) line(context, pathOf(shape), COMPARED, 2 * unit, []);
    }
    this.drawStroke(context, unit);
  }

  /** Draw what is being drawn: corners, the line of the pointer, and the brush. */
  private drawStroke(context: CanvasRenderingContext2D, unit: number): void {
    const { drawn, editor, pointer, radius, tool } = this;
    const paints = tool === "brush" || tool === "eraser";
    const here = pointer && this.toImage(new OpenSeadragon.Point(pointer[0], pointer[1]));
    const color = tool === "eraser" || tool === "hole" ? "#ff4d4d" : this.colorOf(editor.className);
    context.lineJoin = context.lineCap = "round";
    if (drawn && paints) {
      context.globalAlpha = 0.45;
      const path = tracePath(drawn);
      path.lineTo(...drawn[drawn.length - 1]!);
      line(context, path, color, 2 * radius * unit, []);
      context.globalAlpha = 1;
    }
    if (paints && here) {
      const circle = new Path2D();
      circle.arc(here[0], here[1], radius * unit, 0, 2 * Math.PI);
      line(context, circle, "rgb(0 0 0 / 70%)", 3 * unit, []);
      line(context, circle, "#ffffff", 1.5 * unit, []);
    }
    const open = [...editor.corners, ...(paints ? [] : (drawn ?? []))];
    if (!open.length) return;
    const path = tracePath(open);
    if (here && !paints && tool !== "move" && !drawn) path.lineTo(...here);
    line(context, path, "rgb(0 0 0 / 60%)", 4 * unit, []);
    line(context, path, color, 2 * unit, []);
    context.fillStyle = "#ffffff";
    for (const [px, py] of editor.corners) {
      context.beginPath();
      context.arc(px, py, 4 * unit, 0, 2 * Math.PI);
      context.fill();
      context.lineWidth = unit;
      context.strokeStyle = "#000000";
      context.setLineDash([]);
      context.stroke();
    }
  }
}

function distance(one: Point, other: Point): number {
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
}
