"""The figures of a run or a sweep, as a notebook shows them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mnistlab.notebook import html


@dataclass(frozen=True)
class Figure:
    """A drawn figure: `path` is its PNG file. A notebook shows it."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


class Figures(Mapping[str, Figure]):
    """The figures in a folder by their names: `run.figures["learning_curves"]`. A notebook shows all of them.

    Args:
        folder: of PNG files; none of them if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem: file for file in sorted(folder.glob("*.png"))}

    def __getitem__(self, name: str) -> Figure:
        if name not in self._files:
            raise KeyError(f"there is no figure {name!r}. Choices: {', '.join(self._files) or 'none was drawn'}")
        return Figure(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"Figures({', '.join(self._files)})"

    def _repr_html_(self) -> str:
        return "".join(html.image(file) for file in self._files.values())
