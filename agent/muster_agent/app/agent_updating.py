"""The update of the agent itself, with what the supervisor and the service have for it."""

import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from muster_agent.app.ports import SupervisorPorts, SupervisorSettings
from muster_agent.base.clock import stamp
from muster_agent.base.system_error import as_refusal
from muster_agent.selfupdate import installing
from muster_agent.selfupdate.installing import UpdateRefused
from muster_agent.selfupdate.wanted import (
    AgentInstalled,
    AgentPorts,
    AgentUpdate,
    Fetches,
    Surroundings,
)
from muster_agent.trust.store import TrustStore
from muster_agent.trust.trusted import TrustRefused
from muster_agent.update.permit import SwapConditions
from muster_agent.update.runner import SlotRunner
from muster_protocol.wire import agent_release
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import MusterError, Refusal


def agent_update(
    settings: SupervisorSettings,
    ports: SupervisorPorts,
    delivery: Fetches,
    runners: Mapping[str, SlotRunner],
    connected: Callable[[], bool],
    changed: Callable[[], None],
) -> AgentUpdate:
    """``changed`` is called when the device's report may say something else now."""
    around = Surroundings(
        delivery=delivery,
        install=ports.install,
        in_the_way=lambda: in_the_way(ports.inputs, runners),
        connected=connected,
        stamp=lambda: stamp(ports.clock),
        report=ports.outbox.put_event,
        changed=changed,
        rng=ports.rng,
        retry_seconds=settings.retry_seconds,
    )
    return AgentUpdate(ports.agent, around)


def in_the_way(inputs: SwapConditions, slots: Mapping[str, object]) -> str:
    """Why the agent must not restart now: every slot pauses while it does. Empty: it may."""
    for slot in (agent_release.NAME, *slots):
        if reason := inputs.hold(slot) or inputs.interlock(slot):
            return reason
    return ""


def own_ports(
    directory: Path,
    version: str,
    trust: TrustStore,
    done: Callable[[AgentInstalled], None],
    free_bytes_min: int,
) -> AgentPorts:
    """Of an agent that a launcher has started. ``done`` is called on a thread of its own."""

    def install(goal: Goal, file: Path) -> None:
        def work() -> None:
            done(AgentInstalled(goal.manifest, _installed(goal, file)))

        threading.Thread(target=work, name="agent-install", daemon=True).start()

    def _installed(goal: Goal, file: Path) -> tuple[Refusal, str] | None:
        try:
            with file.open("rb") as opened:
                installing.install(
                    opened,
                    directory,
                    trust.verify_release,
                    online=True,
                    retry=True,
                    free_bytes_min=free_bytes_min,
                    version=goal.version,
                    may_go_back=True,
                )
        except TrustRefused as refused:
            return refused.refusal, str(refused)
        except UpdateRefused as refused:
            return Refusal.AGENT_UNINSTALLABLE, str(refused)
        except MusterError as error:
            return Refusal.MALFORMED, str(error)
        except OSError as error:
            return as_refusal(error, Refusal.AGENT_UNINSTALLABLE)
        return None

    return AgentPorts(directory, version, install, lambda: signal.raise_signal(signal.SIGTERM))
