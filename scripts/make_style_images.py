"""Draws five style images for neural style transfer: mosaic, stars, ink, poppies, waves.

Every stroke is generated, so the pictures carry nobody's rights. Each is drawn at twice its size
and reduced, and comes out the same every time. Takes half a minute.

    python scripts/make_style_images.py styles
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

SIDE = 512
CANVAS = 2 * SIDE  # lengths below are in pixels of the canvas
ROWS, COLUMNS = np.mgrid[:CANVAS, :CANVAS].astype(np.float64)


def main() -> None:
    """Writes the five pictures into the folder on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    draw_all(parser.parse_args().folder)


def draw_all(folder: Path) -> None:
    """Draws the five pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, draw in enumerate((mosaic, stars, ink, poppies, waves)):
        pixels = draw(np.random.default_rng(seed)).clip(0, 255).round().astype(np.uint8)
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.save(folder / f"{draw.__name__}.jpg", quality=92)


def mosaic(rng: np.random.Generator) -> np.ndarray:
    """Draws a stained-glass window: jewel-coloured panes between lead lines, rings and rays."""
    glass = colours("123a9e 1d5fd0 0a7f8c 18b3a6 b3142c d8342f f0a01e ffd05a 5b2a9a 8f4fc4 1f8a3f")
    schemes = ((6, 7, 5), (4, 5, 9), (0, 1, 8), (2, 3, 10), (0, 8, 9), (1, 3, 7), (10, 2, 6))
    # Many points where the panes are small, few where they are large.
    density = noise(rng, 260)
    points = rng.uniform(-60, CANVAS + 60, (6000, 2))
    kept = np.empty((0, 2))
    for point in points:
        row, column = point.clip(0, CANVAS - 1).astype(int)
        gap = 48 + 15 * np.tanh(density[row, column])
        if not len(kept) or np.hypot(*(kept - point).T).min() > gap:
            kept = np.vstack([kept, point])
    wobble = [8 * noise(rng, 60) for _ in range(2)]
    where = np.stack([ROWS + wobble[0] / 2, COLUMNS + wobble[1] / 2], -1)
    distances, owners = cKDTree(kept).query(where, k=2)
    between = np.hypot(*np.moveaxis(kept[owners[..., 0]] - kept[owners[..., 1]], -1, 0))
    edge = (distances[..., 1] ** 2 - distances[..., 0] ** 2) / (2 * between)
    owners = owners[..., 0]
    middle = kept[owners]
    row, column = np.moveaxis(kept.clip(0, CANVAS - 1).astype(int), -1, 0)
    scheme = (3.5 + 3.4 * np.tanh(noise(rng, 170))).astype(int)[row, column][owners]
    pane = owners
    for row, column, step, rays in ((400, 360, 76, 8), (850, 880, 62, 6), (90, 900, 58, 7)):
        down, across = ROWS - row + wobble[0] / 3, COLUMNS - column + wobble[1] / 3
        radius = np.hypot(down, across)
        ring = (radius / step).astype(int)
        # The further out a ring, the more panes it has; each is turned against the one within.
        count = np.array([1, rays, 2 * rays, 2 * rays, 3 * rays])[ring.clip(0, 4)]
        turn = (np.arctan2(down, across) / (2 * np.pi) + 0.5) * count + 0.5 * (ring % 2)
        spokes = np.abs(turn - np.rint(turn)) * 2 * np.pi / count * radius
        spokes[ring == 0] = step
        cut = np.minimum(spokes, np.abs(radius - step * np.rint(radius / step).clip(1)))
        sector = np.floor(turn).astype(int) % count
        inside = ring < 4
        edge = np.where(inside, cut, np.minimum(edge, radius - 4 * step))
        pane = np.where(inside, 5000 + 90 * row + 200 * ring + sector, pane)
        scheme = np.where(inside, (row // 10 + 2 * ring) % len(schemes), scheme)
        middle = np.where(inside[..., None], where - np.stack([down, across], -1) / 4, middle)
    pane = pane * 7919 % 65536
    choice = np.array(schemes)[scheme]
    pick = rng.integers(0, 3, 65536)[pane]
    picture = glass[np.take_along_axis(choice, pick[..., None], -1)[..., 0]]
    lean = rng.uniform(0, 2 * np.pi, 65536)[pane]
    offset = where - middle
    slope = (offset[..., 0] * np.sin(lean) + offset[..., 1] * np.cos(lean)) / 40
    grain = noise(rng, 6) * 0.05 + noise(rng, 22) * 0.08 + 0.05 * np.sin(noise(rng, 40) * 9)
    light = rng.uniform(0.6, 1.2, 65536)[pane] + 0.22 * slope + grain
    light += 0.4 * np.exp(-(((edge - 9) / 4) ** 2)) * (slope < -0.1)
    picture = picture * light[..., None] + 110 * (light[..., None] - 1.05).clip(0)
    lead = colours("14121a")[0] + 46 * np.exp(-((edge / 2) ** 2))[..., None]
    return mix(lead, picture, ((edge - 5.5) / 2)[..., None])


def stars(rng: np.random.Generator) -> np.ndarray:
    """Draws a night sky: short curved strokes that swirl around vortices and glowing stars."""
    night = colours("0b1c4f 14307d 1b4aa8 2f74c9 5fb0d8 1d6f9c 0f2a68 3b9ab0 a9d8d8 16235e")
    glow = colours("fffbe0 fff0a0 fdd74a f5b52c e6d98a 9fd0b8 4f9fc8")
    stream = ROWS / 60 + noise(rng, 300)
    for row, column, size, turn in (
        (420, 380, 190, 11), (560, 690, 140, -8), (160, 640, 110, 5), (850, 250, 150, -7),
        (880, 860, 130, 7),
    ):  # fmt: skip
        stream += turn * np.exp(-np.hypot(ROWS - row, COLUMNS - column) / size)
    angles = flow(stream)
    discs = (
        (130, 150, 105), (95, 420, 62), (170, 880, 150), (330, 960, 60), (640, 110, 80),
        (700, 470, 70), (640, 930, 88), (930, 560, 85), (300, 610, 52), (960, 60, 60),
    )  # fmt: skip
    canvas = blank("0b1c4f")
    for scale, count in ((1.9, 2200), (1.3, 5000), (0.95, 3500)):
        for row, column in rng.uniform(0, CANVAS, (count, 2)):
            at = int(row), int(column)
            angle, bend = angles[at], rng.normal(0, 0.05)
            band = stream[at] * 1.6 + rng.normal(0, 0.5)
            colour = night[int(band) % len(night)]
            for middle, across, radius in discs:
                away = np.hypot(row - middle, column - across)
                if away < radius * rng.uniform(0.85, 1.1):
                    angle = np.arctan2(row - middle, column - across) + np.pi / 2
                    bend = -min(0.4, 7 * scale / max(away, 1))
                    step = away / radius * (len(glow) - 1) + rng.normal(0, 0.35)
                    colour = glow[int(np.clip(step, 0, len(glow) - 1))]
            tint = colour * rng.uniform(0.85, 1.15) + rng.normal(0, 7, 3)
            long = rng.uniform(32, 54) * scale
            dab(canvas, rng, (row, column), angle, long, rng.uniform(8, 12) * scale, tint, bend)
    for middle, across, radius in discs:
        for turn in range(7):
            spot = middle + 0.1 * radius * np.sin(turn), across + 0.1 * radius * np.cos(turn)
            dab(canvas, rng, spot, turn + np.pi / 2, radius * 0.35, radius * 0.17, glow[0], -0.2)
        dab(canvas, rng, (middle, across), 0.5, radius * 0.3, radius * 0.25, glow[0])
    return lit(canvas, 1.0)


def ink(rng: np.random.Generator) -> np.ndarray:
    """Draws boulders in pen and ink: outlines, cross-hatching that follows the form, blacks."""
    paper = colours("f3e8cf")[0] + 5 * noise(rng, 4)[..., None] + 5 * noise(rng, 120)[..., None]
    tone = np.full((CANVAS, CANVAS), 1.2)
    lean = np.zeros_like(tone)
    form = np.zeros_like(tone)
    outline = np.zeros_like(tone)
    ripple = [noise(rng, 70), noise(rng, 30)]
    for row in range(-60, CANVAS + 160, 56):
        for column in rng.uniform(-80, CANVAS + 80, 8):
            radius = rng.uniform(60, 150)
            squash, spin = rng.uniform(0.6, 0.9), rng.normal(0, 0.4)
            down, across = ROWS - row, COLUMNS - column
            u = (across * np.cos(spin) + down * np.sin(spin)) / radius
            v = (down * np.cos(spin) - across * np.sin(spin)) / (radius * squash)
            away = np.hypot(u, v) + 0.07 * ripple[0] + 0.02 * ripple[1]
            inside = away < 1
            height = np.sqrt((1 - away**2).clip(0))
            shade = 0.62 + 0.5 * u + 0.55 * v - 0.36 * height + 0.12 * ripple[0]
            tone = np.where(inside, shade + rng.uniform(-0.2, 0.3), tone)
            tone += np.where(inside, 0, 0.7 * np.exp(-((away - 1) / 0.14).clip(0)))
            lean = np.where(inside, rng.uniform(0, np.pi), lean)
            form = np.where(inside, height * radius * 0.6, form)
            outline = np.where(inside, 0, outline)
            outline = np.maximum(outline, np.abs(away - 1) * radius < rng.uniform(2.2, 3.2))
    drawn = outline.astype(np.float64)
    shake, gaps = 2 * noise(rng, 40), noise(rng, 14)
    layers = ((0, 13, 0.12), (0.6, 12, 0.4), (1.57, 11, 0.68), (1.05, 9, 0.95))
    for turn, spacing, threshold in layers:
        angle = lean + turn
        phase = COLUMNS * np.cos(angle) + ROWS * np.sin(angle) + form + shake
        line = np.abs(phase / spacing - np.rint(phase / spacing)) * spacing
        width = (1 + 1.4 * (tone - threshold + 0.12 * gaps)).clip(0, 2.4)
        width = np.where(tone + 0.1 * gaps > threshold, width, 0)
        drawn = np.maximum(drawn, (width - line + 0.5).clip(0, 1) * (width > 0))
    drawn = np.maximum(drawn, ((tone - 1.25) * 20).clip(0, 1))
    sepia = mix(colours("17130f")[0], colours("301c10")[0], (0.3 + noise(rng, 150))[..., None])
    return mix(paper, sepia, 0.94 * drawn[..., None])


def poppies(rng: np.random.Generator) -> np.ndarray:
    """Draws a field of poppies in thick oval dabs of paint: petals over leaves over shadow."""
    shadow = colours("2b1f57 3d2a78 1d3a3c 24502f 4a3590 17332a")
    leaves = colours("2f7a3a 4fa04a 7cc05a a8cf62 1f6a58 d7dc7a 3f8f6e")
    reds = colours("c8141c e0281c f0481e f86a2a d81848 f58a7a ff9a3c a80f2c")
    pinks = colours("f0607a f8a0a0 ff7a50 ffc07a e83a5a fbd0b8 d03070 f4742e")
    cream = colours("fff3d0 ffe2a8 fff8ea")
    canvas = blank("2b1f57")
    sway = 1.2 + 0.5 * noise(rng, 200)

    def paint(row: float, column: float, angle: float, size: float, colour: np.ndarray) -> None:
        tint = colour * rng.uniform(0.88, 1.12) + rng.normal(0, 8, 3)
        broad = size * rng.uniform(0.45, 0.62)
        dab(canvas, rng, (row, column), angle, size, broad, tint, rng.normal(0, 0.12))

    for palette, count, size in ((shadow, 2600, 46), (leaves, 2600, 38), (shadow, 900, 28)):
        for row, column in rng.uniform(0, CANVAS, (count, 2)):
            angle = sway[int(row), int(column)] + rng.normal(0, 0.35)
            paint(row, column, angle, size * rng.uniform(0.7, 1.3), rng.choice(palette))
    for row in np.arange(-20, CANVAS + 60, 12.5):
        column, radius = rng.uniform(-20, CANVAS + 20), rng.uniform(46, 100)
        petals = reds if rng.random() < 0.65 else pinks
        main_tint = rng.integers(0, len(petals))
        for turn in np.arange(0.2, 3, 0.25):  # The shadow under the flower.
            spot = row + radius * np.sin(turn), column + 1.12 * radius * np.cos(turn)
            paint(*spot, turn + np.pi / 2, rng.uniform(26, 40), rng.choice(shadow))
        for ring in (1.0, 0.8, 0.6, 0.4):
            for turn in np.arange(0, 2 * np.pi, 0.36 / ring) + rng.uniform(0, 1):
                away = radius * ring * rng.uniform(0.85, 1.1)
                # Lit from above: the lower petals are darker, the upper rims lighter.
                pick = (main_tint + rng.integers(0, 3)) % len(petals)
                tint = petals[pick] * (1 - 0.22 * np.sin(turn) * ring)
                spot = row + away * 0.8 * np.sin(turn), column + away * np.cos(turn)
                angle = turn + (np.pi / 2 if ring == 1.0 else 0) + rng.normal(0, 0.25)
                paint(*spot, angle, rng.uniform(26, 42), tint)
        for turn in rng.uniform(3.4, 6.0, 5):
            spot = row + radius * 0.62 * np.sin(turn), column + radius * 0.8 * np.cos(turn)
            paint(*spot, turn + np.pi / 2, rng.uniform(16, 26), rng.choice(cream))
        for _ in range(9):
            near, aside = rng.normal((row, column), radius * 0.11)
            paint(near, aside, rng.uniform(0, 3), rng.uniform(14, 22), rng.choice(shadow) * 0.7)
    for row, column in rng.uniform(0, CANVAS, (300, 2)):
        paint(row, column, sway[int(row), int(column)], rng.uniform(14, 26), rng.choice(leaves))
    return lit(canvas, 1.3)


def waves(rng: np.random.Generator) -> np.ndarray:
    """Draws a woodblock print: curling waves and rows of concentric arcs, outlined in indigo."""
    indigo, prussian, blue, pale, mist, cream, red = colours(
        "16204a 1f3f7f 3f77ad 9cc3d5 cfdfd8 f3e6c8 d1432b"
    )
    canvas = np.empty((CANVAS, CANVAS, 3))
    canvas[:] = mix(mist, cream, (ROWS / 300)[..., None])

    def shape(mask: np.ndarray, widths: Sequence[float], fills: Sequence[np.ndarray]) -> None:
        depth = ndimage.distance_transform_edt(mask)
        ends = np.cumsum(widths)
        inside = mask & (depth > 0)
        index = np.searchsorted(ends, depth).clip(0, len(fills) - 1)
        canvas[inside] = np.array(fills)[index][inside]
        line = np.abs(depth[..., None] - np.append(0, ends)).min(-1)
        canvas[inside & (line < 2.2)] = indigo

    def disc(row: float, column: float, radius: float, fill: np.ndarray) -> None:
        away = np.hypot(ROWS - row, COLUMNS - column)
        canvas[away < radius + 3] = indigo
        canvas[away < radius] = fill

    for row in range(16, 160, 34):  # Streaks of cloud.
        middle, long = rng.uniform(0, CANVAS), rng.uniform(180, 380)
        streak = np.abs((COLUMNS - middle) / long) ** 3 + ((ROWS - row) / 17) ** 2 < 1
        shape(streak, (99,), (rng.choice([mist, cream, pale]),))
    disc(130, 690, 110, red)
    # The outline of a breaking wave, as fractions of its size; it curls to the right.
    curl = np.array([
        (-1.3, 1.2), (-1.0, 0.62), (-0.72, 0.2), (-0.35, -0.14), (0.08, -0.28), (0.5, -0.2),
        (0.74, 0.06), (0.7, 0.32), (0.56, 0.16), (0.36, 0.06), (0.16, 0.16), (0.1, 0.42),
        (0.3, 0.66), (0.75, 0.8), (1.3, 0.9), (1.5, 1.3),
    ])  # fmt: skip
    steps = np.linspace(0, len(curl) - 1, 160)
    smooth = [ndimage.map_coordinates(curl[:, i], [steps], order=3, mode="nearest") for i in (0, 1)]
    for row in range(84, CANVAS + 150, 92):
        number = (row - 84) // 92
        if number % 2:  # A row of fans, each of concentric arcs.
            for column in range(-60 + 40 * (number % 4), CANVAS + 120, 150):
                mask = np.hypot(ROWS - row - 60, COLUMNS - column) < 96 + rng.uniform(-8, 8)
                core = red if rng.random() < 0.3 else blue
                fills = (cream, prussian, pale, blue, cream, prussian, core)
                shape(mask, (14, 9, 16, 9, 16, 12), fills)
            continue
        for column in range(rng.integers(-150, 0), CANVAS + 150, 250):
            size, side = rng.uniform(150, 250), rng.choice([-1, 1], p=[0.2, 0.8])
            across, down = column + side * size * smooth[0], row + size * smooth[1]
            sheet = Image.new("1", (CANVAS, CANVAS))
            ImageDraw.Draw(sheet).polygon(list(zip(across, down, strict=True)), fill=1)
            fills = (cream, prussian, pale, blue, cream, blue, prussian)
            shape(np.asarray(sheet), (11, 12, 9, 13, 9, 14), fills)
            for at in range(40, 84, 4):  # Foam along the crest and under the lip.
                spot = rng.normal((down[at], across[at]), 4)
                disc(spot[0], spot[1], rng.uniform(7, 14), cream)
            for _ in range(12):
                spot = rng.normal((down[72] + 10, across[72] + side * 36), (38, 26))
                disc(spot[0], spot[1], rng.uniform(2.5, 6), cream)
    grain = 5 * noise(rng, 2) + 7 * ndimage.zoom(rng.normal(size=(CANVAS, 32)), (1, 32), order=1)
    return canvas + grain[..., None] + 6 * noise(rng, 90)[..., None]


def colours(names: str) -> np.ndarray:
    """Reads hexadecimal colours apart by spaces: one row of red, green and blue each."""
    return np.array([list(bytes.fromhex(name)) for name in names.split()], np.float64)


def mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blends two colours; share, held within 0 and 1, is how much of the second shows."""
    share = np.clip(share, 0, 1)
    return first * (1 - share) + second * share


def noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Makes smooth random bumps about scale pixels apart, of mean 0 and deviation 1."""
    cells = int(CANVAS / scale) + 3
    grid = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    field = np.asarray(grid.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), np.float64)
    return (field - field.mean()) / field.std()


def flow(stream: np.ndarray) -> np.ndarray:
    """Finds the direction at each pixel along which a stream function stays level."""
    down, across = np.gradient(stream)
    return np.arctan2(-across, down)


def blank(name: str) -> np.ndarray:
    """Makes a canvas of one colour; its fourth channel is the thickness of the paint."""
    canvas = np.zeros((CANVAS, CANVAS, 4))
    canvas[..., :3] = colours(name)[0]
    return canvas


def dab(
    canvas: np.ndarray,
    rng: np.random.Generator,
    at: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    colour: np.ndarray,
    bend: float = 0.0,
) -> None:
    """Paints one stroke with the furrows of the bristles; bend is its sag over its length."""
    row, column = at
    reach = int(length / 2 + width)
    top, left = max(int(row) - reach, 0), max(int(column) - reach, 0)
    window = (slice(top, int(row) + reach + 1), slice(left, int(column) + reach + 1))
    down, across = ROWS[window] - row, COLUMNS[window] - column
    along = (across * np.cos(angle) + down * np.sin(angle)) * 2 / length
    over = down * np.cos(angle) - across * np.sin(angle) + bend * length * (along**2 - 0.3)
    edge = 1 - np.abs(along) ** 3 - (2 * over / width) ** 2
    furrow = np.sin(over * rng.uniform(1.4, 2.0) + along + rng.uniform(0, 6))
    cover = (edge * 4).clip(0, 1)[..., None]
    paint = np.empty((*edge.shape, 4))
    paint[..., :3] = colour * (1 + 0.06 * furrow[..., None])
    paint[..., 3] = np.sqrt(edge.clip(0)) * (1 + 0.2 * along) + 0.12 * furrow
    canvas[window] = mix(canvas[window], paint, cover)


def lit(canvas: np.ndarray, strength: float) -> np.ndarray:
    """Lights thick paint from the upper left: its edges cast shade and catch the light."""
    thick = ndimage.gaussian_filter(canvas[..., 3], 1.0)
    down, across = np.gradient(thick)
    shade = (strength * 1.3 * (down + across)).clip(-0.5, 0.5)[..., None]
    return canvas[..., :3] * (1 + shade) + 70 * (shade - 0.12).clip(0)


if __name__ == "__main__":
    main()
