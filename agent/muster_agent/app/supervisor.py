"""The supervisor's decisions: one thread, one inbox, ``handle(event, now)``; no clock, no sleep.

It ties the rooms together: link events go to goals, chunks to delivery, worker events to their
slot, acknowledgements to the outbox. What it acts on is given to it (``Ports``), so that a
simulator can drive it with a link, workers and a clock of its own. ``deadline`` says when ``tick``
is due next.
"""

import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import assert_never

from msgspec import UNSET

from muster_agent.app import reporting
from muster_agent.app.agent_updating import agent_update
from muster_agent.app.feed_watching import served
from muster_agent.app.goals import Goals
from muster_agent.app.operator_requests import OperatorRequests
from muster_agent.app.outages import Outages
from muster_agent.app.ports import Diagnosed, Inbox, Shutdown, SupervisorPorts, SupervisorSettings
from muster_agent.app.sending import Sending
from muster_agent.app.worker_events import WorkerEvents
from muster_agent.base.clock import stamp
from muster_agent.base.news import News
from muster_agent.challenger import challenger
from muster_agent.challenger.challengers import Challengers
from muster_agent.feeds.process import FeedEnded, FeedSaid
from muster_agent.feeds.watch import FeedNews
from muster_agent.fetch.dropping import Dropping
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.fetch.meter import Meter
from muster_agent.link.link import Connected, Disconnected, Message, Subscribed
from muster_agent.observe.signs import moved
from muster_agent.selfupdate.wanted import AgentInstalled
from muster_agent.update.delivery import BundleDelivery
from muster_agent.update.permit import NONCE_BYTES, Policy, SwapPermits
from muster_agent.update.ports import SlotPorts as UpdatePorts
from muster_agent.update.runner import SlotRunner
from muster_agent.update.table import State as Step
from muster_agent.update.workers import SlotWorkers
from muster_agent.worker import events as worker
from muster_protocol.wire import agent_release, messages, topics
from muster_protocol.wire.directive import Directive, Goal
from muster_protocol.wire.errors import MusterError, ProtocolError, Refusal
from muster_protocol.wire.messages import Stamp

log = logging.getLogger(__name__)
SWEEP_SECONDS = 10.0
TROUBLE_SECONDS = 5.0
"""Pause after the disk or the database would not take something."""
_NEVER = float("inf")
_FETCHING = frozenset({Step.FETCHING, Step.VERIFYING})


