"""Everyone that a test about groups needs."""

import httpx
import pytest
from fastapi import FastAPI

from tests.auth.people import World


@pytest.fixture
def world(app: FastAPI, client: httpx.AsyncClient) -> World:
    return World(app, client)
