"""What a route says about caching: how long, what counts as media, and whose credentials separate answers."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from proxy.semantics.fields import Fields, joined

DEFAULT_MEDIA_TYPES: Final = (
    "video/*",
    "audio/*",
    "image/*",
    "font/*",
    "application/epub+zip",
    "application/geopackage+sqlite3",
    "application/gzip",
    "application/java-archive",
    "application/mp4",
    "application/netcdf",
    "application/octet-stream",
    "application/ogg",
    "application/pdf",
    "application/vnd.android.package-archive",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.parquet",
    "application/vnd.debian.binary-package",
    "application/vnd.pmtiles",
    "application/vnd.rar",
    "application/vnd.sqlite3",
    "application/x-7z-compressed",
    "application/x-apple-diskimage",
    "application/x-bzip2",
    "application/x-gzip",
    "application/x-hdf5",
    "application/x-iso9660-image",
    "application/x-parquet",
    "application/x-rar-compressed",
    "application/x-tar",
    "application/x-xz",
    "application/x-zip-compressed",
    "application/zip",
    "application/zstd",
)
"""Types whose objects are big, change rarely and are read by ranges."""

MEDIA_SUFFIXES: Final = frozenset(
    {
        *("aac", "flac", "m4a", "mka", "mp3", "oga", "ogg", "opus", "wav", "weba"),
        *("avi", "flv", "m4s", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "ts", "webm"),
        *("avif", "geotiff", "gif", "heic", "jpeg", "jpg", "png", "tif", "tiff", "webp", "woff", "woff2"),
        *("7z", "bz2", "gz", "jar", "rar", "tar", "tbz2", "tgz", "txz", "xz", "zip", "zst"),
        *("apk", "bin", "deb", "dmg", "epub", "img", "iso", "pdf", "rpm"),
        *("arrow", "fgb", "gpkg", "h5", "nc", "parquet", "pmtiles", "sqlite"),
    }
)
"""Endings of paths that name such objects: a request for one asks the origin for bytes without a coding."""

DEFAULT_IGNORED_COOKIES: Final = (
    "_ga",
    "_ga_*",
    "_gid",
    "_gat*",
    "_gac_*",
    "_gcl_*",
    "__utm*",
    "_fbp",
    "_fbc",
    "_hj*",
    "_pk_*",
    "_clck",
    "_clsk",
    "_uet*",
    "ajs_*",
    "amp_*",
    "mp_*_mixpanel",
    "optimizely*",
)
"""Cookies of analytics and advertising, which say nothing about what their sender may see."""

# `audio/*` would cover them, and the playlist of a live stream changes every few seconds.
_PLAYLISTS: Final = frozenset({"audio/mpegurl", "audio/x-mpegurl"})

# Streams of events, and of a camera's pictures: they end when somebody leaves.
_ENDLESS: Final = frozenset({"multipart/x-mixed-replace", "text/event-stream"})


@dataclass(frozen=True, slots=True)
class Authorize:
    """The origin is asked of each request, by a GET or HEAD, and its yes remembered for `ttl` seconds."""

    method: Literal["GET", "HEAD"] = "GET"
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """The route's say.

    `ttl` is the lifetime, in seconds, of a media-like 200 whose origin says nothing about freshness; without
    `respect_origin` it wins over what the origin says (`no-store` and `private` are obeyed all the same).
    `media_types` and `ignore_cookies` are globs.  With `shared`, Cookie and Authorization separate nothing;
    with `authorize` neither, but the origin is asked of each request whether it may have what is stored.
    What has only a Last-Modified is fresh for the share `heuristic` of its age then, at most for `ttl`.
    `stale_while_revalidate` and `stale_if_error` are seconds after that, for origins that say nothing of them.
    `targets` are the fields, the first that is there, which win over Cache-Control (RFC 9213).  `tag_fields` name the
    tags that an answer can be purged by.  Without `query_in_key`, what the query says must not be what is stored.
    """

    ttl: int = 3600
    media_types: tuple[str, ...] = DEFAULT_MEDIA_TYPES
    shared: bool = False
    ignore_cookies: tuple[str, ...] = DEFAULT_IGNORED_COOKIES
    respect_origin: bool = True
    heuristic: float = 0.1
    stale_while_revalidate: int = 0
    stale_if_error: int = 86_400
    targets: tuple[str, ...] = ("CDN-Cache-Control",)
    tag_fields: tuple[str, ...] = ("Cache-Tag", "Surrogate-Key")
    authorize: Authorize | None = None
    query_in_key: bool = True

    @property
    def one_copy(self) -> bool:
        """Do Cookie and Authorization separate nothing?"""
        return self.shared or self.authorize is not None

    def is_media(self, fields: Fields) -> bool:
        """Whether a response is of a media-like type."""
        named = media_type(fields)
        if named in _PLAYLISTS:
            return named in self.media_types
        return any(fnmatchcase(named, glob) for glob in self.media_types)


def media_type(fields: Fields) -> str:
    """Content-Type in lower case, without parameters; application/octet-stream if absent (RFC 9110, 8.3)."""
    return (joined(fields, "Content-Type") or "application/octet-stream").partition(";")[0].strip().lower()


def is_endless(fields: Fields) -> bool:
    """Whether a response is of a type whose bodies go on for as long as somebody listens."""
    return media_type(fields) in _ENDLESS


def is_media_path(path: str) -> bool:
    """Whether the last segment of a raw path ends like the name of a media object."""
    _, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return bool(dot) and suffix.lower() in MEDIA_SUFFIXES
