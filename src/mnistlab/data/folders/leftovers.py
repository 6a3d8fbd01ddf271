"""What archives, systems and programs leave in folders of images, and which files without an image's ending are images.

`listing` asks both while it lists a folder.
"""

import re
from pathlib import Path

# As in ImageDataGenerator, and the endings of the other formats that `decoding` reads.
ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff"),
    *(".gif", ".webp", ".avif", ".jfif", ".jpe", ".apng", ".dib", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
)
# Files with these endings are not opened. Any other file is an image if its first bytes are those of an image.
OTHER_ENDINGS = (
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".py", ".ipynb", ".pdf"),
    *(".zip", ".gz", ".tar", ".npy", ".npz", ".mat", ".h5", ".db", ".ini", ".mp4", ".avi", ".mov"),
)
LEFTOVER = re.compile(
    r"__macosx|\._.*|\.ds_store|\.apdisk|\.appledouble|\.localized|\.fseventsd|\.spotlight-v100|\.trash.*|"
    r"\.temporaryitems|\.documentrevisions-v100|thumbs\.db.*|ehthumbs.*\.db|desktop\.ini|\$recycle\.bin|"
    r"system volume information|@eadir|@recycle|@recently-snapshot|@sharebin|#recycle|#snapshot|\.@__thumb|"
    r"synofile_thumb.*|lost\+found|\.thumbnails|\.directory|\.nfs.*|\.?picasa\.ini|\.ipynb_checkpoints|__pycache__|"
    r"\.git|\.gitignore|\.gitkeep|\.gitattributes|\.svn|\.cache",
    re.IGNORECASE,
)
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n\x87\n")
START_BYTES = 16


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name was left by an archive, a system or a program and is nobody's data."""
    return LEFTOVER.fullmatch(name) is not None


def has_image_ending(name: str) -> bool:
    """Whether the file's name ends like that of an image."""
    return name.casefold().endswith(ENDINGS)


def starts_like_an_image(path: str) -> bool:
    """Whether the first bytes of a file without an image's ending are those of an image; false if it cannot be read."""
    if path.casefold().endswith(OTHER_ENDINGS):
        return False
    try:
        with Path(path).open("rb", buffering=0) as stream:
            start = stream.read(START_BYTES)
    except OSError:
        return False
    bitmap = start[:2] == b"BM" and start[6:10] == bytes(4)
    netpbm = re.match(rb"P[1-6][\s#]", start) is not None
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    avif = start[4:12] in (b"ftypavif", b"ftypavis")
    return start.startswith(STARTS) or bitmap or netpbm or webp or avif
