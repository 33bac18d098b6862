"""A store in a bucket, as far as it needs no server: its address, and what each refusal is called."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)

from neuromod_core.kernel.errors import (
    ConfigError,
    IntegrityError,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from neuromod_core.store import open_store
from neuromod_core.store.s3 import S3Store


def test_an_address_is_bucket_and_prefix_and_opening_it_asks_nobody() -> None:
    assert open_store("s3://lab") == S3Store("lab")
    assert open_store("s3://lab/a/b") == open_store("s3://lab/a/b/") == S3Store("lab", "a/b")
    assert open_store("s3+path://lab/a") == S3Store("lab", "a", "path") != S3Store("lab", "a")


@pytest.mark.parametrize("uri", ["s3://lab", "s3://lab/a/b", "s3+path://lab/a"])
def test_a_store_is_called_by_its_address(uri: str) -> None:
    assert str(open_store(uri)) == uri


@pytest.mark.parametrize(
    "uri", ["s3:lab", "s3://", "s3:///a", "s3://L", "s3://lab/a//b", "s3://lab/../b", "s3://lab/.a"]
)
def test_another_address_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(uri)
    assert str(caught.value) == f"Cannot open the store {uri!r}; allowed: s3://bucket or s3://bucket/prefix."


def answer(status: int, code: str, message: str = "why") -> ClientError:
    body = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(body, "PutObject")


@pytest.mark.parametrize(
    ("cause", "kind", "says"),
    [
        (answer(403, "AccessDenied"), StorageReadOnly, "AccessDenied (status 403). The access keys must permit"),
        (answer(403, "403"), StorageReadOnly, "refused (status 403). The access keys must permit"),
        (answer(404, "NoSuchBucket"), StorageError, "NoSuchBucket (status 404). There is no such bucket"),
        (answer(404, "NoSuchKey"), IntegrityError, "Nothing is kept under 'a'"),
        (answer(404, "404"), IntegrityError, "Nothing is kept under 'a'"),
        (answer(403, "QuotaExceeded"), StorageFull, "QuotaExceeded (status 403). The bucket is full"),
        (answer(507, "Other"), StorageFull, "Other (status 507). The bucket is full"),
        (answer(500, "InternalError"), StorageUnavailable, "InternalError (status 500). Trying again may help."),
        (answer(503, "SlowDown"), StorageUnavailable, "SlowDown (status 503)"),
        (answer(400, "RequestTimeout"), StorageUnavailable, "RequestTimeout (status 400)"),
        (answer(409, "ConditionalRequestConflict"), StorageUnavailable, "ConditionalRequestConflict (status 409)"),
        (answer(400, "InvalidRequest", "two\nlines."), StorageError, "InvalidRequest (status 400): two lines."),
        (EndpointConnectionError(endpoint_url="http://h"), StorageUnavailable, 'endpoint URL: "http://h"'),
        (ConnectTimeoutError(endpoint_url="http://h"), StorageUnavailable, "Connect timeout"),
        (ReadTimeoutError(endpoint_url="http://h"), StorageUnavailable, "Read timeout"),
        (ConnectionClosedError(endpoint_url="http://h"), StorageUnavailable, "Connection was closed"),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), StorageUnavailable, "1 read, but total bytes"),
        (NoCredentialsError(), StorageError, "no access keys. Set AWS_ACCESS_KEY_ID or AWS_PROFILE."),
        (PartialCredentialsError(provider="env", cred_var="x"), StorageError, "Partial credentials"),
        (ProfileNotFound(profile="p"), StorageError, "The config profile (p) could not be found."),
    ],
    ids=str,
)
def test_every_refusal_has_its_name_and_is_one_line(cause: Exception, kind: type[Exception], says: str) -> None:
    store = S3Store("lab", "p")
    with pytest.raises((StorageError, IntegrityError)) as caught, store._refusing("write", "a"):
        raise cause
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert "s3://lab/p" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is cause
