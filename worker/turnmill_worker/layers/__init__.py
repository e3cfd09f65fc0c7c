"""What stands around the call to a provider, one small file each; here what others write one with.

`Call` goes in, `go` passes it on, an `Answer` comes back. docs/middleware.md has a whole example.
"""

from turnmill_worker.layers.call import Call as Call
from turnmill_worker.layers.call import Go as Go
from turnmill_worker.layers.call import Layer as Layer
from turnmill_worker.layers.defaults import defaults as defaults
from turnmill_worker.layers.moderation import Moderator as Moderator
from turnmill_worker.layers.moderation import Said as Said
from turnmill_worker.layers.moderation import moderation as moderation
from turnmill_worker.layers.personal_data import Found as Found
from turnmill_worker.layers.personal_data import Redactor as Redactor
from turnmill_worker.providers.boundary import Answer as Answer
from turnmill_worker.providers.port import Done as Done
from turnmill_worker.providers.port import Failed as Failed
from turnmill_worker.providers.port import NotNow as NotNow
from turnmill_worker.providers.port import Request as Request
from turnmill_worker.providers.port import Running as Running
