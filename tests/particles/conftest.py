"""Commands are run in this process: seconds of imports a call are saved."""

from tests.in_process import cryoetgan

__all__ = ["cryoetgan"]
