"""What we sign the implementation of another language takes, and takes nothing else."""

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from turnmill.new_ids import new_id
from turnmill.store.hook_records import ToSend
from turnmill_worker.webhooks.signing import signed

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

PACKAGE = "standardwebhooks@1"
VERIFY = """
const { Webhook } = require("standardwebhooks");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const told = cases.map(({ secret, body, headers }) => {
  try { return new Webhook(secret).verify(body, headers).type; }
  catch (error) { return "refused"; }
});
console.log(JSON.stringify(told));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder with the package, and a node to run it with."""
    folder = tmp_path_factory.mktemp("npm")
    node = npm.install(PACKAGE, folder)
    (folder / "verify.js").write_text(VERIFY)
    return folder, node


def case(*secrets: str, verify: str | None = None, now: datetime | None = None) -> dict[str, Any]:
    one = ToSend(
        id=new_id(),
        fence=1,
        tries=1,
        webhook_id=new_id(),
        url="https://a.example/",
        secrets=secrets,
        include_content=True,
        kind="turn.succeeded",
        type="turn.settled",
        session_id=new_id(),
        turn_id=new_id(),
        n=1,
        at=datetime.now(UTC),
        budget_id=None,
        share=None,
    )
    made = signed(one, {"text": "Grüße, 世界 🙂 \\u2028 </script>", "cut": False}, now=now)
    return {
        "secret": verify or secrets[0],
        "body": made.body.decode(),
        "headers": dict(made.headers),
    }


def test_another_language_verifies_what_we_sign_and_refuses_all_else(
    node: tuple[Path, str],
) -> None:
    folder, binary = node
    one, two = "whsec_" + "QUJD" * 11, "whsec_" + "REVG" * 8
    changed = case(one)
    changed["body"] = changed["body"].replace("turn.settled", "turn.deleted")
    renamed = case(one)
    renamed["headers"]["webhook-id"] = "msg_other"
    old = case(one, now=datetime.now(UTC) - timedelta(minutes=6))
    cases = [
        case(one),
        case(two),
        case(one, two, verify=one),
        case(one, two, verify=two),
        case(one, verify=two),
        changed,
        renamed,
        old,
    ]
    done = subprocess.run(
        [binary, "verify.js"],
        cwd=folder,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == ["turn.settled"] * 4 + ["refused"] * 4
    shutil.rmtree(folder / "node_modules")
