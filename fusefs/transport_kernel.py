"""A mount's session in the kernel's own protocol, without libfuse.

Invariants
- Every request that wants an answer gets one: an error of the layers below as its errno, an
  unexpected exception as EIO with a logged traceback and a count.
- An answer that comes too late is refused by the kernel (ENOENT). What it would have given is then
  taken back.
- The handler's thread reads the next request only while it is quick; see `crew` and `watch`.
- The number of the descriptor is not used again while a thread that is stuck may still write to it.

Threads: handlers run in the threads of the crew; `stop` and the invalidations may come from any.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from time import monotonic

from fusefs import kernel_mount, wire
from fusefs.crew import Crew, Turn
from fusefs.errno import errno_of
from fusefs.errors import MalformedRequest
from fusefs.filesystem import FileSystem
from fusefs.operations import Operations, Undoable
from fusefs.options import MountOptions
from fusefs.pace import Pace
from fusefs.patience import Patience
from fusefs.transport import WORKER_COUNT, Counters, Paces
from fusefs.watch import Watch
from fusefs.wire import Request
from ipld.block import BytesLike

log = logging.getLogger(__name__)

_UNANSWERED = (wire.FORGET, wire.BATCH_FORGET)


class KernelSession:
    """A `fusefs.transport.Session`; for the invariants see the module."""

    def __init__(self, filesystem: FileSystem) -> None:
        self.counters = Counters()
        self._fs = filesystem
        self.paces = Paces(filesystem)
        self._watch = Watch(self._refuse)
        buffer_size_bytes = wire.REQUEST_SIZE_MAX_BYTES
        self._crew = Crew(
            self._serve_one, count_max=WORKER_COUNT, buffer_size_bytes=buffer_size_bytes
        )
        self._descriptor = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._patience = Patience(self._poll)
        self._point = ""
        self._is_unmounted = False
        self._operations = Operations(filesystem, self.paces, self._watch.interrupt).by_opcode

    # ---------------------------------------------------------------------------- the session

    def mount(self, point: str, options: MountOptions) -> None:
        self._descriptor = kernel_mount.mount(point, options)
        os.set_blocking(self._descriptor, False)
        self._poll.register(self._descriptor, select.POLLIN)
        self._point = point

    def serve(self) -> None:
        self._watch.start()
        try:
            self._crew.run()
        finally:
            self._watch.stop()

    def stop(self) -> None:
        os.eventfd_write(self._wake, 1)

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        os.write(self._descriptor, wire.inval_entry(parent, name))

    def invalidate_inode(self, inode: int, *, attributes_only: bool) -> None:
        os.write(self._descriptor, wire.inval_inode(inode, attributes_only=attributes_only))

    def close(self, *, unmount: bool) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if self._crew.is_deserted:
            os.close(descriptor)
        else:
            # Whoever is stuck may write his answer to this number yet: it must be no other file's.
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, descriptor, inheritable=False)
            os.close(nothing)
        # Only now: who touches a mount that nobody serves, and that is not closed, waits for ever.
        if unmount and not self._is_unmounted:
            kernel_mount.leave(self._point)

    # ------------------------------------------------------------------------ one request

    def _serve_one(self, turn: Turn) -> bool:
        """Read and handle the next one; False when the mount is over."""
        for descriptor, event in self._patience.events(None, may_ask=self._watch.is_idle):
            if descriptor == self._wake:
                return False
            if event & ~select.POLLIN:
                self._is_unmounted = True
                return False
        try:
            length = os.readv(self._descriptor, [turn.buffer])
        except OSError as error:
            # ENOENT: the caller gave up before the request was read. EAGAIN: somebody else has it.
            self._is_unmounted = error.errno not in (errno.ENOENT, errno.EAGAIN)
            return not self._is_unmounted
        try:
            request = wire.parse(turn.view[:length])
        except MalformedRequest as error:
            self._unexpected("a message of the kernel", error)
            return True
        self._handle(request, turn)
        return True

    def _handle(self, request: Request, turn: Turn) -> None:
        operation = self._operations.get(request.opcode)
        if operation is None:
            # From now on the kernel knows better than to ask, where it can do without.
            self._refuse(request.unique, errno.ENOSYS)
            return
        unique = request.unique
        try:
            pace = operation.pace
            if not isinstance(pace, Pace):
                pace = pace(request)
            goes_aside = pace.goes_to_thread(operation.subject(request))
        except MalformedRequest as error:
            self._refuse(unique, self._unexpected("a message of the kernel", error))
            return
        began_s = monotonic()
        self._watch.begin(unique, turn, began_s, pace.deadline_s, request.pid)
        if goes_aside:
            turn.give_up()
        try:
            answer = operation.handle(request)
        except Exception as error:  # noqa: BLE001  # the edge: every request has its answer
            self._watch.end(unique)
            code = self._errno(pace.name, error)
            if request.opcode not in _UNANSWERED:
                self._refuse(unique, code)
        else:
            self._watch.end(unique)
            if answer is not None:
                self._answer(unique, answer)
        pace.took(monotonic() - began_s)

    def _errno(self, what: str, error: Exception) -> int:
        code = errno_of(error)
        if code is None or isinstance(error, MalformedRequest):
            return self._unexpected(what, error)
        return code

    def _unexpected(self, what: str, error: Exception) -> int:
        self.counters.unexpected_errors += 1
        log.error("%s failed unexpectedly; the caller gets EIO", what, exc_info=error)
        return errno.EIO

    def _answer(self, unique: int, answer: BytesLike | Undoable) -> None:
        data = answer.data if isinstance(answer, Undoable) else answer
        try:
            os.writev(self._descriptor, [wire.answer(unique, len(data)), data])
        except OSError as error:
            if isinstance(answer, Undoable):
                try:
                    answer.undo()
                except Exception as late:  # noqa: BLE001  # nobody is there to be told
                    self._errno("taking back an answer", late)
            self._lost(error)

    def _refuse(self, unique: int, code: int) -> None:
        self.counters.timeouts = self._watch.timeouts
        try:
            os.write(self._descriptor, wire.refusal(unique, code))
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """ENOENT: the answer came too late. ENODEV, EBADF: the mount is over."""
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF):
            self._unexpected("an answer", error)
