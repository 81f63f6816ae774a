"""How uvicorn runs the portal: no access log (paths hold tokens), no version in answers, bounded everything."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI


def server_config(app: FastAPI) -> uvicorn.Config:
    """Configuration for `uvicorn.Server(...).serve(sockets=[...])`; the supervisor opens the sockets.

    Forwarded headers are read by relay.portal.clients, which believes only this machine, so uvicorn's own are off.
    """
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=True,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=500,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32_768,
    )
