"""Flower's configuration file: everything that it shows is behind the login TURNMILL_FLOWER_AUTH.

Flower runs this file (`--conf`). The login comes from the environment, since a command line is
seen by everybody.
"""

import os

from flower.views.monitor import Metrics
from tornado.web import authenticated

Metrics.get = authenticated(Metrics.get)  # of its own accord Flower shows /metrics to everybody
basic_auth = [os.environ["TURNMILL_FLOWER_AUTH"]]
