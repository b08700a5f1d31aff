"""Learn from rollouts: networks, objective, learners. An algorithm of your own needs only what is re-exported here."""

from ppolab.learning.interface import LearnerContext
from ppolab.learning.learner import Learner
from ppolab.learning.objective import Samples, Surrogate

__all__ = ["Learner", "LearnerContext", "Samples", "Surrogate"]
