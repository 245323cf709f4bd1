"""Parses documents for `documents.py`, in a process that may crash or hang without harm.

Run as a file, so that nothing of ours is imported: `document_child.py MEMORY_BYTES`. On stdin a
request after the other (REQUEST, then the document), on stdout as many replies (REPLY, then UTF-8:
the document as HTML, or why there is none). Ends with its stdin.
"""

import asyncio
import os
import resource
import signal
import struct
import sys

REQUEST = struct.Struct("!dQ")  # seconds it may take, bytes of the document
REPLY = struct.Struct("!?Q")  # whether it was parsed, bytes of what follows
# Past the time its parent waits, the kernel ends a parser that hangs, parent or no parent.
_GRACE_S = 5.0


def main() -> None:
    """Answers until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    # A parser that prints must not speak in our place.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while head := sys.stdin.buffer.read(REQUEST.size):
        limit_s, size = REQUEST.unpack(head)
        signal.setitimer(signal.ITIMER_REAL, limit_s + _GRACE_S)
        is_parsed, text = _parsed(sys.stdin.buffer.read(size))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        payload = text.encode("utf-8", "replace")
        replies.write(REPLY.pack(is_parsed, len(payload)) + payload)
        replies.flush()


def _parsed(content: bytes) -> tuple[bool, str]:
    import xberg

    document = xberg.ExtractInput(kind=xberg.ExtractInputKind.BYTES, bytes=content)
    settings = xberg.ExtractionConfig(use_cache=False, disable_ocr=True, output_format="html")
    try:
        found = asyncio.run(xberg.extract(document, settings))
    except Exception as exc:  # noqa: BLE001 (each of its formats has errors of its own)
        return False, " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
    if found.errors:
        return False, " ".join(str(found.errors[0].message).split())[:300]
    return True, "\n".join(part.content for part in found.results)


if __name__ == "__main__":
    main()
