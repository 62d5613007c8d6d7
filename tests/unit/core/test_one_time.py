"""One contract for values that are taken once, whichever store holds them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from core.errors import Unavailable
from core.one_time import NotThere, OneTimeStore, ProcessLocalStore, RedisStore
from tests.support import redis as redis_support
from tests.support.processes import free_port
from tests.unit.core.moving_clock import MovingClock
from tests.unit.core.together import together


@dataclass(frozen=True)
class Subject:
    """A store, and how its time is made to pass."""

    store: OneTimeStore
    pass_time: Callable[[int], None]


@pytest.fixture(params=["process_local", "redis"])
def subject(request: pytest.FixtureRequest, clock: MovingClock) -> Iterator[Subject]:
    if request.param == "process_local":
        yield Subject(ProcessLocalStore(clock), clock.advance)
        return
    url, prefix = request.getfixturevalue("redis_server").url, f"test-{secrets.token_hex(6)}"
    client: Any = redis.Redis.from_url(url)
    store = RedisStore(url, prefix=prefix)

    def pass_time(seconds: int) -> None:
        # Redis keeps its own clock: the ends of our names are moved towards it instead.
        for name in client.scan_iter(f"{prefix}:*"):
            client.pexpire(name, client.pttl(name) - seconds * 1000)

    yield Subject(store, pass_time)
    store.close()
    client.close()


@pytest.fixture
def store(subject: Subject) -> OneTimeStore:
    return subject.store


def test_a_value_is_taken_once(store: OneTimeStore) -> None:
    store.put("code", "k", {"who": "Болд", "deep": [1, {"a": None}]}, ttl=60)
    assert store.take("code", "k") == {"who": "Болд", "deep": [1, {"a": None}]}
    with pytest.raises(NotThere):
        store.take("code", "k")
    assert store.peek("code", "k") is None


def test_one_of_fifty_takers_gets_the_value(store: OneTimeStore) -> None:
    store.put("code", "k", {"n": 1}, ttl=60)

    def take(_number: int) -> bool:
        try:
            return store.take("code", "k") == {"n": 1}
        except NotThere:
            return False

    assert sum(together(50, take)) == 1


def test_one_of_fifty_claimants_is_first(store: OneTimeStore) -> None:
    assert sum(together(50, lambda _number: store.claim("jti", "k", ttl=60))) == 1


def test_fifty_counts_at_once_are_fifty_different_sums(store: OneTimeStore) -> None:
    assert sorted(together(50, lambda _number: store.count("attempts", "k", ttl=60))) == list(range(1, 51))


def test_a_peek_leaves_the_value_and_gives_a_copy(store: OneTimeStore) -> None:
    put: dict[str, Any] = {"list": [1]}
    store.put("page", "k", put, ttl=60)
    put["list"].append(2)
    peeked = store.peek("page", "k")
    assert peeked == {"list": [1]}
    peeked["list"].append(3)
    assert store.take("page", "k") == {"list": [1]}


def test_a_second_put_replaces_the_value_and_its_end(subject: Subject) -> None:
    subject.store.put("page", "k", {"n": 1}, ttl=10)
    subject.pass_time(9)
    subject.store.put("page", "k", {"n": 2}, ttl=10)
    subject.pass_time(9)
    assert subject.store.peek("page", "k") == {"n": 2}


def test_an_expired_value_is_not_there(subject: Subject) -> None:
    subject.store.put("code", "k", {"n": 1}, ttl=10)
    subject.pass_time(10)
    assert subject.store.peek("code", "k") is None
    with pytest.raises(NotThere):
        subject.store.take("code", "k")


def test_a_claim_ends_with_its_time(subject: Subject) -> None:
    assert subject.store.claim("jti", "k", ttl=10)
    subject.pass_time(9)
    assert not subject.store.claim("jti", "k", ttl=10)
    subject.pass_time(1)
    assert subject.store.claim("jti", "k", ttl=10)


def test_a_count_ends_after_its_first_addition_not_its_last(subject: Subject) -> None:
    assert subject.store.count("attempts", "k", ttl=10) == 1
    subject.pass_time(9)
    assert subject.store.count("attempts", "k", ttl=10) == 2
    subject.pass_time(1)
    assert subject.store.count("attempts", "k", ttl=10) == 1


def test_what_is_discarded_is_gone_and_discarding_nothing_is_fine(store: OneTimeStore) -> None:
    store.put("page", "k", {"n": 1}, ttl=60)
    store.discard("page", "k")
    store.discard("page", "k")
    assert store.peek("page", "k") is None


def test_a_claim_whose_time_is_already_over_still_holds_for_a_moment(store: OneTimeStore) -> None:
    assert store.claim("jti", "k", ttl=0)
    assert not store.claim("jti", "k", ttl=-5)


def test_kinds_and_keys_never_run_into_each_other(store: OneTimeStore) -> None:
    store.put("a", "b:c", {"n": 1}, ttl=60)
    store.put("a:b", "c", {"n": 2}, ttl=60)
    store.put("b", "b:c", {"n": 3}, ttl=60)
    assert store.take("a", "b:c") == {"n": 1}
    assert store.take("a:b", "c") == {"n": 2}
    assert store.take("b", "b:c") == {"n": 3}


def test_what_strangers_leave_behind_is_swept_out(clock: MovingClock) -> None:
    store = ProcessLocalStore(clock)
    for number in range(store.SWEEP_EVERY - 1):
        store.put("page", str(number), {}, ttl=10)
    clock.advance(10)
    store.put("page", "last", {}, ttl=10)
    assert len(store._entries) == 1


def test_an_absent_redis_is_said_to_be_unavailable() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0")
    operations: list[Callable[[], object]] = [
        lambda: store.put("a", "k", {}, ttl=1),
        lambda: store.peek("a", "k"),
        lambda: store.take("a", "k"),
        lambda: store.claim("a", "k", ttl=1),
        lambda: store.count("a", "k", ttl=1),
        lambda: store.discard("a", "k"),
    ]
    for operation in operations:
        with pytest.raises(Unavailable):
            operation()
    store.close()


def test_a_full_redis_is_said_to_be_unavailable_and_claims_nothing(tmp_path: Path) -> None:
    server = redis_support.start(tmp_path)
    client: Any = redis.Redis.from_url(server.url)
    store = RedisStore(server.url)
    try:
        client.config_set("maxmemory", "1")
        with pytest.raises(Unavailable):
            store.claim("jti", "k", ttl=60)
    finally:
        store.close()
        client.close()
        server.server.stop()


def test_a_connection_that_redis_closed_meanwhile_is_made_anew(redis_server: redis_support.Redis) -> None:
    store = RedisStore(redis_server.url, prefix=f"test-{secrets.token_hex(6)}")
    store.put("page", "k", {"n": 1}, ttl=60)
    client: Any = redis.Redis.from_url(redis_server.url)
    client.client_kill_filter(_type="normal", skipme=True)
    assert store.take("page", "k") == {"n": 1}
    store.close()
    client.close()


def test_nothing_is_shared_between_two_process_local_stores(clock: MovingClock) -> None:
    first, second = ProcessLocalStore(clock), ProcessLocalStore(clock)
    first.put("page", "k", {}, ttl=60)
    assert second.peek("page", "k") is None
