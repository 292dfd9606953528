"""Pictures of the page's main states: `python -m tests.screenshots` writes docs/images/page-*.png."""

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import chromium, full, served
from tests.servers import ROOT
from tests.serving import parts

FOLDER = ROOT / "docs" / "images"
COLOURS = 64


def write(folder: Path) -> list[Path]:
    """Write all of them; two are for the README."""
    with TemporaryDirectory() as data, chromium() as browser:
        made = full(Path(data))
        track = made.memory.lists.latest()[0].tracks[7].track_id
        shots = (
            ("page-light", "/", 1440, 1500, "light"),
            ("page-phone-dark", "/", 360, 1200, "dark"),
            ("page-whole-dark", "/", 1440, 0, "dark"),
            ("page-tablet", "/", 768, 0, "light"),
            ("page-list", "/week/2025-W13/control", 1440, 1100, "light"),
            ("page-track", f"/track/{track}", 1440, 0, "light"),
            ("page-pipeline-dark", "/pipeline", 768, 0, "dark"),
        )
        with served(made) as url:
            found = [_shot(browser, url + path, folder / f"{name}.png", *how) for name, path, *how in shots]  # type: ignore[arg-type]
        with served(parts(Path(data) / "empty")) as url:
            found.append(_shot(browser, url, folder / "page-empty.png", 1440, 0, "light"))
    return found


def _shot(browser: Browser, url: str, path: Path, width: int, height: int, scheme: str) -> Path:
    """Height 0 is the whole page."""
    context = browser.new_context(
        viewport={"width": width, "height": height or 900},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    expect(page.locator("[data-pulse]")).to_be_visible()
    picture = Image.open(io.BytesIO(page.screenshot(full_page=not height)))
    context.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    return path


if __name__ == "__main__":
    for written in write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(written, f"{written.stat().st_size / 1024:.0f} KiB")
