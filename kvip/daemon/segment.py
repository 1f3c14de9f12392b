"""One NIC's ear and mouth for address conflicts: passes on foreign claims, and asks who has an address.

Input: a listener on the NIC, and questions. Output: foreign claims as they are heard, answers, and whether silence means
anything. It must not know what is held, nor what a claim leads to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from kvip import metrics
from kvip.clock import Clock
from kvip.core.conflict import Claim
from kvip.core.model import Link, Vip
from kvip.core.schedule import TokenBucket
from kvip.errors import AnnounceError
from kvip.kernel.listen import ClaimListener
from kvip.kernel.probe import build_probes

BATCH_FRAMES = 256
SEND_RETRY_S = 0.005
SEND_DEADLINE_S = 1.0
"""How long a NIC may refuse probes before the question is given up."""


class _Question:
    """One probe under way: which VIPs it asks for, and who answered."""

    def __init__(self, vips: Iterable[Vip]) -> None:
        self.vips = dict.fromkeys(vips)
        self.answers: dict[Vip, bytes] = {}
        self.settled = asyncio.Event()

    def note(self, claim: Claim) -> None:
        self.answers.setdefault(claim.vip, claim.mac)
        if len(self.answers) == len(self.vips):
            self.settled.set()

    def open(self) -> list[Vip]:
        return [vip for vip in self.vips if vip not in self.answers]


class Segment:
    """A listener that is heard from now on, with the questions that wait for its answers."""

    def __init__(
        self,
        link: Link,
        *,
        clock: Clock,
        listen: Callable[[Link], ClaimListener],
        own_macs: Callable[[], Collection[bytes]],
        on_foreign: Callable[[Link, list[Claim]], None],
        rate_pps: float,
        burst: int,
    ) -> None:
        """`on_foreign` gets what hosts other than this one said. Raises AnnounceError when the NIC cannot be listened on."""
        self._link = link
        self._clock = clock
        self._own_macs = own_macs
        self._on_foreign = on_foreign
        self._bucket = TokenBucket(rate_pps=rate_pps, burst=burst, now=clock.now())
        self._questions: list[_Question] = []
        self._lost = 0
        self._closed = False
        self._listener = listen(link)
        self._listener.start(self._heard)

    @property
    def busy(self) -> bool:
        """Is a question under way?"""
        return bool(self._questions)

    @property
    def failed(self) -> bool:
        """It hears nothing any more, and has to be opened anew."""
        return self._closed or self._listener.failed

    def close(self) -> None:
        """Stop listening; a question under way fails."""
        if not self._closed:
            self.count_lost()
            self._closed = True
            self._listener.close()

    def count_lost(self) -> int:
        """How many frames did not fit the listener's queue so far; kept in the metric too."""
        lost = 0 if self._closed else self._listener.take_lost()
        if lost:
            metrics.claim_frames_lost_total.inc(lost)
        self._lost += lost
        return self._lost

    async def ask(self, vips: Sequence[Vip], mac: bytes, *, rounds: int, interval_s: float) -> dict[Vip, bytes]:
        """Who has, claims, or at the same time asks for these addresses: VIP -> MAC. `mac` is this NIC's, as it is now.

        Raises AnnounceError when frames were refused or answers lost, so that silence proves nothing.
        """
        lost = self.count_lost()
        question = _Question(vips)
        self._questions.append(question)
        try:
            leave = self._listener.join(vips)
            try:
                await self._rounds(question, mac, rounds=rounds, interval_s=interval_s)
            finally:
                leave()
        except OSError as error:
            raise AnnounceError(self._link.name, f"probes cannot be sent: {error.strerror or error}") from error
        finally:
            self._questions.remove(question)
        if question.open() and (self.failed or self.count_lost() != lost):
            raise AnnounceError(self._link.name, "answers to probes may have been lost; asking again later")
        return question.answers

    async def _rounds(self, question: _Question, mac: bytes, *, rounds: int, interval_s: float) -> None:
        for _ in range(rounds):
            await self._send(question.open(), mac)
            try:
                async with asyncio.timeout(interval_s):
                    await question.settled.wait()
            except TimeoutError:
                continue
            return

    async def _send(self, vips: list[Vip], mac: bytes) -> None:
        """Every probe leaves, or AnnounceError: an address that was not asked for is not silent."""
        for frames, frame_len in build_probes(mac, vips):
            left = memoryview(frames)
            refused_since: float | None = None
            while left:
                now = self._clock.now()
                count = min(BATCH_FRAMES, len(left) // frame_len, self._bucket.burst)
                if self._bucket.available(now) < count:
                    await asyncio.sleep(self._bucket.wait_s(count) + 0.0001)
                    continue
                sent = self._listener.send(left[: count * frame_len], frame_len)
                self._bucket.spend(sent)
                left = left[sent * frame_len :]
                if sent:
                    refused_since = None
                elif refused_since is None:
                    refused_since = now
                elif now - refused_since >= SEND_DEADLINE_S:
                    raise AnnounceError(self._link.name, f"it took no probe for {SEND_DEADLINE_S:g} s; asking again later")
                await asyncio.sleep(0 if sent else SEND_RETRY_S)

    def _heard(self, claims: list[Claim]) -> None:
        own = self._own_macs()
        foreign = [claim for claim in claims if claim.mac not in own]
        for question in self._questions:
            for claim in foreign:
                if claim.vip in question.vips:
                    question.note(claim)
        if foreign:
            self._on_foreign(self._link, foreign)
