"""Record the labeling page while a simulated annotator uses it in Chromium, on a real label server.

    python scripts/dev/page_story.py --output FOLDER

Requires MONAI Label (`make label-install`, then .venv-label/bin/python), Debian's chromium, and some minutes on two
CPU cores. The tiles, the network and the server are those of scripts/dev/label_story.py. The annotator outlines the
glands of a tile with the pointer (three more tiles are labeled by requests), saves, trains, opens the next tile,
predicts it, corrects and accepts the prediction, and compares the versions of the model. Writes one screenshot for
each step and page_story.png, a strip of them, to FOLDER. The exit code is 0 only if the page did each step.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bundle.data import read_label
from bundle.engines.error_summary import sentence
from bundle.handlers.drawing import INK, PAPER
from bundle.inference.polygons import outlines
from bundle.utils import atomic_path
from scripts.dev.label_story import Story, check, prepare, serving

SIZE = {"width": 1280, "height": 800}
SHOWN, GAP, CAPTION, COLUMNS = 640, 8, 24, 2
"""Width of a screenshot in the strip, space between them, height of a caption, px; and their number side by side."""
LONGEST = 900_000
"""Milliseconds that a training may take."""
PREDICTED = "() => document.querySelector('#outlines').textContent.includes('predicted')"
DECIDED = "() => document.querySelector('#decision').textContent !== ''"
UNDERWAY = "() => /^Epoch.* left$/.test(document.querySelector('#training').textContent)"
SHAPES = "() => Number.parseInt(document.querySelector('#outlines').textContent)"
GLIDE = 600
"""Milliseconds until the viewer shows a new view."""


def main() -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="output folder; it must be new or empty")
    parser.add_argument("--tiles", type=int, default=16, help="number of served tiles (default: 16)")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the training (default: 30)")
    given = parser.parse_args()
    given.output = given.output.expanduser().absolute()
    given.size, given.crop, given.widths, given.outlined = 256, 96, [8, 16, 32, 64, 128], 4
    try:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        check(chromium is not None, "there is no chromium; on Debian: apt-get install chromium")
        check(not given.output.exists() or not any(given.output.iterdir()), f"{given.output} is not empty")
        held_out = prepare(given)
        with serving(given.output) as url:
            film(Story(given, url, held_out, {"stages": []}), str(chromium))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"page_story: {error if isinstance(error, RuntimeError) else sentence(error)}", file=sys.stderr)
        return 1
    return 0


def film(story: Story, chromium: str) -> None:
    """Work through all steps, with a screenshot of each."""
    from playwright.sync_api import Error, sync_playwright  # installed with MONAI Label

    names = sorted(path.stem for path in story.tiles.glob("*.png"))
    first, *others = names[:: len(names) // story.given.outlined][: story.given.outlined]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(LONGEST)
        try:
            steps = Annotator(page, story)
            steps.outline(first)
            steps.save_and_train(others)
            steps.predict()
            steps.correct()
            steps.compare(first)
        except Error as error:
            page.screenshot(path=story.output / "failed.png")
            raise RuntimeError(
                f"the page did not do this step ({error.message.splitlines()[0]}); see failed.png"
            ) from error
        finally:
            browser.close()
    draw_strip(steps.shots, story.output / "page_story.png")
    print(f"All steps were done. See {story.output / 'page_story.png'}", flush=True)


class Annotator:
    """A person at the page; ``shots`` are the screenshots with their captions."""

    def __init__(self, page: Any, story: Story) -> None:
        self.page, self.story = page, story
        self.shots: list[tuple[str, Path]] = []
        page.goto(story.url)

    def shoot(self, caption: str) -> None:
        """Take a screenshot."""
        self.page.wait_for_timeout(GLIDE)
        path = self.story.output / f"step_{len(self.shots) + 1}.png"
        self.page.screenshot(path=path)
        self.shots.append((f"{len(self.shots) + 1}. {caption}", path))
        print(caption, flush=True)

    def outline(self, name: str) -> None:
        """Draw all glands of a tile; the last one is still being drawn in the screenshot."""
        self.page.locator(f"[data-image={name}]").click()
        self.page.wait_for_function("name => document.querySelector('#name').textContent === name", arg=name)
        truth = read_label(self.story.output / "drawn" / "label" / f"{name}.png").pixels
        rings = [shapely.get_coordinates(item.shape.exterior) for item in outlines(truth) if item.shape.area > 100]
        self.page.keyboard.press("o")
        for number, ring in enumerate(rings):
            positions = self.places(ring)
            self.page.mouse.move(*positions[0])
            self.page.mouse.down()
            for position in positions[1:]:
                self.page.mouse.move(*position)
                if number == len(rings) - 1 and position is positions[len(positions) * 2 // 3]:
                    self.shoot("Outline all glands of a few tiles")
            self.page.mouse.up()
        drawn = self.page.evaluate(SHAPES)
        check(drawn >= len(rings), f"{len(rings)} glands were outlined, but the page has {drawn}")

    def save_and_train(self, others: list[str]) -> None:
        """Save the label, label other tiles by requests, and train."""
        self.page.keyboard.press("s")
        self.page.locator("#message", has_text="Saved").wait_for()
        self.story.outline(others)
        self.page.locator("#epochs").fill(str(self.story.given.epochs))
        self.page.locator("#train").click()
        self.page.wait_for_function(UNDERWAY)
        self.shoot("Train on them and on all unlabeled tiles")
        self.page.wait_for_function(DECIDED)
        self.shoot("The decision: Dice before and after")

    def predict(self) -> None:
        """Open the next tile and predict it."""
        before = self.page.locator("#name").text_content()
        self.page.keyboard.press("n")
        self.page.wait_for_function("name => document.querySelector('#name').textContent !== name", arg=before)
        self.page.wait_for_timeout(GLIDE)
        self.page.keyboard.press("Shift+P")
        self.page.wait_for_function(PREDICTED)
        self.shoot("Open the next tile; the model proposes outlines (yellow)")

    def correct(self) -> None:
        """Erase and paint where the prediction is wrong, accept the rest, and save."""
        name = self.page.locator("#name").text_content()
        truth = read_label(self.story.output / "drawn" / "label" / f"{name}.png").pixels > 0
        predicted = self.story.mask(self.story.tiles / f"{name}.png")
        self.page.keyboard.press("a")
        for key, wrong in (("e", predicted & ~truth), ("b", truth & ~predicted)):
            depth = distance_transform_edt(wrong)
            middle = np.array(np.unravel_index(depth.argmax(), depth.shape))[::-1]
            (position,) = self.places(middle[None].astype(float))
            self.page.keyboard.press(key)
            self.page.mouse.click(*position)
        self.page.keyboard.press("s")
        self.page.locator("#message", has_text=f"of {name}").wait_for()
        self.shoot("Accept and correct them with brush and eraser, and save")

    def compare(self, name: str) -> None:
        """Show the outlines of the model in use beside the label."""
        self.page.locator(f"[data-image={name}]").click()
        self.page.wait_for_function("name => document.querySelector('#name').textContent === name", arg=name)
        with self.page.expect_response(lambda response: "/infer/" in response.url):
            self.page.locator("#compare").check()
        self.shoot("Compare a version of the model (blue) with your outlines")

    def places(self, points: np.ndarray) -> list[list[float]]:
        """Return where points of a tile, px, are in the window, if the tile is shown whole."""
        box = self.page.locator("#viewer").bounding_box()
        zoom = min(box["width"], box["height"]) / self.story.given.size
        corner = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        positions: list[list[float]] = ((points - self.story.given.size / 2) * zoom + corner).tolist()
        return positions


def draw_strip(shots: list[tuple[str, Path]], path: Path) -> None:
    """Draw screenshots in rows, each below its caption."""
    height = round(SHOWN * SIZE["height"] / SIZE["width"])
    rows = -(-len(shots) // COLUMNS)
    strip = Image.new("RGB", (GAP + COLUMNS * (SHOWN + GAP), GAP + rows * (CAPTION + height + GAP)), PAPER)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=16)
    for number, (caption, shot) in enumerate(shots):
        left = GAP + number % COLUMNS * (SHOWN + GAP)
        top = GAP + number // COLUMNS * (CAPTION + height + GAP)
        draw.text((left, top + CAPTION / 2), caption, INK, font, anchor="lm")
        with Image.open(shot) as picture:
            strip.paste(picture.convert("RGB").resize((SHOWN, height), Image.Resampling.LANCZOS), (left, top + CAPTION))
    with atomic_path(path, ".png") as partial:
        strip.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(partial, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
