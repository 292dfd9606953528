"""What dies, hangs, forgets, fills up and lies is Redis, or the way to it."""

import itertools
import random
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from redis import Redis as Client
from redis import ResponseError

from tests.faults.conftest import NewWorld
from tests.faults.proxy import Fate, Judge, Proxy, is_apply, passes
from tests.faults.servers import Broker, Redis
from tests.faults.truth import ends_of, read_back
from tests.faults.world import Process, World
from tests.servers import wait_until

SHORT = "?socket_timeout=1"
ASSIGNED, TAKEN_AWAY = " is assigned", " is taken away"
UNAVAILABLE = "Redis cannot serve now: "
WENT_BACK = "Redis went back from offset"
PASSING = [
    b"-LOADING Valkey is loading the dataset in memory\r\n",
    b"-BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-MISCONF Valkey is configured to save RDB snapshots, but it is currently unable to persist to disk.\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-ERR max number of clients reached\r\n",
]


@pytest.fixture
def proxy(redis: Redis) -> Iterator[Proxy]:
    """The consumers' way to Redis; the scenario itself goes straight."""
    with Proxy(redis.port) as proxy:
        yield proxy


@pytest.fixture
def far_world(new_world: NewWorld, broker: Broker, redis: Redis, proxy: Proxy) -> World:
    """The usual world, whose consumers reach Redis through the proxy, and wait a second for its answers."""
    return new_world(broker.address, redis, settings_={"REDIS_URL": proxy.url + SHORT})


def n_held(consumer: Process) -> int:
    """How many partitions a consumer that tells everything has."""
    return n_said(consumer, ASSIGNED) - n_said(consumer, TAKEN_AWAY)


def n_said(process: Process, text: str) -> int:
    return process.log.read_text().count(text)


def await_said(process: Process, text: str, times: int = 1) -> None:
    wait_until(lambda: n_said(process, text) >= times, f"{text!r} in {process.log}")


def n_refused(client: Client, code: str) -> int:
    """How many commands Redis has answered with an error of this kind since it was started."""
    errors = client.info("errorstats")
    return int(errors.get(f"errorstat_{code}", {"count": 0})["count"])


def await_refused(client: Client, code: str, times: int = 2) -> None:
    before = n_refused(client, code)
    wait_until(lambda: n_refused(client, code) >= before + times, f"Redis to answer {code} {times} times")


def await_committed(world: World) -> None:
    """Wait until Kafka knows an offset of every partition."""
    partitions = [TopicPartition(world.topic, partition) for partition in range(world.n_partitions)]
    group = world.settings.topics.group("sessions")
    with closing(KafkaConsumer(bootstrap_servers=world.kafka, group_id=group)) as reader:
        wait_until(lambda: all(reader.committed(partition) for partition in partitions), "a commit of each")


def delete_before(world: World, partition: int, offset: int) -> None:
    """The log loses what lies before an offset, as retention would have it."""
    with closing(KafkaAdminClient(bootstrap_servers=world.kafka)) as admin:
        admin.delete_records({TopicPartition(world.topic, partition): offset})


def await_drained_but(world: World, partition: int) -> None:
    ends = ends_of(world.kafka, world.topic)
    others = [p for p in ends if p != partition]
    wait_until(lambda: all(fence_of(world, p) == ends[p] for p in others), "the other partitions to be drained")


def fence_of(world: World, partition: int) -> int:
    return int(world.client.hget(f"{{hp:{world.topic}:{partition}}}:fence", "next_offset") or 0)


def n_letters(world: World) -> int:
    names = (world.settings.topics.late, world.settings.topics.dead_sessions)
    return sum(len(records) for name in names for records in read_back(world.kafka, name).values())


def every(nth: int, *fates: Fate, most: int = 1000) -> Judge:
    """Every nth apply has the next of these fates, so many times at most."""
    numbers, in_turn = itertools.count(1), itertools.cycle(fates)

    def judge(request: bytes) -> Fate:
        if not is_apply(request):
            return Fate.PASS
        number = next(numbers)
        return next(in_turn) if number % nth == 0 and number <= nth * most else Fate.PASS

    return judge


def answering(answer: bytes) -> Judge:
    return lambda request: answer if b"EVALSHA" in request[:40] else Fate.PASS


@contextmanager
def frozen(redis: Redis) -> Iterator[None]:
    redis.freeze()
    try:
        yield
    finally:
        redis.thaw()


def copy_of(redis: Redis, to: Path) -> Path:
    """Its append-only file as it is at this moment."""
    with frozen(redis):
        shutil.copytree(redis.folder / "appendonlydir", to)
    return to


