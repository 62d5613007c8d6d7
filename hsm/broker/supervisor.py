"""The broker's supervisor: one thread between clients and workers that never enters the module itself.

    client ──request──▶ admission ──▶ queue ──▶ an idle worker ──reply──▶ client

A worker opens the token before it is given requests, and workers open it one after another, so a wrong PIN is tried
once. The same step probes a token that failed: while the breaker is open, requests are refused at once, and one worker
after a growing pause tries to open the token again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from core.errors import CodedError
from core.logs import get_logger
from hsm.broker import wire
from hsm.broker.admission import Admission, peer_user
from hsm.broker.counters import Counters
from hsm.broker.listening import listening_socket, only_broker
from hsm.broker.wire import HEADER, OPERATION_NAMES, RULES, Operation, Outcome, WireError
from hsm.broker.worker import be_worker
from hsm.errors import (
    BrokerMisconfigured,
    Condition,
    HsmBusy,
    HsmUnavailable,
    KeyDamaged,
    KeyExtractable,
    KeyNotAllowed,
    PinIncorrect,
    SignatureMismatch,
)
from hsm.settings import HsmSettings
from hsm.wrapping import wrapped_name

LONG_SECONDS = 110.0  # a client gives up after 120
OPEN_SECONDS = 4.0
CHECK_SECONDS = 110.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0  # signing is back within 5 s of the token's return
MAX_CONNECTIONS = 1024
MAX_CONNECTIONS_OF_A_USER = 512
MAX_CONNECTIONS_OF_A_STRANGER = 8
LEAST_SHARE = 0.5  # of the deadline
TICK_SECONDS = 0.05
DONE = "done"
STOP_SECONDS = 5.0

_STOPPING = HsmUnavailable("the broker is stopping", reason="stopping")

log = get_logger("hsm.broker")


class _State(Enum):
    CLOSED = "closed"  # the token is not open in this worker
    OPENING = "opening"
    IDLE = "idle"
    BUSY = "busy"


class _Peer:
    """A client's connection; it has one request under way at most."""

    def __init__(self, connection: socket.socket, user: int, room: str) -> None:
        self.connection = connection
        self.user = user
        self.room = room
        self.inbox = bytearray()
        self.outbox = b""
        self.job: _Job | None = None
        self.gone = False


class _Job:
    """A request on its way."""

    def __init__(
        self, peer: _Peer, operation: Operation, octets: bytes | bytearray, labels: tuple[str, ...], signing: str = ""
    ) -> None:
        self.peer = peer
        self.operation = operation
        self.octets = octets
        self.labels = labels
        self.signing = signing  # the key that would sign, as quarantine knows it
        self.arrived = 0.0
        self.started = 0.0
        self.deadline = 0.0

    @property
    def what(self) -> str:
        return OPERATION_NAMES[self.operation]


