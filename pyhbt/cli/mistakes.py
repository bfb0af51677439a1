"""Which errors are a mistake of the caller's, or a trouble of the machine's, told in one line; the others are bugs."""

from __future__ import annotations

from pyhbt.visible import visible

_OURS = (ValueError, TypeError, OSError, ImportError, MemoryError)
_LIBRARIES = {  # whose own errors tell of files, networks and memory
    *("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp", "fsspec", "huggingface_hub"),
    *("safetensors", "safetensors_rust", "pyarrow", "zipfile", "zlib", "lzma", "datasets", "yaml"),
}
_NAMES = {"OutOfMemoryError"}  # torch's, of a GPU


def is_mistake(error: BaseException) -> bool:
    """Whether one line tells all that the user needs."""
    return isinstance(error, _OURS) or any(
        cls.__module__.split(".")[0] in _LIBRARIES or cls.__name__ in _NAMES for cls in type(error).__mro__
    )


def in_one_line(error: BaseException | str) -> str:
    """What an error says, on one line, harmless to look at; its kind where it says nothing."""
    said = " ".join(str(error).split())
    if not said or isinstance(error, MemoryError):
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    return visible(said)
