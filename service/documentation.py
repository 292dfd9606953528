"""/docs: Swagger UI from files that are here, since nothing is loaded from elsewhere."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>hitparade: HTTP</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
START = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#swagger-ui', deepLinking: true, tryItOutEnabled: true});\n"
FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles on its elements."""


def routes() -> APIRouter:
    """GET /docs and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> Any:
        return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})

    @router.get("/docs/start.js")
    async def start() -> Any:
        return Response(START, media_type="text/javascript")

    for name, media_type in FILES.items():
        content = files("fastapi_offline").joinpath("static", name).read_bytes()
        router.add_api_route(f"/docs/{name}", _file(content, media_type))
    return router


def _file(content: bytes, media_type: str) -> Any:
    async def answer() -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "max-age=86400"})

    return answer
