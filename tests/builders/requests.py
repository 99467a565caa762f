"""Requests to the page."""

from __future__ import annotations

import cv2

HOME = "http://127.0.0.1"


def png(rgb):
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def sent(*contents, names=None):
    """Files of a request."""
    names = names or [f"{at}.png" for at in range(len(contents))]
    return [("files", (name, content, "image/png")) for name, content in zip(names, contents, strict=True)]
