# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flame graphs (Gregg, CACM 2016) of sampled stacks, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from recon3r_ros.bench.sampler import COMPILED, NUMPY, OPENCV, PYTHON

Stacks = Mapping[tuple[str, ...], float]

#: Pixels
WIDTH, ROW, FONT, LETTER = 1200, 17, 11, 6.3
#: Rectangles narrower than this are left out, pixels
LEAST = 1.0
_FUNCTION = '#e0e0e0'
_COLOURS = {OPENCV: '#f2b880', NUMPY: '#9fc5e8', COMPILED: '#b6d7a8', PYTHON: '#f4cccc'}
_OTHER = '#d9d2e9'


@dataclass
class _Node:
    """A function in the place where it is called, with what it calls; seconds."""

    name: str
    seconds: float = 0.0
    children: dict[str, _Node] = field(default_factory=dict)

    def add(self, stack: tuple[str, ...], seconds: float) -> None:
        """Add a stack below this function."""
        node = self
        node.seconds += seconds
        for name in stack:
            node = node.children.setdefault(name, _Node(name))
            node.seconds += seconds

    def depth(self, least: float) -> int:
        """Rows of this function and those below it that take `least` seconds."""
        return 1 + max((child.depth(least) for child in self.children.values()
                        if child.seconds >= least), default=0)


def read_stacks(text: str) -> dict[tuple[str, ...], float]:
    """
    Read what `sampler` writes.

    :return: seconds of each stack
    """
    stacks = {}
    for line in text.splitlines():
        names, _, microseconds = line.rpartition(' ')
        stacks[tuple(names.split(';'))] = 1e-6 * float(microseconds)
    return stacks


def flame_graph(stacks: Stacks, title: str) -> str:
    """
    Draw a flame graph: functions below those that they call, as wide as their CPU time.

    :param stacks: seconds of each stack; its last name ends with a kind in brackets
    :param title: of the whole
    :return: SVG
    """
    root = _Node(title)
    for stack, seconds in stacks.items():
        root.add(stack, seconds)
    scale = WIDTH / max(root.seconds, 1e-9)
    height = (root.depth(LEAST / scale) + 1) * ROW
    legend = [f'<text x="{300 + 150 * n}" y="{ROW - 5}"><tspan fill="{colour}">&#9632;</tspan> '
              f'{kind}</text>' for n, (kind, colour) in enumerate(_COLOURS.items())]
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="{FONT}">',
        '<rect width="100%" height="100%" fill="white"/>',
        *legend, *_drawn(root, 0.0, height - ROW, scale), '</svg>', ''])


def _drawn(node: _Node, x: float, y: int, scale: float) -> Iterator[str]:
    """Draw a function, and above it those that it calls, the costliest first."""
    width = node.seconds * scale
    if width < LEAST:
        return
    kind = node.name.rpartition('[')[2].removesuffix(']') if node.name.endswith(']') else ''
    colour = _COLOURS.get(kind, _OTHER) if kind else _FUNCTION
    room = int((width - 4) / LETTER)
    name = node.name.partition('.py ')[2] or node.name  # the module is in the title
    text = name if len(name) <= room else name[:room - 1] + '…'
    yield (f'<g><title>{escape(node.name)}: {node.seconds:.2f} s</title>'
           f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{colour}" '
           'stroke="white" stroke-width="0.5"/>'
           + (f'<text x="{x + 2:.1f}" y="{y + ROW - 5}">{escape(text)}</text>' if room > 3 else '')
           + '</g>')
    for child in sorted(node.children.values(), key=lambda c: -c.seconds):
        yield from _drawn(child, x, y - ROW, scale)
        x += child.seconds * scale
