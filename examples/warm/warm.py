"""For programs that are templates of containers: where their clones begin, and what each of them needs of its own."""

import os
import random
import signal
import sys


def ready():
    """Stop this process, so that a template can be taken. Returns in each clone, and gives it other seeds.

    Returns the arguments of the clone. Its environment is in os.environ then, with its id as COFFERDAM_CLONE. What no
    program can change is the address layout, and the seed of hashes: set PYTHONHASHSEED=0 in the template if you would
    rather know it.
    """
    os.kill(os.getpid(), signal.SIGSTOP)
    with open("/proc/self/cmdline", "rb") as file:
        arguments = [os.fsdecode(argument) for argument in file.read().split(b"\0")[:-1]]
    with open("/proc/self/environ", "rb") as file:
        pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
    os.environb.clear()
    os.environb.update({name: value for name, _, value in pairs})
    # os.urandom and secrets ask the kernel, and need no seed.
    random.seed()
    if "ssl" in sys.modules:
        # OpenSSL notices a fork by the pid, which is the template's.
        sys.modules["ssl"].RAND_add(os.urandom(48), 48.0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(None)
    return arguments
