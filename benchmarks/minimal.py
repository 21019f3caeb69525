"""The peer for submits: the least FastAPI program that checks a JWT and inserts the same row."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException
from jose import JWTError, jwt
from pydantic import BaseModel

KEY = os.environ.get("BENCH_KEY", "")
INSERT = """
INSERT INTO jobs (user_id, group_id, name, tags, script, cpu_cores, memory_mb, gpu_count,
                  time_limit, queue, base_priority, max_retries, estimated_cost)
VALUES ($1, 1, $2, '{}', $3, 1, 102, 0, 36, 'express', 1, 1, 0) RETURNING id
"""


class Submission(BaseModel):
    script: str
    name: str = ""
    estimated_hours: float = 1.0
    memory_gb: float = 4.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_DATABASE"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


async def user(authorization: Annotated[str, Header()]) -> int:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), KEY, algorithms=["HS256"])
    except JWTError:
        raise HTTPException(401) from None
    return int(claims["sub"])


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.post("/jobs", status_code=201)
async def submit(body: Submission, user_id: Annotated[int, Depends(user)]) -> dict[str, int]:
    return {"id": await app.state.pool.fetchval(INSERT, user_id, body.name, body.script)}
