"""Demo traffic: the unseen rows of a package, posted to a running service, as they are or as a scenario bends them.

Knows the package and the service's HTTP interface, nothing of how the service works.
"""

from service.replay.scenario import Scenario
from service.replay.sending import Outcome, Replay

__all__ = ["Outcome", "Replay", "Scenario"]
