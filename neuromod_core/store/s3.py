"""A store in a bucket that speaks S3. A key is created with `If-None-Match: *`: of several writers one wins.

Address, region and keys are what botocore reads by itself: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, the files
in `~/.aws`, the role of the machine. Knows nothing of commits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock
from typing import Any, Literal, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, NoCredentialsError

from neuromod_core.kernel.errors import (
    ConfigError,
    IntegrityError,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from neuromod_core.store.protocol import Entry, check_key, check_prefix, is_key, missing

Style = Literal["auto", "path"]
T = TypeVar("T")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FULL = {"QuotaExceeded", "QuotaExceededException", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity"}
_PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_ABSENT = {"NoSuchKey", "404"}
_CONNECTIONS = 16
_opening = Lock()  # a session may not make two clients at once


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a store waits, in seconds: for a connection, for an answer, and between tries (one more than pauses)."""

    connect: float = 5.0
    read: float = 60.0
    pauses: tuple[float, ...] = (0.1, 0.4, 1.6, 6.4)


@dataclass(frozen=True)
class S3Store:
    """Keys are objects of `bucket` whose names begin with `prefix/`. One object is one connection pool.

    `style` "path" asks for `address/bucket/key`; "auto" leaves it to botocore, which does the same for any address of
    its own and `bucket.address/key` on AWS. What may pass (no answer, 5xx, slow down) is tried again as `patience`
    says; all else is refused at once. After a lost answer the second try can meet the key of the first: `put_new` is
    then False for its own bytes, so callers compare what is there, as they do with any winner.

    Source: Amazon S3 API reference, PutObject (If-None-Match), ListObjectsV2; strong consistency since 2020.
    """

    bucket: str
    prefix: str = ""
    style: Style = "auto"
    patience: Patience = Patience()

    @cached_property
    def _client(self) -> Any:
        return _connect(self.style, self.patience)

    def __str__(self) -> str:
        scheme = "s3" if self.style == "auto" else f"s3+{self.style}"
        return "/".join([f"{scheme}://{self.bucket}", *([self.prefix] if self.prefix else [])])

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; `IntegrityError` if there are none."""
        check_key(key, self)

        def read() -> bytes:
            with self._refusing("read", key):
                body = self._client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"]
                return bytes(body.read())

        return self._patiently(read)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` durably; False if the key exists."""
        check_key(key, self)
        body = bytes(data)

        def write() -> bool:
            with self._refusing("write", key):
                try:
                    self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=body, IfNoneMatch="*")
                except ClientError as cause:
                    if _status(cause) == 412:
                        return False
                    raise
                return True

        return self._patiently(write)

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with `prefix`, sorted."""
        return tuple(sorted(self.entries(prefix)))

    def holds(self, key: str) -> bool:
        """Return whether `key` was written."""
        check_key(key, self)

        def look() -> bool:
            with self._refusing("look up", key):
                self._client.head_object(Bucket=self.bucket, Key=self._name(key))
                return True

        try:
            return self._patiently(look)
        except IntegrityError:
            return False

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return the keys that begin with `prefix`, with the time and the size of each."""
        check_prefix(prefix, self)
        found: dict[str, Entry] = {}
        for page in self._pages(prefix):
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._name(""))
                if is_key(key):
                    found[key] = Entry(item["LastModified"].timestamp(), item["Size"])
        return found

    def remove(self, key: str) -> None:
        """Remove `key`; nothing happens if it is not there."""
        check_key(key, self)

        def remove() -> None:
            with self._refusing("remove", key):
                self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

        self._patiently(remove)

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, at most 1000 keys each."""
        more: dict[str, str] = {}

        def ask() -> dict[str, Any]:
            with self._refusing("list", prefix):
                answer = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._name(prefix), **more)
                return dict(answer)

        while True:
            page = self._patiently(ask)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Return the answer of the first try that gets one; only `StorageUnavailable` is tried again."""
        for pause in self.patience.pauses:
            try:
                return ask()
            except StorageUnavailable:
                time.sleep(pause)
        return ask()

    @contextmanager
    def _refusing(self, doing: str, key: str) -> Iterator[None]:
        """Turn what botocore raises into errors of a store; a key that is not there is an `IntegrityError`."""
        said = f"Cannot {doing} {key!r} in the store {self}"
        try:
            yield
        except ClientError as cause:
            if _code(cause) in _ABSENT:
                raise missing(key, self) from cause
            raise _refusal(cause, said) from cause
        except (HTTPClientError, IncompleteReadError) as cause:
            raise StorageUnavailable(f"{said}: {_line(cause)}. Trying again may help.") from cause
        except NoCredentialsError as cause:
            raise StorageError(f"{said}: no access keys. Set AWS_ACCESS_KEY_ID or AWS_PROFILE.") from cause
        except BotoCoreError as cause:
            raise _unclear(cause, said) from cause