class Supervisor:
    """Times are monotonic seconds. Call ``start`` once, then ``handle`` and ``tick``."""

    def __init__(self, settings: SupervisorSettings, ports: SupervisorPorts, now: float) -> None:
        self.runners: dict[str, SlotRunner] = {}
        self.stopping = False
        self.trouble = ports.state.trouble
        """Why something could not be written, for status and log; empty when all is well."""
        self._settings = settings
        self._ports = ports
        self._sending = Sending(settings, ports, report=self.report, stamp=self._stamp, now=now)
        self._outages = Outages(ports.clock, ports.show_offline, ports.outbox.put_event)
        self._news = News()
        self._sweep_at = now + SWEEP_SECONDS
        self._quiet_until = now
        self._settled = False
        self.delivery = BundleDelivery(
            settings.device,
            ports.link,
            ports.http,
            ports.install,
            window=settings.fetch_window,
            silence_seconds=settings.chunk_silence_seconds,
            rng=ports.rng,
            outcome=self._fetched,
            healed=self._healed,
            meter=Meter(
                settings.allowance,
                clock=ports.clock,
                zone=settings.time_zone,
                spent=ports.state.fetched,
            ),
            make_room=self._sweep,
        )
        self.goals = Goals(
            settings.device,
            clock=ports.clock,
            link=ports.link,
            state=ports.state,
            trust=ports.trust,
            wait_seconds=settings.metadata_wait_seconds,
            refused=self._message_refused,
            now=now,
        )
        self._asked = OperatorRequests(
            ports,
            self._sending,
            instant=self.goals.instant,
            stamp=self._stamp,
            note=self._note,
        )
        self.permits = SwapPermits(
            clock=ports.clock,
            zone=settings.time_zone,
            inputs=ports.inputs,
            ask=self._sending.ask,
            rng=ports.rng,
            nonce=lambda: ports.rng.randbytes(NONCE_BYTES),
        )
        self.challengers = Challengers(
            challenger.ChallengerPorts(
                delivery=self.delivery,
                install=ports.install,
                launch=ports.challenge,
                verdict=self.goals.verdict,
                changed=self._changed,
                rng=ports.rng,
                retry_seconds=settings.retry_seconds,
                stop_seconds=settings.stop_seconds,
                starts=ports.state,
            )
        )
        self._agent = agent_update(
            settings, ports, self.delivery, self.runners, lambda: self.connected, self._changed
        )
        self._workers = WorkerEvents(
            ports, self.runners, self.challengers, stamp=self._stamp, changed=self._changed
        )
        self._dropping = Dropping(
            ports.directory, ports.install.store, metadata=self._metadata,
            directive=self._directive, refetch=self.delivery.refetch, now=now,
        )  # fmt: skip
        self._update_ports = UpdatePorts(
            database=ports.state,
            delivery=self.delivery,
            install=ports.install,
            links=ports.links,
            permits=self.permits,
            stamp=self._stamp,
            report=lambda event: ports.outbox.put_event(self.goals.traced(event)),
            verdict=self.goals.verdict,
            metadata_wait_seconds=settings.metadata_wait_seconds,
            ask_metadata=self.goals.ask_again,
            metadata_coming=self.goals.coming,
            changed=self._changed,
            settled=self._slot_settled,
            rng=ports.rng,
            retry_seconds=settings.retry_seconds,
            shifted=lambda slot, candidate, champion: moved(
                ports.signs(slot, candidate), ports.signs(slot, champion)
            ),
        )

    def start(self, now: float) -> None:
        """After boot: committed champions serve, journals go on. Needs no link and no time."""
        if self.goals.directive is not None:
            self._guarded(partial(self._obey, self.goals.directive, now))
        pointers, journal = self._ports.state.pointers(), self._ports.state.journal()
        for slot in {**pointers, **journal}:
            runner = self._runner(slot)
            self._guarded(partial(runner.resume, pointers.get(slot), journal.get(slot), now))
        if not self._guarded(partial(self._apply_goals, now)):
            self._settled = True  # They are looked at again once something can be written.
        device = self._settings.device
        self._ports.link.subscribe(topics.down(device, "ack"), topics.down(device, "grant"))

    def handle(self, event: Inbox, now: float) -> None:
        """Take one event and act on it. Never raises for what a disk or a peer does."""
        self._guarded(lambda: self._dispatch(event, now))

    def tick(self, now: float) -> None:
        """Do what has become due."""
        if now < self._quiet_until:
            return
        if not self._guarded(lambda: self._tick(now)):
            self._quiet_until = now + TROUBLE_SECONDS * self._ports.rng.uniform(0.75, 1.25)

    def deadline(self, now: float) -> float:
        """When ``tick`` should be called next."""
        settled = now if self._settled else _NEVER
        soonest = min(
            self._sending.deadline(now),
            self._asked.deadline(now),
            self._sweep_at,
            settled,
            self.goals.deadline(now),
            self.delivery.deadline(),
            self._dropping.deadline() if self._may_change() else _NEVER,
            self.challengers.deadline() if self._may_change() else _NEVER,
            self._agent.deadline() if self._may_change() else _NEVER,
            self._ports.telemetry.deadline(),
            self._ports.feeds.deadline(),
            self._ports.sampling.deadline() if self._may_change() else _NEVER,
            *(runner.deadline() for runner in self.runners.values()),
        )
        return max(soonest, self._quiet_until)

    @property
    def connected(self) -> bool:
        """Whether the link to the broker is up."""
        return self._sending.connected

    @property
    def wants_restart(self) -> bool:
        """Whether the hub has asked that the agent starts anew."""
        return self._asked.restarting.wanted

    @property
    def serving(self) -> bool:
        """Whether a worker answers in each slot that has a committed model."""
        return all(
            runner.pointer is None or runner.workers.serving is not None
            for runner in self.runners.values()
        )

    @property
    def drained(self) -> bool:
        """After ``Stop``: every worker has ended and every row has been folded."""
        workers = all(runner.workers.idle() for runner in self.runners.values())
        idle = self.challengers.idle() and self._ports.feeds.idle()
        return self.stopping and workers and idle

    # Events

    def _dispatch(self, event: Inbox, now: float) -> None:
        match event:
            case Message():
                self._message(event, now)
            case Connected():
                self._link_up(now)
            case Disconnected(reason):
                self._outages.lost(reason, now)
                self._sending.link_down()
                self.delivery.disconnected(now)
                self.goals.disconnected()
            case Subscribed():
                chunks = filter(None, map(topics.parse_chunk, event.topics))
                self.delivery.subscribed(chunks, now)
                self.goals.subscribed(filter(None, map(topics.parse_tuf, event.topics)), now)
            case HttpAnswer():
                self.delivery.answered(event, now)
            case Diagnosed() | AgentInstalled():
                self._ended(event, now)
            case Shutdown():
                self._stop(now)
            case FeedSaid() | FeedEnded():
                self._feed(event, now)
            case (
                worker.Ready()
                | worker.Failed()
                | worker.Heartbeat()
                | worker.Drained()
                | worker.Exited()
            ):
                self._workers.handle(event, now)
            case _:
                assert_never(event)

    def _link_up(self, now: float) -> None:
        self._outages.over(now)
        self._sending.link_up(now)
        self.goals.connected(now)
        self.permits.link_up(now)
        for runner in self.runners.values():
            runner.link_up(now)
        self.delivery.connected(now)
        self._sending.report(now)
        self._sending.send(now)

    def _message(self, event: Message, now: float) -> None:
        try:
            if (digest := topics.parse_chunk(event.topic)) is not None:
                self.delivery.arrived(digest, event.payload, now)
            elif (file := topics.parse_tuf(event.topic)) is not None:
                self._metadata(file, event.payload, now)
            elif event.topic == topics.down(self._settings.device, "directive"):
                self._directive(event.payload, now)
            elif event.topic == topics.down(self._settings.device, "show"):
                self.goals.show(now)
            elif event.topic == topics.down(self._settings.device, "ack"):
                self._ports.outbox.acknowledge(messages.decode(event.payload, messages.Ack))
                self._sending.send(now)
            elif event.topic == topics.down(self._settings.device, "grant"):
                grant = messages.decode(event.payload, messages.Grant)
                self.permits.answered(grant, now)
                if grant.slot in self.runners:
                    self.runners[grant.slot].look(now)
        except ProtocolError as error:
            log.warning("ignored a message on %s: %s", event.topic[:120], error)

    def _feed(self, event: FeedSaid | FeedEnded, now: float) -> None:
        self._say(self._ports.feeds.handle(event, now))

    def _say(self, news: FeedNews | None) -> None:
        if news is not None:
            self._note(news.detail, news.slot)

    def _note(self, detail: str, slot: str = "") -> None:
        self._ports.outbox.put_event(reporting.note(slot, detail, self._stamp()))
        self._changed()

    def _ended(self, done: Diagnosed | AgentInstalled, now: float) -> None:
        if isinstance(done, AgentInstalled):
            self._agent.installed(done, now)
        else:
            self._asked.diagnosed(done, self.goals.directive)
        self._changed()

    # Goals

    def _metadata(self, file: str, data: bytes, now: float) -> None:
        if self._may_change() and self.goals.put_metadata(file, data, now):
            self._goals_changed(now)

    def _directive(self, envelope: bytes, now: float) -> None:
        if self._may_change() and self.goals.put_directive(envelope, now):
            self._goals_changed(now)
        self._changed()

    def _goals_changed(self, now: float) -> None:
        """A directive was adopted, or metadata came that may sign what they did not."""
        self._apply_goals(now)
        for runner in self.runners.values():
            runner.metadata_came(now)
        self.challengers.metadata_came(now)
        self._changed()

    def _apply_goals(self, now: float) -> None:
        """Hand each slot the directive's goal; one that is in hand already stays so."""
        directive = self.goals.directive
        if directive is None or self.stopping or not self._may_change():
            return
        self._obey(directive, now)
        for name, slot in directive.slots.items():
            runner = self._runner(name)
            runner.workers.fallback = slot.fallback
            attempt = slot.attempt if slot.attempt is not UNSET else ""
            runner.want(slot.champion, directive.generation, now, attempt)
        if directive.slots:  # An empty directive changes nothing that runs.
            for name in self.runners.keys() - directive.slots.keys():
                self.runners[name].want(None, directive.generation, now)
            for name, runner in self.runners.items():
                runner.assigned = name in directive.slots
        self.challengers.want(directive, now)
        self._agent.want(directive.agent, directive.generation, now)

    def _obey(self, directive: Directive, now: float) -> None:
        """What a directive says besides goals."""
        self.delivery.sources = directive.sources
        self._ports.telemetry.set_window(directive.window_seconds, now)
        self._ports.crash_inputs.allow(directive.sampling.keep_crash_input)
        self._ports.sampling.obey(directive, now)
        self._asked.obey(directive, now)
        for news in self._ports.feeds.adopt(directive.feed_settings or {}, now):
            self._say(news)
        trusted = self.goals.trusted
        self._ports.contact.follow(directive.contact, trusted.contact if trusted else None)
        for name, slot in directive.slots.items():
            windows = slot.maintenance if slot.maintenance is not UNSET else ()
            self.permits.rule(name, Policy(slot.swap, windows))
            self._ports.judge_drift(name, slot.champion, slot.drift)
            if slot.rebaselines is not UNSET:
                self._ports.rebaseline(name, slot.champion, slot.rebaselines)

    def _may_change(self) -> bool:
        """Nothing new is adopted while nothing can be made durable."""
        return self._ports.state.durable

    # Time

    def _tick(self, now: float) -> None:
        telemetry = self._ports.telemetry
        self.delivery.tick(now)
        for runner in self.runners.values():
            runner.tick(now)
        serving = (runner.workers.serving for runner in self.runners.values())
        telemetry.tick(now, {running.id for running in serving if running is not None})
        if self._may_change():
            self._ports.sampling.tick(now)
            self._dropping.tick(now)
            if not self.stopping:
                self.challengers.tick(self.runners, now)
                self._agent.tick(now)
        if self._may_change() and self.goals.tick(now):
            self._goals_changed(now)
        if self._settled:
            self._settled = False
            self._apply_goals(now)
        if now >= self._sweep_at:
            self._sweep()
        self._ports.feeds.tick(now, served(self.runners))
        self._asked.tick(now)
        self._sending.tick(now)

    def report(self) -> messages.Report:
        """The device as it stands."""
        standing = reporting.stand(self._settings, self._ports, self.goals, self.trouble)
        progress = {slot: self.delivery.progress(slot) for slot in self.runners}
        waiting = {slot: self.delivery.waiting(slot) for slot in self.runners}
        return reporting.build(
            standing,
            self.runners,
            progress,
            waiting,
            self._ports.signs,
            self.challengers.report,
            self._ports.feeds.trouble,
            self._ports.sampling.says,
            feeds=self._asked.feeds(self._ports.clock.monotonic()),
            agent=self._agent.report(),
        )

    def _sweep(self) -> None:
        """Let the store delete what neither journal, pointer nor worker may need."""
        self._sweep_at = _NEVER
        if not self._may_change():
            return
        keep, fetching = self.challengers.needs()
        keep, fetching = keep | self._agent.needs(), fetching | self._agent.needs()
        for runner in self.runners.values():
            keep |= runner.needs()
            if runner.state in _FETCHING and runner.row.goal is not None:
                fetching.add(runner.row.goal.manifest)
        self._ports.install.store.sweep(keep, fetching)

    # Called by the rooms

    def _fetched(self, slot: str, refusal: tuple[Refusal, str] | None, now: float) -> None:
        if slot == agent_release.NAME:
            self._agent.fetched(refusal, now)
            return
        if self.challengers.fetched(slot, refusal, now):
            return
        runner = self.runners[slot]
        if refusal is None:
            runner.fetched(now)
        else:
            runner.fault(*refusal, now)

    def _healed(self, slot: str, goal: Goal, count: int) -> None:
        self._ports.outbox.put_event(reporting.healed(slot, goal, count, self._stamp()))

    def _message_refused(self, refusal: Refusal, detail: str, generation: int) -> None:
        log.warning("refused (%s): %s", refusal, detail)
        event = reporting.refused(refusal, detail, generation, self._stamp())
        self._ports.outbox.put_event(event)
        self._changed()

    def _changed(self) -> None:
        now = self._ports.clock.monotonic()
        self._sending.report_soon(now)
        self._sweep_at = min(self._sweep_at, now + SWEEP_SECONDS)

    def _slot_settled(self) -> None:
        self._settled = True

    def _stamp(self) -> Stamp:
        return stamp(self._ports.clock)

    def _stop(self, now: float) -> None:
        self.stopping = True
        self._ports.feeds.stop(now)
        self.challengers.stop()
        for runner in self.runners.values():
            runner.stop()

    def _runner(self, slot: str) -> SlotRunner:
        if slot not in self.runners:
            least, most = self._settings.restart_seconds
            workers = SlotWorkers(
                slot,
                self._ports.launcher,
                restart_seconds_min=least,
                restart_seconds_max=most,
                stop_seconds=self._settings.stop_seconds,
                rng=self._ports.rng,
            )
            self.runners[slot] = SlotRunner(slot, self._update_ports, workers)
        return self.runners[slot]

    def _guarded(self, act: Callable[[], None]) -> bool:
        """True when all of it could be done."""
        try:
            act()
        except (sqlite3.Error, OSError, MusterError) as error:
            # The journal says what was not done; a later tick or the next start does it.
            self.trouble = f"{type(error).__name__}: {error}"
            news = self._news.is_news(self.trouble, self._ports.clock.monotonic())
            level = logging.ERROR if news else logging.DEBUG
            log.log(level, "could not act, tried again later: %s", self.trouble)
            return False
        self.trouble = self._ports.state.trouble
        return True
