import asyncio


async def test_journey(serve, make_person):
    p = await make_person()
    async with serve(executor="local") as (app, c):
        c.headers.update(p.headers)
        r = await c.post(
            "/api/jobs", json={"script": "echo hello; echo err >&2; sleep 0.2; exit 3"}
        )
        print(r.status_code, r.text)
        assert r.status_code == 201
        loc = r.headers["location"]
        for _ in range(50):
            r = await c.get(loc + "?wait=2")
            d = r.json()
            if d["status"] in ("completed", "failed"):
                break
        print(r.text)
        r = await c.get(loc + "/logs")
        print(r.text, r.headers)
        r = await c.get(loc + "/events")
        print(r.text)
        r = await c.get("/api/jobs")
        print(r.text)
        r = await c.get("/api/queue")
        print(r.text)
        r = await c.get("/metrics")
        assert d["status"] == "failed"