def open_s3(rest: str, style: Style = "auto") -> S3Store:
    """Return the store of `s3:` + `rest`, where rest is `//bucket` or `//bucket/prefix`.

    Raises:
        ConfigError: another form, or a name that no bucket can have.
    """
    bucket, _, prefix = rest.removeprefix("//").rstrip("/").partition("/")
    if not rest.startswith("//") or not _BUCKET.fullmatch(bucket) or (prefix and not is_key(prefix)):
        scheme = "s3" if style == "auto" else f"s3+{style}"
        given, allowed = f"{scheme}:{rest}", f"{scheme}://bucket or {scheme}://bucket/prefix"
        raise ConfigError(f"Cannot open the store {given!r}; allowed: {allowed}.")
    return S3Store(bucket, prefix, style)


@cache
def _session() -> Any:
    return botocore.session.get_session()


def _connect(style: Style, patience: Patience) -> Any:
    """Return a client that tries once: what is tried again is decided here, with the reading of a body included."""
    chosen = Config(
        connect_timeout=patience.connect,
        read_timeout=patience.read,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation="when_required",  # not every server knows checksums in trailers
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if style == "path" else None,
    )
    with _opening:
        try:
            return _session().create_client("s3", config=chosen)
        except ValueError as cause:
            raise ConfigError(f"The AWS configuration names no usable address: {_line(cause)}.") from cause


def _status(cause: Any) -> int:
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(cause: Any) -> str:
    return str(cause.response.get("Error", {}).get("Code", ""))


def _refusal(cause: Any, said: str) -> StorageError:
    """Return the storage error that an answer of the server means; `said` is "Cannot ... in the store ..."."""
    status, code = _status(cause), _code(cause)
    told = f"{said}: {'refused' if code in {'', str(status)} else code} (status {status})"
    if code in _FULL or status == 507:
        return StorageFull(f"{told}. The bucket is full: free space or raise its quota; then run again.")
    if code in _PASSING or status in {409, 429} or status >= 500:
        return StorageUnavailable(f"{told}. Trying again may help.")
    if code == "NoSuchBucket":
        return StorageError(f"{told}. There is no such bucket at this address: create it, or correct the name.")
    if status in {401, 403}:
        return StorageReadOnly(f"{told}. The access keys must permit reading, writing and listing there.")
    return StorageError(f"{told}: {_line(cause.response.get('Error', {}).get('Message', ''))}.")


def _unclear(cause: Any, said: str) -> StorageError:
    """Return the error for what botocore raises before or instead of an answer: a lost connection may pass."""
    kind = type(cause).__name__
    if "Connection" in kind or "Timeout" in kind:
        return StorageUnavailable(f"{said}: {_line(cause)}. Trying again may help.")
    return StorageError(f"{said}: {_line(cause)}.")


def _line(cause: object) -> str:
    return " ".join(str(cause).split()).rstrip(".") or "no reason given"