class _Worker:
    """A worker's process as the supervisor sees it."""

    def __init__(self, process: int, connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.state = _State.CLOSED
        self.inbox = bytearray()
        self.job: _Job | None = None
        self.deadline = 0.0
        self.stale = False  # opened before the breaker did

    @property
    def opened(self) -> bool:
        return self.state in (_State.IDLE, _State.BUSY) and not self.stale


class Supervisor:
    """Serves one token until SIGTERM or SIGINT.

    With ``strict`` a key that could leave the token stops the start (KeyExtractable, exit 3); without, it is logged.
    """

    def __init__(self, settings: HsmSettings, *, strict: bool, monotonic: Callable[[], float] = time.monotonic) -> None:
        if settings.broker is None:
            raise BrokerMisconfigured("hsm.broker names no socket")
        self._settings = settings
        self._path = settings.broker
        self._now = monotonic
        self._admission = Admission(settings.clients, own_user=os.geteuid())
        self._counters = Counters()
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], None]] = {}
        self._workers: list[_Worker] = []
        self._peers: dict[int, _Peer] = {}
        self._queue: deque[_Job] = deque()
        self._quarantine: set[str] = set()
        self._ending: list[int] = []
        self._outage: CodedError | None = HsmUnavailable("the broker is starting")
        self._latch: PinIncorrect | None = None
        self._open_at = self._next_look = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._lost_while_opening = 0
        self._starting = True
        self._unchecked = strict
        self._typical_seconds = 0.001
        self._stopping = False
        self._failure: CodedError | None = None
        self._begun = time.time()

    def run(self) -> None:
        """Serve. Raises BrokerRunning, BrokerMisconfigured, and KeyExtractable or KeyDamaged when strict."""
        with only_broker(self._settings), self._signals(), self._listening() as listener:
            for _ in range(self._settings.broker_workers):
                self._start_worker()
            log.info("hsm_broker_started", socket=str(self._path), workers=self._settings.broker_workers)
            while not self._stopping:
                self._turn()
            self._forget(listener.fileno())
            self._path.unlink(missing_ok=True)
            listener.close()  # from here on, a client is told at once that nobody is there
            self._finish()
        log.info("hsm_broker_stopped")
        if self._failure is not None:
            raise self._failure

    # The loop --------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(TICK_SECONDS):
            if descriptor in self._ready:
                self._ready[descriptor](events)
        if self._now() >= self._next_look:
            self._next_look = self._now() + TICK_SECONDS
            self._watch()
        self._open_next()
        self._dispatch()

    def _finish(self) -> None:
        """Let what is under way end, refuse the rest, send the workers home."""
        self._drain(_STOPPING)
        until = self._now() + min(STOP_SECONDS, self._settings.broker_deadline + 1)
        while self._now() < until and any(worker.job for worker in self._workers):
            for descriptor, events in self._epoll.poll(TICK_SECONDS):
                if descriptor in self._ready:
                    self._ready[descriptor](events)
            self._drain(_STOPPING)
        for peer in list(self._peers.values()):
            self._drop(peer)
        for worker in self._workers:
            worker.connection.close()
        self._reap_all()

    def _reap_all(self) -> None:
        until = self._now() + STOP_SECONDS
        left = [*self._ending, *(worker.process for worker in self._workers)]
        while left and self._now() < until:
            left = [process for process in left if os.waitpid(process, os.WNOHANG) == (0, 0)]
            time.sleep(0.01)
        for process in left:
            os.kill(process, signal.SIGKILL)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stopping = True

        before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
        # Whoever started this process may have told it not to care for its children; their numbers matter here.
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        listener = listening_socket(self._path, self._settings.broker_group)
        self._watch_for(listener.fileno(), lambda events: self._accept(listener))
        try:
            yield listener
        finally:
            self._path.unlink(missing_ok=True)
            listener.close()

    def _watch_for(self, descriptor: int, ready: Callable[[int], None]) -> None:
        self._ready[descriptor] = ready
        self._epoll.register(descriptor, select.EPOLLIN)

    def _forget(self, descriptor: int) -> None:
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    # Clients ---------------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            self._welcome(connection, peer_user(connection))

    def _welcome(self, connection: socket.socket, user: int) -> None:
        try:
            room, most = self._admission.room(user), MAX_CONNECTIONS_OF_A_USER
        except KeyNotAllowed:
            # It hears so in answer to what it asks, and the log says what that was.
            room, most = "stranger", MAX_CONNECTIONS_OF_A_STRANGER
        same = sum(peer.user == user for peer in self._peers.values())
        if len(self._peers) >= MAX_CONNECTIONS or same >= most:
            log.warning("hsm_connection_refused", user=user, connections=same)
            connection.close()
            return
        peer = _Peer(connection, user, room)
        self._peers[connection.fileno()] = peer
        self._watch_for(connection.fileno(), lambda events: self._from_peer(peer, events))

    def _from_peer(self, peer: _Peer, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send_rest(peer)
            return
        try:
            received = peer.connection.recv(wire.RECEIVE_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received or peer.job is not None:
            self._drop(peer)  # it left, or it speaks before it was answered
            return
        peer.inbox += received
        try:
            self._take_request(peer)
        except (WireError, ValueError) as error:
            log.warning("hsm_connection_cut", user=peer.user, room=peer.room, reason=type(error).__name__)
            self._drop(peer)

    def _take_request(self, peer: _Peer) -> None:
        inbox = peer.inbox
        if len(inbox) < HEADER.size:
            return
        wanted = HEADER.size + wire.body_length(inbox, wire.MAX_REQUEST_OCTETS)
        if len(inbox) < wanted:
            return
        if len(inbox) > wanted:
            raise WireError("more than one request")
        peer.inbox = bytearray()
        job = _job(peer, inbox)
        job.arrived = self._now()
        peer.job = job
        try:
            self._admit(job)
        except CodedError as error:
            self._refuse(job, error)

    def _admit(self, job: _Job) -> None:
        """Answer, queue or refuse a request. Raises the refusal."""
        peer = job.peer
        try:
            self._admission.check(peer.user, job.operation, job.labels)
        except KeyNotAllowed:
            log.warning(
                "hsm_key_not_allowed",
                user=peer.user, room=peer.room, operation=job.what, labels=list(job.labels),
            )  # fmt: skip
            raise
        if job.operation is Operation.METRICS:
            self._answer(job, (json.dumps(self.metrics()).encode(),))
        elif job.operation is Operation.QUARANTINE:
            self._put_in_quarantine(job.labels[0], job.peer)
            self._answer(job, ())
        else:
            self._enqueue(job)

    def _enqueue(self, job: _Job) -> None:
        refusal = self._refusal(job)
        if refusal is not None:
            self._refuse(job, refusal)
            return
        job.deadline = job.arrived + self._settings.broker_deadline
        self._queue.append(job)
        self._counters.queue_peak = max(self._counters.queue_peak, len(self._queue))

    def _refusal(self, job: _Job) -> CodedError | None:
        """Why this request need not wait: it would not be carried out, or not in time."""
        if self._stopping:
            return _STOPPING
        if self._latch is not None:
            return self._latch
        if self._outage is not None and not self._starting:
            return self._outage
        if job.signing in self._quarantine:
            return SignatureMismatch(f"the key {job.signing!r} is in quarantine: a signature of it failed its check")
        expected = self._typical_seconds * len(self._queue) / max(1, sum(worker.opened for worker in self._workers))
        if len(self._queue) >= self._settings.broker_queue or expected > self._settings.broker_deadline:
            return HsmBusy(f"{len(self._queue)} requests are waiting for the token")
        return None

    def _refuse(self, job: _Job, error: CodedError) -> None:
        self._counters.request(job.peer.room, job.what, error.code, None)
        self._reply(job, wire.frame(Outcome.FAILED, _number(job.octets), wire.error_fields(error)))

    def _answer(self, job: _Job, fields: tuple[bytes, ...]) -> None:
        self._counters.request(job.peer.room, job.what, DONE, None)
        self._reply(job, wire.frame(Outcome.DONE, _number(job.octets), fields))

    def _reply(self, job: _Job, octets: bytes) -> None:
        peer = job.peer
        peer.job = None
        if peer.gone:
            return
        try:
            sent = peer.connection.send(octets)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(peer)
            return
        if sent < len(octets):
            peer.outbox = octets[sent:]
            self._epoll.modify(peer.connection.fileno(), select.EPOLLOUT)

    def _send_rest(self, peer: _Peer) -> None:
        try:
            sent = peer.connection.send(peer.outbox)
        except BlockingIOError:
            return
        except OSError:
            self._drop(peer)
            return
        peer.outbox = peer.outbox[sent:]
        if not peer.outbox:
            self._epoll.modify(peer.connection.fileno(), select.EPOLLIN)

    def _drop(self, peer: _Peer) -> None:
        if peer.gone:
            return
        peer.gone = True
        self._peers.pop(peer.connection.fileno(), None)
        self._forget(peer.connection.fileno())
        peer.connection.close()

    # Work ------------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if not self._queue:
            return
        idle = [worker for worker in self._workers if worker.state is _State.IDLE]
        while idle and self._queue:
            job = self._queue.popleft()
            if not job.peer.gone:
                self._hand_over(job, idle.pop())

    def _hand_over(self, job: _Job, worker: _Worker) -> None:
        now = self._now()
        # However long it has waited: a call that just began is not yet one that hangs.
        least = self._settings.broker_deadline * LEAST_SHARE
        job.started = now
        worker.deadline = now + LONG_SECONDS if RULES[job.operation].long else max(job.deadline, now + least)
        worker.job, worker.state = job, _State.BUSY
        with contextlib.suppress(OSError):  # its end is noticed in a moment, and the request is answered then
            worker.connection.sendall(job.octets)

    def _from_worker(self, worker: _Worker, events: int) -> None:
        try:
            received = worker.connection.recv(wire.RECEIVE_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._replace(worker, "crash")
            return
        worker.inbox += received
        if len(worker.inbox) < HEADER.size:
            return
        if len(worker.inbox) < HEADER.size + wire.body_length(worker.inbox, wire.MAX_REPLY_OCTETS):
            return
        octets, worker.inbox = bytes(worker.inbox), bytearray()
        if worker.state is _State.OPENING:
            self._opened(worker, octets)
        elif worker.job is not None:
            self._worked(worker, worker.job, octets)

    def _worked(self, worker: _Worker, job: _Job, octets: bytes) -> None:
        """A worker answered: pass it on, and act on what it says about the token."""
        _, _, kind, condition, _ = HEADER.unpack_from(octets)
        worker.job, worker.state = None, _State.CLOSED if worker.stale else _State.IDLE
        worker.stale = False
        seconds = self._now() - job.started
        outcome = DONE if kind == Outcome.DONE else wire.fields_of(octets, HEADER.size, 1)[0].decode()
        self._counters.request(job.peer.room, job.what, outcome, seconds)
        if not RULES[job.operation].long:
            self._typical_seconds += (seconds - self._typical_seconds) / 16
        if job.operation is Operation.KEYS and kind == Outcome.DONE:
            octets = self._only_own(job, octets)
        if outcome == SignatureMismatch.code:
            self._put_in_quarantine(job.signing, job.peer)
        self._reply(job, octets)
        if job.operation is Operation.DESTROY:
            self._reopen_others(worker)
        self._act_on(condition, worker, octets)

    def _only_own(self, job: _Job, octets: bytes) -> bytes:
        keys = wire.listing_of(wire.parsed(octets).fields[0])
        own = self._admission.listed(job.peer.user, [key.label for key in keys])
        listing = wire.listing_field([key for key in keys if key.label in own])
        return wire.frame(Outcome.DONE, _number(octets), (listing,))

    def _act_on(self, condition: int, worker: _Worker, octets: bytes) -> None:
        """The table of errors: what each condition asks for."""
        if condition == Condition.WRONG_PIN:
            self._latch_on(worker)
        elif condition == Condition.DEVICE_TROUBLE:
            self._open_breaker(wire.error_of(wire.parsed(octets).fields))
        elif condition in (Condition.HANDLE_LOST, Condition.MODULE_LOST):
            self._replace(worker, "state_lost")  # it has tried to open the token again, in vain

    def _put_in_quarantine(self, name: str, peer: _Peer) -> None:
        if name not in self._quarantine:
            self._quarantine.add(name)
            log.error("hsm_key_quarantined", label=name, user=peer.user, room=peer.room)

    def _drain(self, error: CodedError) -> None:
        while self._queue:
            job = self._queue.popleft()
            if not job.peer.gone:
                self._refuse(job, error)

    # The workers' lives ----------------------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                _keep_only(theirs.fileno())
                be_worker(self._settings, theirs, supervisor)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(process, ours)
        self._workers.append(worker)
        self._watch_for(ours.fileno(), lambda events: self._from_worker(worker, events))

    def _replace(self, worker: _Worker, reason: str) -> None:
        """End a worker for good and start another; the client of its request hears that it was lost."""
        self._workers.remove(worker)
        self._forget(worker.connection.fileno())
        worker.connection.close()
        os.kill(worker.process, signal.SIGKILL)  # not waited for yet, so the number is still this process's
        self._ending.append(worker.process)
        self._counters.restart(reason)
        log.error("hsm_worker_replaced", process=worker.process, reason=reason)
        if worker.job is not None:
            self._counters.request(worker.job.peer.room, worker.job.what, reason, None)
            lost = HsmUnavailable("the token's process was lost during this request", reason=reason)
            self._reply(worker.job, wire.frame(Outcome.FAILED, _number(worker.job.octets), wire.error_fields(lost)))
        if worker.state is _State.OPENING:
            # One lost process says little about the token: requests wait for the next.
            self._lost_while_opening += 1
            lost = HsmUnavailable("the token could not be opened", reason=reason)
            self._not_opened(lost, tell=self._lost_while_opening > 1)
        self._start_worker()

    def _watch(self) -> None:
        """End what hangs, refuse what has waited too long."""
        now = self._now()
        # A process that hangs in a driver may take its time to die; nobody waits for it.
        self._ending = [process for process in self._ending if os.waitpid(process, os.WNOHANG) == (0, 0)]
        for worker in list(self._workers):
            if worker.state in (_State.BUSY, _State.OPENING) and now > worker.deadline:
                self._replace(worker, "hang")
        while self._queue and now > self._queue[0].deadline:
            job = self._queue.popleft()
            if not job.peer.gone:
                self._refuse(job, self._outage or HsmBusy("the token was busy for too long"))

    def _open_next(self) -> None:
        """Let the next worker open the token, if it is time: one at a time, so that a wrong PIN is tried once."""
        if self._latch is not None or self._now() < self._open_at:
            return
        closed = [worker for worker in self._workers if worker.state is _State.CLOSED]
        if not closed or any(worker.state is _State.OPENING for worker in self._workers):
            return
        worker = closed[0]
        worker.state = _State.OPENING
        worker.deadline = self._now() + (CHECK_SECONDS if self._unchecked else OPEN_SECONDS)
        with contextlib.suppress(OSError):
            worker.connection.sendall(wire.frame(Operation.OPEN, 0, (b"check",) if self._unchecked else ()))

    def _opened(self, worker: _Worker, octets: bytes) -> None:
        reply = wire.parsed(octets)
        if reply.kind == Outcome.DONE:
            worker.state, worker.stale = _State.IDLE, False
            self._pause, self._lost_while_opening = FIRST_PAUSE_SECONDS, 0
            self._unchecked = self._starting = False
            if self._outage is not None:
                self._outage = None
                log.info("hsm_token_open", process=worker.process)
            return
        worker.state = _State.CLOSED
        error = wire.error_of(reply.fields)
        if reply.condition == Condition.WRONG_PIN:
            self._latch_on(worker)
        elif isinstance(error, KeyExtractable | KeyDamaged):
            self._failure, self._stopping = error, True
        else:
            self._not_opened(error)

    def _not_opened(self, error: CodedError, *, tell: bool = True) -> None:
        """The token did not open: pause before the next try; with no worker left that has it open, an outage."""
        self._open_at = self._now() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        if tell and not any(worker.opened for worker in self._workers):
            self._open_breaker(error)

    def _open_breaker(self, error: CodedError) -> None:
        """Refuse at once from now on; every worker opens the token anew, the first of them as a probe."""
        if self._outage is None or self._starting:
            log.error("hsm_breaker_open", code=error.code, reason=str(error.facts.get("reason", "")))
            self._counters.breaker_openings += 1
        self._outage, self._starting = error, False
        self._open_at = max(self._open_at, self._now() + self._pause)
        for worker in self._workers:
            worker.stale = worker.stale or worker.state is _State.BUSY
            if worker.state is _State.IDLE:
                worker.state = _State.CLOSED
        self._drain(error)

    def _latch_on(self, worker: _Worker) -> None:
        if self._latch is None:
            self._latch = PinIncorrect("the token refused the PIN; correct the PIN file and restart the broker")
            log.error("hsm_pin_latched", process=worker.process)
        self._drain(self._latch)

    def _reopen_others(self, worker: _Worker) -> None:
        """The other workers may hold handles of what one of them has destroyed."""
        for other in self._workers:
            if other is not worker and other.state is _State.IDLE:
                other.state = _State.CLOSED
            elif other is not worker and other.state is _State.BUSY:
                other.stale = True

    # Telling ---------------------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, Any]:
        """The broker's state and counters, as docs/custody.md lists them."""
        return {
            "version": wire.VERSION,
            "process": os.getpid(),
            "up_seconds": round(time.time() - self._begun, 3),
            "state": self._state(),
            "workers": [{"process": worker.process, "state": worker.state.value} for worker in self._workers],
            "queue": len(self._queue),
            "connections": len(self._peers),
            "quarantined": sorted(self._quarantine),
            **self._counters.told(),
        }

    def _state(self) -> str:
        if self._latch is not None:
            return "latched"
        if self._outage is not None:
            return "starting" if self._starting else "down"
        return "up"


def _job(peer: _Peer, octets: bytearray) -> _Job:
    """The request in these octets. Raises WireError, or ValueError for what is no operation of a client."""
    operation = Operation(HEADER.unpack_from(octets)[2])
    rule = RULES.get(operation)
    if rule is None:
        raise WireError("no operation of a client")
    if operation is Operation.SIGN_WRAPPED:
        wrapped = wire.wrapped_of(wire.fields_of(octets, HEADER.size)[: wire.WRAPPED_FIELDS])
        return _Job(peer, operation, octets, (wrapped.wrapping_key,), wrapped_name(wrapped))
    fields = wire.fields_of(octets, HEADER.size, rule.labels) if rule.labels else ()
    if len(fields) < rule.labels:
        raise WireError("a label is missing")
    labels = tuple(field.decode() for field in fields)
    return _Job(peer, operation, octets, labels, labels[0] if operation is Operation.SIGN else "")


def _number(octets: bytes | bytearray) -> int:
    number: int = HEADER.unpack_from(octets)[4]
    return number


def _keep_only(descriptor: int) -> None:
    """Close everything this process inherited, except its standard streams and one socket."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
