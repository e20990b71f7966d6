"""How the processes of one server live and die together."""

import ctypes
import os
import signal
import sys
from collections.abc import MutableMapping

LAUNCHER_PID = "TGI_LAUNCHER_PID"
"""Set by the launcher for its children. Who starts one by hand does not set it, and it outlives its shell."""

_PR_SET_PDEATHSIG = 1


def die_with_parent(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the kernel kill this process when the launcher that started it is gone, however that ended.

    Called first thing by a child. The variable is taken out of the environment: it is not meant for processes
    that this one starts. Only Linux offers this; elsewhere the launcher's own clean-up must do.
    """
    launcher = environment.pop(LAUNCHER_PID, "")
    if not launcher or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The launcher may have died before the call above: then nobody will send the signal.
    if os.getppid() != int(launcher):
        os.kill(os.getpid(), signal.SIGKILL)
