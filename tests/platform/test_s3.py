"""The laws of every store, of its commits and datasets, on a real S3 server; and what a bucket says when it refuses."""

from __future__ import annotations

import pytest

from neuromod_core.kernel.errors import (
    ConfigError,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from neuromod_core.store import s3
from neuromod_core.store.s3 import Patience, S3Store
from neuromod_core.store.selftest import selftest
from tests.platform.proxy import Fault, Proxy
from tests.platform.server import BUCKET, Server, client
from tests.unit import test_store as stores
from tests.unit import test_store_commits as shards

# the laws, as they are for folders and memory; here the fixture `store` is a bucket
test_what_is_put_is_got = stores.test_what_is_put_is_got
test_a_key_is_written_once = stores.test_a_key_is_written_once
test_keys_are_sorted = stores.test_keys_are_sorted_and_begin_with_the_prefix
test_a_key_cannot_leave_the_store = stores.test_a_key_cannot_leave_the_store_or_hide_in_it
test_a_missing_key_is_named_with_its_store = stores.test_a_missing_key_is_named_with_its_store
test_of_eight_racers_one_wins = stores.test_of_eight_racers_one_wins_and_its_bytes_are_kept
test_an_exception_inside_the_write_leaves_nothing = stores.test_an_exception_inside_the_write_leaves_nothing
test_committed_rows_are_read_back = shards.test_committed_rows_are_read_back_with_their_provenance
test_rows_do_not_depend_on_how_they_were_divided = shards.test_rows_do_not_depend_on_how_they_were_divided
test_a_second_commit_of_other_rows_is_an_alarm = shards.test_a_second_commit_of_other_rows_is_an_alarm
test_of_eight_committers_one_is_believed_by_all = shards.test_of_eight_committers_one_is_believed_by_all
test_a_shard_counts_once_or_not_at_all = shards.test_whatever_fails_a_shard_counts_once_or_not_at_all
test_a_dataset_is_the_same_whatever_the_shards = shards.test_a_dataset_is_the_same_whatever_the_shards
test_compacting_again_changes_nothing = shards.test_compacting_again_changes_nothing
test_an_interrupted_compaction_is_finished = shards.test_an_interrupted_compaction_is_finished_by_the_next

IMPATIENT = Patience(connect=1.0, read=0.3, pauses=())


def test_a_listing_goes_over_many_pages(store: S3Store, server: Server) -> None:
    plain = client(server.address)
    for number in range(1100):
        plain.put_object(Bucket=BUCKET, Key=f"{store.prefix}/many/{number:04d}", Body=b"")
    assert len(store.keys("many/")) == 1100
    assert store.keys("many/10")[-1] == "many/1099"


def test_two_prefixes_are_two_stores(store: S3Store) -> None:
    inner = S3Store(store.bucket, f"{store.prefix}/deeper")
    inner.put_new("a", b"1")
    assert store.keys("") == ("deeper/a",)
    assert not S3Store(store.bucket, f"{store.prefix}/deep").holds("a")
    assert S3Store(store.bucket, f"{store.prefix}/deep").keys("") == ()


def test_path_style_is_the_same_store(store: S3Store) -> None:
    store.put_new("a", b"1")
    by_path = s3.open_s3(f"//{store.bucket}/{store.prefix}", "path")
    assert by_path.get("a") == b"1"
    assert str(by_path) == f"s3+path://{store.bucket}/{store.prefix}"


def test_what_is_removed_is_gone_and_may_come_again(store: S3Store) -> None:
    store.put_new("a", b"12")
    assert store.entries("")["a"].size == 2
    store.remove("a")
    store.remove("a")
    assert (store.holds("a"), store.keys("")) == (False, ())
    assert store.put_new("a", b"3")


def refused(store: S3Store, kind: type[Exception], says: str) -> None:
    """Check that every method of `store` gives this error, in one line that names the store."""
    uses = (lambda: store.get("a"), lambda: store.put_new("a", b""), lambda: store.keys(""), lambda: store.remove("a"))
    for use in uses:
        with pytest.raises(StorageError, match=says) as caught:
            use()
        assert type(caught.value) is kind
        assert str(store) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there(aws: pytest.MonkeyPatch) -> None:
    refused(S3Store("nobody-made-this"), StorageError, r"NoSuchBucket \(status 404\)\. There is no such bucket")


def test_wrong_keys_are_refused_in_one_line_and_asked_once(proxy: Proxy, uri: str, aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused(S3Store(BUCKET, "x"), StorageReadOnly, r"\(status 403\)\. The access keys must permit")
    assert len(proxy.seen) == 4


def test_without_keys_the_line_says_what_to_set(uri: str, aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    refused(S3Store(BUCKET, "x"), StorageError, r"no access keys\. Set AWS_ACCESS_KEY_ID or AWS_PROFILE\.")


def test_a_server_that_is_not_there_is_unavailable(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused(S3Store(BUCKET, patience=IMPATIENT), StorageUnavailable, "Could not connect to the endpoint URL")


def test_an_address_that_is_none(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(ConfigError, match=r"names no usable address: Invalid endpoint: nonsense\."):
        S3Store(BUCKET).get("a")


@pytest.mark.parametrize(
    ("fault", "kind", "asked"),
    [
        (Fault(500, "InternalError"), StorageUnavailable, 3),
        (Fault(503, "SlowDown"), StorageUnavailable, 3),
        (Fault(409, "ConditionalRequestConflict"), StorageUnavailable, 3),
        (Fault(slow=0.6), StorageUnavailable, 3),
        (Fault(lost=True), StorageUnavailable, 3),
        (Fault(507, "XMinioStorageFull"), StorageFull, 1),
        (Fault(403, "QuotaExceeded"), StorageFull, 1),
        (Fault(403, "AccessDenied"), StorageReadOnly, 1),
        (Fault(400, "InvalidRequest"), StorageError, 1),
    ],
    ids=str,
)
def test_only_what_may_pass_is_tried_again(
    proxy: Proxy, uri: str, fault: Fault, kind: type[Exception], asked: int
) -> None:
    store = S3Store(BUCKET, "x", patience=Patience(read=0.3, pauses=(0.01, 0.01)))
    proxy.faults = lambda *_: fault
    with pytest.raises(StorageError, match=f"in the store {store}") as caught:
        store.keys("")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert len(proxy.seen) == asked


def test_a_try_that_gets_through_is_enough(proxy: Proxy, store: S3Store) -> None:
    proxy.faults = lambda method, path, number: Fault(503, "SlowDown") if number % 3 else None
    assert store.put_new("a", b"1")
    assert store.get("a") == b"1"
    assert store.keys("") == ("a",)


def test_a_body_that_breaks_off_is_read_again(proxy: Proxy, store: S3Store) -> None:
    store.put_new("a", bytes(100_000))
    cut = len(proxy.seen) + 1
    proxy.faults = lambda method, path, number: Fault(short=1000) if number == cut else None
    assert store.get("a") == bytes(100_000)
    assert len(proxy.seen) == cut + 1


def test_after_a_lost_answer_the_own_bytes_are_there_and_nobody_else_wins(proxy: Proxy, store: S3Store) -> None:
    proxy.faults = lambda method, path, number: Fault(lost=True) if number == 1 else None
    assert store.put_new("a", b"mine") is False, "the second try meets the first"
    assert store.put_new("a", b"other") is False
    assert store.get("a") == b"mine"


# -------------------------------------------------------------------------------------------------------- the self-test


def test_a_good_bucket_passes_the_self_test_and_is_left_as_it_was(store: S3Store) -> None:
    kept = {one.promise: one.evidence for one in selftest(str(store), "t")}
    assert kept["of 8 threads one creates a key"] == kept["of 8 processes one creates a key"] == "5 races, 5 winners"
    assert kept["what is written is read and listed at once"].startswith("20 of 20")
    assert store.keys("") == ()


def test_a_server_that_ignores_the_condition_is_refused(proxy: Proxy, store: S3Store) -> None:
    proxy.faults = lambda *_: Fault(says={412: 200})
    with pytest.raises(ConfigError) as caught:
        selftest(str(store), "t")
    assert str(caught.value) == (
        f"The store {store} cannot keep a study: it ignores the condition that a key must be new, "
        "and the second of two writers is told that it created the key."
    )


def test_a_server_that_overwrites_is_refused(proxy: Proxy, store: S3Store, server: Server) -> None:
    plain = client(server.address)

    def overwriting(method: str, path: str, number: int) -> Fault | None:
        if method == "PUT":
            plain.delete_object(Bucket=BUCKET, Key=path.removeprefix(f"/{BUCKET}/"))
        return None

    proxy.faults = overwriting
    with pytest.raises(ConfigError, match="it ignores the condition that a key must be new"):
        selftest(str(store), "t")


def test_a_server_whose_listing_lags_is_refused(proxy: Proxy, store: S3Store) -> None:
    store.put_new("first", b"")
    empty = Fault(200, body="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    proxy.faults = lambda method, path, number: empty if method == "GET" and "list-type" in path else None
    with pytest.raises(ConfigError, match="but is not listed"):
        selftest(str(store), "t")