def put_back(redis: Redis, copy: Path) -> None:
    """Redis ends, and starts with an older copy of its file."""
    redis.stop()
    shutil.rmtree(redis.folder / "appendonlydir")
    shutil.copytree(copy, redis.folder / "appendonlydir")
    redis.start()


# It dies, hangs, and forgets


def test_redis_is_killed_under_load_and_has_lost_its_last_writes(world: World, redis: Redis) -> None:
    """A tenth of its file did not reach the disk, and it says LOADING for a while; what it forgot is counted again."""
    consumer = world.consumer()
    redis.options += ["--key-load-delay", "1500"]
    with world.filling(over_s=20):
        world.await_decided(3000)
        redis.kill()
        (file,) = (redis.folder / "appendonlydir").glob("*.incr.aof")
        with file.open("r+b") as written:
            written.truncate(file.stat().st_size * 9 // 10)
        await_said(consumer, UNAVAILABLE)
        redis.start()
        assert n_refused(world.client, "LOADING")
        await_said(consumer, WENT_BACK)
    world.await_drained()
    assert consumer.is_alive()
    world.check()


@pytest.mark.full
def test_redis_is_killed_again_and_again(world: World, redis: Redis, seed: int) -> None:
    draw, pause = random.Random(seed), threading.Event()
    consumers = [world.consumer() for _ in range(2)]
    decided = [0]
    with world.filling(over_s=40):
        for _ in range(8):
            world.await_decided(decided[-1] + 300)
            pause.wait(draw.uniform(0, 0.5))
            redis.kill()
            redis.start()
            decided.append(world.n_decided())
    world.await_drained()
    assert all(consumer.is_alive() for consumer in consumers)
    assert decided[-1] < world.check().events, "the last kill came too late"


@pytest.mark.full
def test_redis_hangs_for_longer_than_its_clients_wait(far_world: World, redis: Redis) -> None:
    """Whether a command that timed out has run is found out from the fence."""
    world = far_world
    consumer = world.consumer()
    with world.filling(over_s=20):
        for nth in range(1, 4):
            world.await_decided(nth * 500)
            with frozen(redis):
                await_said(consumer, "Timeout reading", times=nth)
            await_said(consumer, "ready after", times=1 + nth)
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "it hung too late"
    assert consumer.is_alive()


@pytest.mark.full
def test_redis_is_restored_from_an_older_copy_of_its_file(world: World, redis: Redis, tmp_path: Path) -> None:
    consumer = world.consumer()
    with world.filling(over_s=20):
        world.await_decided(1000)
        copy = copy_of(redis, tmp_path / "copy")
        before = world.n_decided()
        world.await_decided(before + 2000)
        put_back(redis, copy)
        await_said(consumer, WENT_BACK)
    world.await_drained()
    world.check()
    assert consumer.is_alive()


def test_redis_is_restored_from_a_copy_older_than_what_the_log_still_holds(
    world: World, redis: Redis, tmp_path: Path
) -> None:
    """The partition stops and says what is gone; the others go on, and so does it once the loss is accepted."""
    consumer = world.consumer()
    with world.filling(6000, over_s=10):
        wait_until(lambda: fence_of(world, 0) > 20, "a part of partition 0 to be counted")
        copy = copy_of(redis, tmp_path / "copy")
    world.await_drained()
    log = world.read_back()
    gone_before = log[0][-1].offset + 1
    delete_before(world, 0, gone_before)
    put_back(redis, copy)
    fence = fence_of(world, 0)
    assert 0 < fence < gone_before, "the copy is too young"
    await_said(consumer, f"the fence is at offset {fence}, but the log begins at {gone_before}")
    await_said(consumer, f"{gone_before - fence} offsets were deleted before they were counted")
    world.fill(6000)
    await_drained_but(world, 0)
    assert fence_of(world, 0) == fence
    assert consumer.terminate() == 1
    assert world.consumer("--until-idle", "--accept-loss").wait() == 0
    assert world.standings()[0].tally("lost") == gone_before - fence
    counted = {**world.read_back(), 0: [r for r in log[0] if r.offset < fence] + world.read_back()[0]}
    world.check(counted, lists=False, before=log)


@pytest.mark.full
def test_redis_is_emptied_while_it_is_counted_into(world: World) -> None:
    """The log begins at its start, so everything is counted again from there."""
    consumer = world.consumer()
    with world.filling(over_s=20):
        world.await_decided(3000)
        await_committed(world)
        world.client.flushall()
        assert world.n_decided() < 3000
        await_said(consumer, "NOFENCE")
    world.await_drained()
    world.check()
    assert consumer.is_alive()


def test_redis_is_emptied_when_one_partition_has_lost_the_beginning_of_its_log(world: World) -> None:
    """That one stops, until what is left of it may be counted; the others are counted again from their beginning."""
    world.fill(6000)
    consumer = world.consumer()
    world.await_drained()
    await_committed(world)
    log, cut = world.read_back(), fence_of(world, 0) // 2
    delete_before(world, 0, cut)
    world.client.flushall()
    world.fill(6000)
    await_said(consumer, f"and its log begins at {cut}: Redis was emptied")
    await_drained_but(world, 0)
    assert fence_of(world, 0) == 0
    assert consumer.terminate() == 1
    assert world.consumer("--until-idle").wait() == 1, "it is refused for ever"
    assert world.consumer("--until-idle", "--accept-loss").wait() == 0
    assert world.standings()[0].tally("lost") == cut
    world.check(lists=False, before=log)


@pytest.mark.full
def test_a_replica_that_lacks_the_last_writes_is_promoted(
    far_world: World, proxy: Proxy, redis: Redis, tmp_path: Path, group: int
) -> None:
    """Replication is asynchronous: counters and fence went back together, and the rest is counted again."""
    world = far_world
    with ExitStack() as stack:
        replica = Redis(tmp_path / "replica", group)
        stack.callback(replica.close)
        replica.start()
        link = stack.enter_context(Proxy(redis.port))
        client = stack.enter_context(replica.client())
        client.replicaof("127.0.0.1", link.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to be in step")
        consumer = world.consumer()
        with world.filling(over_s=20):
            world.await_decided(1000)
            link.is_deaf = True
            world.await_decided(world.n_decided() + 1500)
            redis.kill()
            client.replicaof("NO", "ONE")
            world.client = client
            proxy.turn_to(replica.port)
            await_said(consumer, WENT_BACK)
        world.await_drained()
        world.check()
        assert consumer.is_alive()


# It is full


def test_redis_is_full_for_a_while(world: World) -> None:
    """Nothing is evicted, nothing is lost, and letters do not pile up: whoever must wait waits longer and longer."""
    consumer = world.consumer()
    with world.filling(over_s=15):
        world.await_decided(2000)
        world.client.config_set("maxmemory", 1)
        await_refused(world.client, "OOM", 2 * world.n_partitions)
        n_decided, n_before, began = world.n_decided(), n_letters(world), time.monotonic()
        await_refused(world.client, "OOM", 3 * world.n_partitions)
        assert time.monotonic() - began > 2, "it does not wait"
        assert n_letters(world) - n_before < 100, "letters pile up"
        assert world.n_decided() == n_decided
        world.client.config_set("maxmemory", 0)
    world.await_drained()
    assert world.client.info("stats")["evicted_keys"] == 0
    verdict = world.check()
    assert n_decided < verdict.events, "it was full too late"
    assert consumer.is_alive()


# The way to it


def test_answers_are_lost_after_the_command_has_run(far_world: World, proxy: Proxy) -> None:
    """The connection breaks, or stays silent until the client gives up; what was applied is not applied again."""
    world = far_world
    proxy.judge = every(4, Fate.SWALLOW_AND_CUT, Fate.SWALLOW, most=6)
    consumer = world.consumer()
    with world.filling(over_s=20):
        wait_until(lambda: proxy.n.total() == 6, "6 answers to be swallowed")
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "they were swallowed too late"
    assert proxy.n == {Fate.SWALLOW: 3, Fate.SWALLOW_AND_CUT: 3}
    assert consumer.is_alive()


def test_connections_break_at_random_in_requests_and_answers(far_world: World, proxy: Proxy, seed: int) -> None:
    world = far_world
    draw = random.Random(seed)
    broken = [Fate.CUT_REQUEST, Fate.CUT_ANSWER]
    consumers = [world.consumer() for _ in range(2)]
    with world.filling(over_s=15):
        world.await_decided(1)
        proxy.judge = lambda request: draw.choice(broken) if draw.random() < 0.2 else Fate.PASS
        wait_until(lambda: min(proxy.n[fate] for fate in broken) >= 10, "10 cuts of each kind")
        proxy.judge = passes
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "it was cut too late"
    assert all(consumer.is_alive() for consumer in consumers)


@pytest.mark.full
def test_redis_is_half_a_second_away_in_each_direction(new_world: NewWorld, broker: Broker, redis: Redis) -> None:
    """Counting is slower, and nobody loses its partitions."""
    with Proxy(redis.port) as proxy:
        world = new_world(broker.address, redis, settings_={"REDIS_URL": proxy.url})
        consumers = [world.consumer(env={"LOG_LEVEL": "DEBUG"}) for _ in range(2)]
        with world.filling(over_s=10):
            world.await_decided(1)
            wait_until(lambda: sorted(map(n_held, consumers)) == [2, 2], "two partitions for each")
            n_assigned = [n_said(consumer, ASSIGNED) for consumer in consumers]
            proxy.delay_s = 0.5
            world.await_decided(world.n_decided() + 1000)
        world.await_drained(120)
        assert [n_said(consumer, ASSIGNED) for consumer in consumers] == n_assigned
        proxy.delay_s = 0
        world.check()
        assert all(consumer.is_alive() for consumer in consumers)


# It answers, but not with what was asked for


def test_redis_says_in_every_way_that_it_cannot_serve_now(far_world: World, proxy: Proxy) -> None:
    world = far_world
    consumer = world.consumer()
    with world.filling(over_s=90):
        await_said(consumer, "ready after")
        for number, answer in enumerate(PASSING, 2):
            proxy.judge = answering(answer)
            wait_until(partial(proxy.has_answered, answer, times=2), f"{answer!r} twice")
            proxy.judge = passes
            await_said(consumer, "ready after", times=number)
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "it said so too late"
    assert consumer.is_alive()


def test_redis_is_busy_with_the_script_of_somebody_else(world: World, redis: Redis) -> None:
    consumer = world.consumer()
    world.client.config_set("busy-reply-threshold", 100)
    with world.filling(over_s=15), ThreadPoolExecutor(1) as pool, redis.client() as somebody:
        world.await_decided(1000)
        endless = pool.submit(somebody.eval, "while true do end", 0)
        try:
            await_said(consumer, f"{UNAVAILABLE}BUSY")
        finally:
            world.client.script_kill()
        assert isinstance(endless.exception(), ResponseError)
        assert n_refused(world.client, "BUSY")
    world.await_drained()
    world.check()
    assert consumer.is_alive()


@pytest.mark.full
def test_redis_is_made_a_replica_and_a_master_again(world: World, redis: Redis, tmp_path: Path, group: int) -> None:
    consumer = world.consumer()
    with world.filling(over_s=15):
        world.await_decided(1000)
        world.client.replicaof("127.0.0.1", 1)
        try:
            await_refused(world.client, "READONLY")
        finally:
            world.client.replicaof("NO", "ONE")
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "it came too late"
    assert consumer.is_alive()


@pytest.mark.full
def test_redis_forgets_its_scripts_again_and_again(world: World) -> None:
    consumer = world.consumer()
    pause, n_flushes = threading.Event(), 0
    with world.filling(over_s=10):
        world.await_decided(1)
        while world.n_decided() < world.n_events // 2:
            world.client.script_flush()
            n_flushes += 1
            pause.wait(0.002)
    world.await_drained()
    assert n_flushes > 100
    world.check()
    assert consumer.is_alive()


@pytest.mark.full
def test_redis_wants_a_password_that_the_consumer_does_not_have(world: World, redis: Redis) -> None:
    """At its start that ends a consumer, with a sentence; one that counts waits until it may again."""
    consumer = world.consumer()
    with world.filling(over_s=15), Client(port=redis.port) as client:
        world.await_decided(1000)
        client.config_set("requirepass", "secret")
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            await_refused(client, "NOAUTH")
            newcomer = world.consumer()
            assert newcomer.wait() == 1
            assert newcomer.log.read_text().count("\n") == 1, newcomer.log.read_text()
            wrong = world.consumer(env={"REDIS_URL": redis.url.replace("://", "://:wrong@")})
            assert wrong.wait() == 1
            assert wrong.said("invalid username-password pair")
        finally:
            client.config_set("requirepass", "")
        n_decided = world.n_decided()
    world.await_drained()
    assert n_decided < world.check().events, "it came too late"
    assert consumer.is_alive()


# It is shared


@pytest.mark.full
def test_two_deployments_share_a_redis(new_world: NewWorld, broker: Broker, redis: Redis) -> None:
    """What one counts, drops and counts again is none of the other's."""
    ours, theirs = (new_world(broker.address, redis, n_events=3000) for _ in range(2))
    for world in (ours, theirs):
        world.fill()
    consumers = [world.consumer() for world in (ours, theirs)]
    for world in (ours, theirs):
        world.await_drained()
    before = theirs.standings()
    assert consumers[0].terminate() == 0
    assert ours.command("drop", ours.topic, "--yes").wait() == 0
    assert ours.standings() == {}
    assert theirs.standings() == before
    assert ours.consumer("--until-idle").wait() == 0
    assert theirs.standings() == before
    for world in (ours, theirs):
        world.check()
