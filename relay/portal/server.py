"""How uvicorn runs the portal: no access log (paths hold tokens), no version in answers, bounded everything."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from relay.portal.door import Bounds, Door, PortalProtocol
from relay.settings.endpoint import Networks

BOUNDS = Bounds()


def server_config(app: FastAPI, exempt: Networks, bounds: Bounds = BOUNDS) -> uvicorn.Config:
    """Configuration for `uvicorn.Server(...).serve(sockets=[...])`; the supervisor opens the sockets.

    `exempt`: networks whose clients may hold any number of connections, for proxies stand there. Forwarded headers are
    read by relay.portal.clients, which believes only this machine, so uvicorn's own are off. Connections are bounded by
    relay.portal.door and requests at work by relay.portal.guard: uvicorn's limit_concurrency counts the silent ones too,
    and would turn away everybody as soon as enough of these stand there.
    """

    class Connection(PortalProtocol):
        door = Door(bounds, exempt)

    return uvicorn.Config(
        app,
        http=Connection,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=True,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32_768,
    )
