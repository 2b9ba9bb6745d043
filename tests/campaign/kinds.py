"""All injections: a module for each room of faults."""

import faults_around  # noqa: F401
import faults_engine  # noqa: F401
import faults_files  # noqa: F401
import faults_machine  # noqa: F401
import faults_ray  # noqa: F401
import faults_real  # noqa: F401
import faults_runs  # noqa: F401
from frame import INJECTIONS, Injection


def all() -> list[Injection]:
    return INJECTIONS
