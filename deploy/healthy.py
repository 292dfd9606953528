"""The health check of a container: 0 while /readyz of the process beside it says 200, else 1 and the reason.

Alone on the standard library, since it runs every few seconds; the image has no curl.
"""

import json
import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0


def main() -> int:
    """Ask the port that is given, or the one on which consumers have their probes."""
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ["HITPARADE_METRICS_PORT"])
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.status, reason(answer.read()))
        return 0 if answer.status == 200 else 1
    except (OSError, HTTPException) as cause:
        print(f"nobody answers on port {port}: {cause}")
        return 1
    finally:
        connection.close()


def reason(body: bytes) -> str:
    """What the answer says of itself; of another answer its beginning."""
    try:
        found = json.loads(body)
        return str(found.get("reason") or ("ready" if found.get("ready") else found))[:500]
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
