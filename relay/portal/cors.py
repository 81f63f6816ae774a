"""Which web sites may speak to a form by script (CORS, Fetch standard): those that the tenant has named, and no other.

A site that is not named gets the same answers without the header that would let its script read them, and no preflight passes,
so that it cannot send JSON at all. There are no cookies here, so nothing is ever allowed with credentials.
"""

from __future__ import annotations

from fastapi import Request, Response

from relay.mail.face import Face

MAX_AGE_SECONDS = 600


def allow(request: Request, face: Face, response: Response) -> Response:
    """The response, readable for the script of a site that the tenant has named."""
    response.headers.append("Vary", "Origin")
    origin = request.headers.get("origin", "")
    if origin in face.origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    return response


def preflight(request: Request, face: Face) -> Response:
    """The answer to OPTIONS."""
    response = allow(request, face, Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"}))
    if "access-control-allow-origin" in response.headers:
        response.headers["Access-Control-Allow-Methods"] = "POST"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type"
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
    return response
