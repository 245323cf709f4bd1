"""How many requests somebody is waiting for, for work that comes after them."""

import asyncio
from contextlib import suppress


class Traffic:
    """POSTs that are not answered to their end yet."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def enter(self) -> None:
        """One more."""
        self._in_flight += 1
        self._none.clear()

    def leave(self) -> None:
        """One less."""
        self._in_flight -= 1
        if not self._in_flight:
            self._none.set()

    async def quiet(self, patience_s: float) -> None:
        """Returns once there is none, or after `patience_s`: there may never be none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._none.wait()
